/** What `decryptImage` takes and gives, for files (decrypt.ts) and for stores (stored-decrypt.ts). */
import { idOf } from '../stores/ebs/location.js';
import type { SnapshotOptions, StoreOptions } from '../stores/store.js';
import type { JobOptions } from '../transfer/transform.js';
import type { OpenOptions } from '../volume/unlock.js';

/** Options of `decryptImage`. */
export interface DecryptOptions extends OpenOptions, JobOptions {
  /** Replaces an existing image once the new one is complete. A block device is overwritten where it is. */
  force?: boolean | undefined;
  /**
   * Default true: what is reported as done is on the disk. Without it, a power cut may leave anything at the image's
   * path.
   */
  fsync?: boolean | undefined;
  /**
   * A run that is interrupted keeps what it has done: in the image's directory, in S3 with a record beside the object
   * (`KEY.volseal-resume`), or in a pending snapshot with a record beside the volume (`.NAME.snapshot-resume`); the
   * same call resumes it. Not for streams and block devices as targets, not for what is in a store into a snapshot, not
   * with `sha256`, not without `fsync`.
   */
  resume?: boolean | undefined;
  /**
   * Called when the target file or object is complete, before it can be seen at its path; what it throws ends the job,
   * and the target is as it was. A device has no such moment.
   */
  beforePublish?: (() => Promise<void>) | undefined;
  /** Called with a warning, one sentence, about something that does not stop the job. */
  onWarning?: ((warning: string) => void) | undefined;
  /**
   * Leaves blocks of zeros in the image as holes. The image file of a sparse volume gets holes in any case. On a block
   * device they are discarded: it reads as zeros there afterwards, and where it cannot discard, zeros are written. In a
   * snapshot they are left out: if that is encrypted, they read as random bytes afterwards.
   */
  sparse?: boolean | undefined;
  /**
   * Only for a block device that reads as zeros from beginning to end: blocks of zeros are neither written nor
   * discarded.
   */
  targetIsZero?: boolean | undefined;
  /** Hashes the image on the way: `sha256` of the result. */
  sha256?: boolean | undefined;
  /**
   * Only into a store: the volume as it is, header and ciphertext. Needs no key; the result is a volume, not its image.
   */
  asIs?: boolean | undefined;
  /** What a new snapshot (`ebs:new`) is given. */
  snapshot?: SnapshotOptions | undefined;
  /** How a store is reached where volume or image is in one (`s3://BUCKET/KEY`, `ebs:snap-...`, `ebs:new`). */
  store?: StoreOptions | undefined;
}

/** What `decryptImage` made. */
export interface DecryptedImage {
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** Absolute path of the image, or the name of the stream, the object or the snapshot (`ebs:snap-...`). */
  path: string;
  /** Of a new snapshot: its id, as other tools of AWS want it. */
  snapshotId?: string;
  /** Length of the image. */
  imageBytes: number;
  /**
   * What the data took, from the first byte read to the last one published: without the program's start and without
   * KMS.
   */
  dataSeconds: number;
  /** SHA-256 of the image in hexadecimal, where it was asked for. */
  sha256?: string;
}

/** How a result names what was made in a store. */
export function madeIn(name: string): { path: string; snapshotId?: string } {
  const snapshotId = idOf(name);
  return snapshotId === undefined ? { path: name } : { path: name, snapshotId };
}
