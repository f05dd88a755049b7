/**
 * Images and volumes that come or go in order, once: through a pipe, a socket, or an open file from where it stands.
 */

/** An image that comes through an open descriptor. It must end after `sizeBytes`. */
export interface SourceStream {
  /** Stays the caller's, and may have been read beyond the image by one byte when something fails. */
  readonly fd: number;
  /** Bytes that the stream has; fewer or more are an error. */
  readonly sizeBytes: number;
  /** What messages call it. */
  readonly name: string;
}

/** An image that a program has as a stream: of Node (`Readable`), of the web, or any iterable of bytes. */
export interface SourceChunks {
  /** Read once, in order, and ended early where the job fails. Chunks are not kept. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /**
   * Bytes that all chunks have together; fewer or more are an error. Left out: as many as come, up to 156 GiB, into an
   * object in S3 only.
   */
  readonly sizeBytes?: number | undefined;
  /** What messages call it. Default: `the stream`. */
  readonly name?: string | undefined;
}

/** Where an image or a volume goes. Nothing can be undone: who reads must wait for the end before believing it. */
export interface TargetStream {
  /** Stays the caller's. */
  readonly fd: number;
  /** What messages call it. */
  readonly name: string;
}
