/** What an image or a volume is read from and written to, wherever it is. */

/** How stores are reached. Left out is what the AWS SDK finds in the environment and the user's configuration. */
export interface StoreOptions {
  /** Another S3 server: `https://HOST[:PORT]`. Default: `$AWS_ENDPOINT_URL_S3`, else AWS. */
  endpointUrl?: string | undefined;
  /** Another server with the EBS direct APIs. Default: `$AWS_ENDPOINT_URL_EBS`, else AWS. */
  ebsEndpointUrl?: string | undefined;
  /** The bucket in the path of the URL, not in the name of the host. Default: where `endpointUrl` is given. */
  pathStyle?: boolean | undefined;
  /** Default: what the AWS SDK finds; with an endpoint else `us-east-1`. */
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
  /** CRC-32 (ISO 3309) of `bytes`, where the target wants that. */
  readonly crc32: number;
  /** SHA-256 of each block, where the target wants that: 32 bytes each; the last block counts as filled with zeros. */
  readonly blockDigests: Uint8Array;
}

/** A source in a store, with the connection that it is read through. */
export interface OpenSource extends ImageSource, Disposable {}

/** What a new snapshot is given. */
export interface SnapshotOptions {
  /** At most 255 characters. */
  description?: string | undefined;
  /** At most 50; keys of up to 128 characters, values of up to 256. */
  tags?: Readonly<Record<string, string>> | undefined;
  /** EBS encrypts the snapshot: under the key with this ARN, or with `true` under the account's default key. */
  encrypted?: boolean | string | undefined;
  /**
   * The id of a snapshot (`snap-...`): only blocks that differ from it are written, and the new snapshot has the others
   * from it. It is encrypted as its parent is.
   */
  parent?: string | undefined;
  /**
   * With `parent`: a file with the parent's image, so that the parent need not be read. Some blocks of it are compared
   * with the parent, and the rest is believed. Default: the parent itself.
   */
  changedAgainst?: string | undefined;
}

/** A new object or snapshot: nobody sees it before `complete`. */
export interface ImageTarget {
  /** What messages call it; of a snapshot that was begun, with its id. */
  readonly name: string;
  /** Which checksums pieces must have. */
  readonly checksum: 'crc32' | 'blocks';
  /** Every piece has this length, but for the last one; they come in any order. */
  readonly pieceBytes: number;
  /** @throws {VolsealError} `ERR_STORE_*`, `ERR_ABORTED` */
  write(piece: Piece, signal?: AbortSignal): Promise<void>;
  /** Makes it visible, once all pieces are written. @throws {VolsealError} also `ERR_TARGET_EXISTS` */
  complete(signal?: AbortSignal): Promise<void>;
  /** Gives up what was written and not completed. Never throws. */
  [Symbol.asyncDispose](): Promise<void>;
}
