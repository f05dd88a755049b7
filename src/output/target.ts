/**
 * What a job writes to: a file that appears at its path when it is complete, or a block device that is written where it
 * is.
 */
import type { Directory } from '../directory-entry.js';
import type { NamedFile } from './named-file.js';
import type { ResolvedTarget, TargetOptions } from './resolve-target.js';

export interface OpenTargetOptions extends TargetOptions {
  /**
   * Whether files and directories are flushed to the disk. Without it a power cut may leave anything at the path, even
   * long after the job ended.
   */
  readonly fsync: boolean;
  /** Writes to a name that a later run finds, and continues what is there. */
  readonly resume?: boolean | undefined;
  /** Called when the new file is complete and on the disk, before it is at its path; what it throws ends the job. */
  readonly beforePublish?: (() => Promise<void>) | undefined;
  /** Called with a warning, one sentence, about something that does not stop the job. */
  readonly onWarning?: ((warning: string) => void) | undefined;
}

export interface TargetFile extends ResolvedTarget {
  /** Of `realPath`, open: what is done beside the target is done in it. */
  readonly directory: Directory;
  /** Open for reading and writing. Empty, unless it is a device or an interrupted run has written to it. */
  readonly file: NamedFile;
  /** The path of what is open: the temporary file's, or the device's own. */
  readonly openPath: string;
  /** Whether `realPath` is the new file: true also where `publish` failed after that. */
  readonly isPublished: boolean;
  /** Whether an interrupted run has written to it already. */
  readonly hasEarlierData: boolean;
  /**
   * Call it before the first byte of a new job is written: empties a file; erases the headers that a device holds.
   * @throws {VolsealError} `ERR_IO`
   */
  begin(): Promise<void>;
  /** Flushes to the disk what was written so far, where `fsync` asks for that. @throws {VolsealError} `ERR_IO` */
  flush(): Promise<void>;
  /** Leaves the file to a later run if this one fails. */
  keepForResume(): void;
  /**
   * Flushes the file, renames it to its path and flushes the directory.
   * @throws {VolsealError} `ERR_TARGET_EXISTS`; `ERR_IO`, with `details.published` where the new file is complete and
   * at its path
   */
  publish(): Promise<void>;
  /**
   * The same, and keeps the replaced file until the result is committed or rolled back: for the first of two files that
   * belong together.
   */
  publishReversibly(): Promise<ReversiblePublication>;
  /** `error` with what has become of the target, where it is not as it was. */
  withContext(error: unknown): unknown;
  /** Closes the file, and removes it unless it was published or is to be resumed. Never throws. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ReversiblePublication {
  /**
   * Removes the replaced file. Never throws: the new files are at their paths, and a file that stays behind does no
   * harm.
   */
  commit(): Promise<void>;
  /** Puts the replaced file back. @throws {VolsealError} `ERR_IO` */
  rollback(): Promise<void>;
}
