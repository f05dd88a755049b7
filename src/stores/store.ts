/** What an image or a volume is read from and written to, wherever it is. */

/** How S3 is reached. What is left out is what the AWS SDK finds in the environment and the user's configuration. */
export interface StoreOptions {
  /** Another S3 server: `https://HOST[:PORT]`. Default: `$AWS_ENDPOINT_URL_S3`, else AWS. */
  endpointUrl?: string | undefined;
  /** The bucket in the path of the URL, not in the name of the host. Default: where `endpointUrl` is given. */
  pathStyle?: boolean | undefined;
  /** Default: what the AWS SDK finds; with `endpointUrl` else `us-east-1`. */
  region?: string | undefined;
}

/** Bytes that do not change: an object in one state, or an open file. */
export interface ImageSource {
  /** What messages call it. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Names the state of the contents, in a store that has names for it: another state has another one. */
  readonly state?: string;
  /**
   * Fills `target` with the bytes from `offsetBytes` on; all of them lie within `sizeBytes`.
   * @throws {VolsealError} `ERR_SOURCE_CHANGED`, `ERR_STORE_*`, `ERR_IO`, `ERR_ABORTED`
   */
  readRange(offsetBytes: number, target: Uint8Array, signal?: AbortSignal): Promise<void>;
}

/** A part of what is written, with the checksum that it had when it was made. */
export interface Piece {
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
  /** CRC-32 (ISO 3309) of `bytes`. */
  readonly crc32: number;
}

/** A new object: nobody sees it before `complete`. */
export interface ImageTarget {
  readonly name: string;
  /** Every piece has this length, but for the last one; they come in any order. */
  readonly pieceBytes: number;
  /** @throws {VolsealError} `ERR_STORE_*`, `ERR_ABORTED` */
  write(piece: Piece, signal?: AbortSignal): Promise<void>;
  /** Makes it visible, once all pieces are written. @throws {VolsealError} also `ERR_TARGET_EXISTS` */
  complete(signal?: AbortSignal): Promise<void>;
  /** Gives up what was written and not completed. Never throws. */
  [Symbol.asyncDispose](): Promise<void>;
}
