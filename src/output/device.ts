/**
 * A block device as target. It is overwritten where it is: what it held is gone from the first byte on. All that is
 * guaranteed is that an unfinished one never looks finished.
 */
import { constants } from 'node:fs';
import { basename } from 'node:path';
import { type Directory, directoryOf } from '../directory-entry.js';
import { VolsealError } from '../errors.js';
import { HEADER_BYTES_MAX } from '../luks2/header.js';
import type { NamedFile } from './named-file.js';
import { openDevice, type ResolvedTarget } from './resolve-target.js';
import type { OpenTargetOptions, ReversiblePublication, TargetFile } from './target.js';

/** `untouched`: holds what it held. `incomplete`: what it held is gone. `complete`: all is written and flushed. */
type State = 'untouched' | 'incomplete' | 'complete';

export class DeviceTarget implements TargetFile {
  readonly path: string;
  readonly realPath: string;
  readonly isDevice = true;
  readonly directory: Directory;
  readonly file: NamedFile;
  readonly openPath: string;
  readonly hasEarlierData = false;
  readonly #fsync: boolean;
  #state: State = 'untouched';

  private constructor({ path, realPath }: ResolvedTarget, directory: Directory, file: NamedFile, fsync: boolean) {
    this.directory = directory;
    this.path = path;
    this.realPath = realPath;
    this.openPath = path;
    this.file = file;
    this.#fsync = fsync;
  }

  /** As `openTarget`, for a device: opens it for this process alone. */
  static async open(target: ResolvedTarget, { deviceBytes, fsync, resume }: OpenTargetOptions): Promise<DeviceTarget> {
    const { path, realPath } = target;
    if (resume) {
      throw new VolsealError('ERR_ARGUMENT', `${path}: is a block device; only a job that writes to a file can be resumed`, {
        details: { path },
      });
    }
    const directory = await directoryOf(realPath);
    try {
      const file = await openDevice(directory, basename(realPath), path, deviceBytes!, constants.O_RDWR);
      return new DeviceTarget(target, directory, file, fsync);
    } catch (error) {
      await directory.close();
      throw error;
    }
  }

  get isPublished(): boolean {
    return this.#state === 'complete';
  }

  async begin(): Promise<void> {
    try {
      await erase(this.file);
    } catch (error) {
      // The first write was refused: all is as it was.
      const untouched = error instanceof VolsealError && error.details.syscall === 'write' && error.details.offsetBytes === 0;
      if (!untouched) this.#state = 'incomplete';
      throw error;
    }
    this.#state = 'incomplete';
    await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#fsync) await this.file.sync();
  }

  keepForResume(): void {}

  async publish(): Promise<void> {
    await this.flush();
    this.#state = 'complete';
  }

  async publishReversibly(): Promise<ReversiblePublication> {
    await this.publish();
    return { commit: async () => {}, rollback: async () => {} };
  }

  withContext(error: unknown): unknown {
    return this.#state === 'incomplete' ? lostContents(error, this.path) : error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
    await this.directory.close();
  }
}

/** Writes zeros where a volume's headers may be, both copies, whatever their size; or over all of a smaller device. */
async function erase(file: NamedFile): Promise<void> {
  await file.write(Buffer.alloc(Math.min(HEADER_BYTES_MAX, file.sizeBytes())), 0);
}

function lostContents(error: unknown, path: string): unknown {
  if (!(error instanceof VolsealError)) return error;
  const message = error.code === 'ERR_ABORTED' ? 'stopped on request' : error.message;
  return new VolsealError(error.code, `${message}; what ${path} held before is gone, and what it holds now is not complete`, {
    cause: error.cause,
    details: { ...error.details, device: path },
  });
}
