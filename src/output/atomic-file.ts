/**
 * A file that appears at its path complete or not at all: it is written under a temporary name in the same directory,
 * flushed, then renamed. Whatever happens before `publish`, the path leads to what it led to before.
 *
 * The temporary name is random, and the file is removed when the job fails. A job that can be resumed uses a fixed
 * name, which the next run finds.
 */
import { constants } from 'node:fs';
import { link, lstat, rename, unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Directory, directoryOf, WRITABLE_FOR_ALL } from '../directory-entry.js';
import { asVolsealError, namingPath, VolsealError, withPath } from '../errors.js';
import { ifThere, NamedFile } from './named-file.js';
import { choosePartialName, chooseRecordName, isOwn, openPartial } from './partial-file.js';
import { lockExisting, type ResolvedTarget, targetExists } from './resolve-target.js';
import type { OpenTargetOptions, ReversiblePublication, TargetFile } from './target.js';
import { backupPath, removeStaleFiles, temporaryName } from './temporary-files.js';

/**
 * `temporary`: removed if the job fails. `kept`: stays for a later run. `lost`: stays, because another run may have it
 * by now. `published`: at its path.
 */
type State = 'temporary' | 'kept' | 'lost' | 'published';

export class AtomicFile implements TargetFile {
  readonly path: string;
  readonly realPath: string;
  readonly isDevice = false;
  readonly file: NamedFile;
  readonly openPath: string;
  readonly directory: Directory;
  readonly hasEarlierData: boolean;
  readonly #options: OpenTargetOptions;
  /** In `directory`: where system calls find the new file, and its place. */
  readonly #newFile: string;
  readonly #target: string;
  #state: State;
  /** The file that is to be replaced, locked to the end, so that nobody attaches it for writing. */
  #replaced: NamedFile | undefined;
  /** The names of that file that are known: its own, and one for the way back. */
  #replacedNames = 1;

  private constructor(
    target: ResolvedTarget,
    directory: Directory,
    name: string,
    file: NamedFile,
    hasEarlierData: boolean,
    options: OpenTargetOptions,
  ) {
    this.path = target.path;
    this.realPath = target.realPath;
    this.directory = directory;
    this.file = file;
    this.openPath = join(directory.path, name);
    this.#newFile = directory.at(name);
    this.#target = directory.at(basename(target.realPath));
    this.hasEarlierData = hasEarlierData;
    this.#options = options;
    this.#state = hasEarlierData ? 'kept' : 'temporary';
  }

  /** As `openTarget`, for a target that is not a device. */
  static async open(target: ResolvedTarget, options: OpenTargetOptions): Promise<AtomicFile> {
    const directory = await directoryOf(target.realPath);
    try {
      return await AtomicFile.#openIn(directory, target, options);
    } catch (error) {
      await directory.close();
      throw error;
    }
  }

  static async #openIn(directory: Directory, target: ResolvedTarget, options: OpenTargetOptions): Promise<AtomicFile> {
    const { path } = target;
    const targetName = basename(target.realPath);
    await removeStaleFiles(directory, targetName);
    if (!options.resume) await warnOfPartial(directory, targetName, options);
    const name = options.resume ? await choosePartialName(directory, targetName) : temporaryName(targetName);
    const file = options.resume
      ? (await openPartial(directory, name)).as(path)
      : await NamedFile.openIn(directory, name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, path);
    const hasEarlierData = options.resume === true && (await file.stat()).size > 0n;
    const opened = new AtomicFile(target, directory, name, file, hasEarlierData, options);
    try {
      // The lock tells a file that is being written from one that a killed process left behind. Without locks nobody
      // removes either.
      if (!options.resume) file.lockIfPossible('exclusive');
      if (options.force && (await opened.#replacesFile())) {
        opened.#replaced = await lockExisting(directory, targetName, path, options.onWarning);
      }
    } catch (error) {
      await opened[Symbol.asyncDispose]();
      throw withPath(error, path);
    }
    return opened;
  }

  get isPublished(): boolean {
    return this.#state === 'published';
  }

  async begin(): Promise<void> {
    this.#state = 'temporary';
    await this.file.truncate(0);
  }

  async flush(): Promise<void> {
    if (this.#options.fsync) await this.file.datasync();
  }

  keepForResume(): void {
    this.#state = 'kept';
  }

  async publish(): Promise<void> {
    try {
      await this.#rename();
    } catch (error) {
      throw this.isPublished ? notDurable(this.path, error) : error;
    }
  }

  async publishReversibly(): Promise<ReversiblePublication> {
    const backup = backupPath(this.#newFile);
    const stateBefore = this.#state;
    const replaces = this.#options.force && (await this.#replacesFile());
    if (replaces) {
      await namingPath(this.path, () => link(this.#target, backup));
      this.#replacedNames += 1;
    }
    const rollback = async (): Promise<void> => {
      try {
        await rollbackPublication(this.#target, this.#newFile, replaces);
      } catch (error) {
        throw notRolledBack(this.path, replaces ? backupPath(this.openPath) : undefined, error);
      }
      this.#state = stateBefore;
    };
    try {
      await this.#rename();
    } catch (error) {
      if (this.isPublished) await rollback();
      else if (replaces) await unlink(backup);
      throw error;
    }
    const commit = async (): Promise<void> => {
      if (!replaces) return;
      await unlink(backup).catch(() => this.#warn(`${backupPath(this.openPath)}: the replaced file could not be removed; remove it`));
    };
    return { commit, rollback };
  }

  withContext(error: unknown): unknown {
    return this.#state === 'kept' ? keptForResume(error, this.openPath) : error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#replaced?.close();
    if (this.#state === 'temporary') await unlink(this.#newFile).catch(() => {});
    await this.file.close();
    await this.directory.close();
  }

  async #replacesFile(): Promise<boolean> {
    return (await ifThere(this.path, () => lstat(this.#target))) !== undefined;
  }

  async #rename(): Promise<void> {
    const { fsync, force, resume } = this.#options;
    // A run that is killed here and resumed trusts only a partial file that is its user's alone: then afterwards.
    if (resume !== true) await this.#takeAttributes();
    if (fsync) await this.file.sync();
    await this.#options.beforePublish?.().catch((error: unknown) => {
      // The name may lead to the file of another run by now, which has taken the job over.
      if (resume === true && this.#state === 'temporary') this.#state = 'lost';
      throw error;
    });
    if (force) await namingPath(this.path, () => rename(this.#newFile, this.#target));
    else await this.#renameToNew();
    this.#state = 'published';
    if (resume === true && this.#replaced !== undefined) {
      await this.#takeAttributes();
      if (fsync) await this.file.sync();
    }
    if (fsync) await this.directory.sync();
  }

  /**
   * Owner, group, mode, access control list and extended attributes of the file that is replaced, if there is one. Not
   * where another user may have made that file to become the owner of the new one.
   */
  async #takeAttributes(): Promise<void> {
    const replaced = this.#replaced;
    if (replaced === undefined) return;
    const { uid } = await replaced.stat();
    const isOthers = uid !== 0n && uid !== BigInt(process.geteuid!());
    if (isOthers && ((await this.directory.stats()).mode & WRITABLE_FOR_ALL) !== 0n) {
      const why = `belongs to another user (uid ${uid}), in a directory that everybody may write to`;
      this.#warn(`${this.path}: the file that is replaced ${why}: owner, mode and attributes were not kept`);
      return;
    }
    const lost = replaced.giveAttributesTo(this.file);
    if (lost.length > 0) this.#warn(`${this.path}: could not keep of the file that is replaced: ${lost.join(', ')}`);
    const names = Number((await replaced.stat()).nlink);
    if (names > this.#replacedNames)
      this.#warn(`${this.path}: the file that is replaced has other names (hard links), which still lead to it`);
  }

  /** Unlike rename, link never replaces a file that has appeared in the meantime. */
  async #renameToNew(): Promise<void> {
    const { path } = this;
    try {
      await link(this.#newFile, this.#target);
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') throw targetExists(path);
      if (!NO_HARD_LINKS.has(code)) throw asVolsealError(error, path);
      if (await this.#replacesFile()) throw targetExists(path);
      await namingPath(path, () => rename(this.#newFile, this.#target));
      return;
    }
    // The file is at its path; a second name does no harm.
    await unlink(this.#newFile).catch(() =>
      this.#warn(`${this.openPath}: could not be removed: it is a second name of ${path}; remove it`),
    );
  }

  #warn(warning: string): void {
    this.#options.onWarning?.(warning);
  }
}

/**
 * Undoes a publication: the new file has its temporary name again, where a job that can be resumed looks for it.
 * @param place where it is, and `temporary` its earlier name, both in one open directory (`Directory.at`)
 * @param hasBackup of the file that it replaced
 */
export async function rollbackPublication(target: string, temporary: string, hasBackup: boolean): Promise<void> {
  if (!hasBackup) return rename(target, temporary);
  // The path always leads to a file. A killed run may have come as far as this.
  await unlink(temporary).catch(() => {});
  await link(target, temporary);
  await rename(backupPath(temporary), target);
}

/** What link(2) says on a file system without hard links: FAT, some network file systems. */
const NO_HARD_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

function notDurable(path: string, error: unknown): unknown {
  if (!(error instanceof VolsealError)) return error;
  return new VolsealError(
    error.code,
    `${path}: is complete and at its path, but its directory could not be flushed: a power cut may bring back what was there before (${error.message})`,
    { cause: error, details: { ...error.details, path, published: true } },
  );
}

function notRolledBack(path: string, backup: string | undefined, error: unknown): unknown {
  const converted = asVolsealError(error, path);
  if (!(converted instanceof VolsealError)) return converted;
  const remedy = backup === undefined ? 'remove it' : `the file that it replaced is ${backup}: rename that back`;
  return new VolsealError(
    converted.code,
    `${path}: belongs to a volume that was not published, and could not be rolled back; ${remedy} (${converted.message})`,
    { cause: error, details: converted.details },
  );
}

function keptForResume(error: unknown, partial: string): unknown {
  if (!(error instanceof VolsealError) || error.code === 'ERR_RESUME') return error;
  const message = error.code === 'ERR_ABORTED' ? 'stopped on request' : error.message;
  return new VolsealError(error.code, `${message}; what was done is kept in ${partial}`, {
    cause: error.cause,
    details: { ...error.details, partial },
  });
}

async function warnOfPartial(directory: Directory, target: string, { onWarning }: OpenTargetOptions): Promise<void> {
  if (onWarning === undefined) return;
  const partial = await choosePartialName(directory, target);
  if (!(await isOwn(directory, partial))) return;
  const checkpoint = await chooseRecordName(directory, partial);
  const [path, checkpointPath] = [partial, checkpoint].map((name) => join(directory.path, name));
  onWarning(`${path} holds what an interrupted run has done: continue it with --resume, or remove it and ${checkpointPath}`);
}
