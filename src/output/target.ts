/** What is made: a file that comes to its place when it is whole, or a block device that is written where it is. */
import type { FileHandle } from 'node:fs/promises';
import type { Place, TargetWish } from './resolve-target.js';

export interface OpenTargetWish extends TargetWish {
  /** Whether files and folders are flushed to the disk. Without, a power cut may leave anything in the place, however long ago the job ended. */
  readonly fsync: boolean;
  /** Writes to a name that a later run finds, and goes on with what is there. */
  readonly resume?: boolean | undefined;
  /** Told what deserves a look and stops nothing. */
  readonly onWarning?: ((warning: string) => void) | undefined;
}

export interface TargetFile {
  /** As the caller named it. */
  readonly path: string;
  readonly place: Place;
  /** Open for reading and writing. Empty, unless it is a device or another run has begun it. */
  readonly file: FileHandle;
  /** What is open there: the name beside its place, or a device's own. */
  readonly openPath: string;
  /** Whether the place holds the new file: true also where `publish` failed after that. */
  readonly isPublished: boolean;
  /** Whether an interrupted run has written to it already. */
  readonly hasBegun: boolean;
  /** Call it before the first byte of a new job is written: empties a file; erases where a device says what it holds. @throws {VolsealError} `ERR_IO` */
  begin(): Promise<void>;
  /** What was written so far is on the disk then, where that was asked for. @throws {VolsealError} `ERR_IO` */
  flush(): Promise<void>;
  /** Leaves the file to a later run where this one fails. */
  keepForResume(): void;
  /**
   * Flushes the file, puts it in its place and flushes the folder.
   * @throws {VolsealError} `ERR_TARGET_EXISTS`; `ERR_IO`, with `details.published` where the new file is in its place and whole
   */
  publish(): Promise<void>;
  /** The same, and keeps what was in the place until the returned step is settled: for the first of two files that belong together. */
  publishUndoably(): Promise<UndoablePublication>;
  /** `error` with what has become of the target, where that is not as it was. */
  explained(error: unknown): unknown;
  /** Closes and, unless it was published or is to be resumed, removes the file. Never throws. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface UndoablePublication {
  /** Lets go of what was in the place. Never throws: the new files are in their places, and a leftover takes nothing from that. */
  keep(): Promise<void>;
  /** Puts back what was in the place. @throws {VolsealError} `ERR_IO` */
  undo(): Promise<void>;
}
