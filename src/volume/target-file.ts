/**
 * A file that comes to be all at once or not at all: written under a temporary name beside its place, flushed, then renamed.
 * Whatever happens before `publish`, the place holds what it held.
 *
 * Where the target is a symbolic link, its place is where the link leads: the link stays, and what it leads to is replaced.
 */
import { randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, readlink, realpath, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { asVolsealError, namingPath, VolsealError, withPath } from '../errors.js';
import { native } from '../native.js';
import { describeKind } from './data-file.js';

export interface TargetFile {
  /** Open for reading and writing, empty. */
  readonly file: FileHandle;
  /** Flushes the file, puts it in its place and flushes the folder. @throws {VolsealError} `ERR_TARGET_EXISTS`, `ERR_IO` */
  publish(): Promise<void>;
  /** The same, and keeps what was in the place until the returned step is settled: for the first of two files that belong together. */
  publishUndoably(): Promise<{ keep(): Promise<void>; undo(): Promise<void> }>;
  /** Closes and, unless it was published, removes the file. Never throws. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Refuses a place that must not be written to, before any work is done.
 *
 * @returns the place itself, free of symbolic links: two targets are one if their places are
 * @throws {VolsealError} `ERR_TARGET_EXISTS`; `ERR_ARGUMENT` where it is no regular file (a folder, a device, a pipe) or a symbolic link
 * to nothing; `ERR_STATE_BUSY` where it is a volume that somebody has attached for writing; `ERR_IO`
 */
export async function checkTarget(path: string, force: boolean): Promise<string> {
  // Asked with the path as it was given, so that the kernel can forbid a link that somebody else laid (protected_symlinks).
  const existing = await ifThere(path, () => stat(path));
  if (existing === undefined) return newPlace(path);
  if (!existing.isFile()) {
    const kind = describeKind(existing);
    throw new VolsealError('ERR_ARGUMENT', `${path}: is ${kind}, and a target is a regular file`, { details: { path, kind } });
  }
  if (!force) throw targetExists(path);
  const place = await namingPath(path, () => realpath(path));
  await (await holdExisting(place, path)).close();
  return place;
}

async function newPlace(path: string): Promise<string> {
  if (path === '') throw new VolsealError('ERR_ARGUMENT', 'a target cannot be named ""', { details: { path } });
  await refuseLinkToNothing(path);
  const folder = path.endsWith('/') ? path : dirname(path);
  if (!(await ifThere(path, () => stat(folder)))?.isDirectory()) {
    throw new VolsealError('ERR_IO', `${path}: there is no folder ${folder}`, { details: { errno: 'ENOENT', syscall: 'stat', path } });
  }
  return join(await namingPath(path, () => realpath(folder)), basename(path));
}

/** Writing through such a link would make a file where nobody looked; in place of the link, one where nobody expects it. */
async function refuseLinkToNothing(path: string): Promise<void> {
  const found = await ifThere(path, () => lstat(path));
  if (!found?.isSymbolicLink()) return;
  const leadsTo = await namingPath(path, () => readlink(path));
  throw new VolsealError('ERR_ARGUMENT', `${path}: is a symbolic link to ${leadsTo}, where nothing is`, {
    details: { path, kind: 'a link to nothing' },
  });
}

/** Opens a target under a temporary name in the folder of its place. @throws {VolsealError} as `checkTarget` */
export async function openTarget(path: string, force: boolean): Promise<TargetFile> {
  const place = await checkTarget(path, force);
  const temporary = join(dirname(place), `${temporaryPrefix(place)}${randomBytes(6).toString('hex')}.partial`);
  await removeLeftovers(place);
  const file = await namingPath(path, () => open(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600));
  let published = false;
  let old: FileHandle | undefined;
  const target: TargetFile = {
    file,
    async publishUndoably() {
      const backup = `${temporary}.old`;
      const replaces = force && (await ifThere(path, () => stat(place))) !== undefined;
      if (replaces) await namingPath(path, () => link(place, backup));
      const undo = (): Promise<void> => namingPath(path, () => (replaces ? rename(backup, place) : unlink(place)));
      try {
        await target.publish();
      } catch (error) {
        if (published) await undo();
        else if (replaces) await unlink(backup);
        throw error;
      }
      return { undo, keep: () => (replaces ? namingPath(path, () => unlink(backup)) : Promise.resolve()) };
    },
    async publish() {
      await namingPath(path, () => file.sync());
      if (force) await namingPath(path, () => rename(temporary, place));
      else await publishNew(temporary, place, path);
      published = true;
      await syncFolder(dirname(place));
    },
    async [Symbol.asyncDispose]() {
      await old?.close().catch(() => {});
      await file.close().catch(() => {});
      if (!published) await unlink(temporary).catch(() => {});
    },
  };
  try {
    // Tells a file that is being written from one that a killed process left behind.
    native.fileLock(file.fd, true);
    // Held to the end, so that nobody attaches for writing what is about to be replaced.
    if (force && (await ifThere(path, () => stat(place))) !== undefined) old = await holdExisting(place, path);
  } catch (error) {
    await target[Symbol.asyncDispose]();
    throw withPath(error, path);
  }
  return target;
}

/** Puts a file where nothing is. Unlike rename, link never replaces what has appeared in the meantime. */
async function publishNew(temporary: string, place: string, path: string): Promise<void> {
  try {
    await link(temporary, place);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw targetExists(path);
    if (!NO_HARD_LINKS.has(code)) throw asVolsealError(error, path);
    await checkTarget(path, false);
    await namingPath(path, () => rename(temporary, place));
    return;
  }
  await namingPath(path, () => unlink(temporary));
}

/** What link(2) says on a file system without hard links: FAT, some network file systems. */
const NO_HARD_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

const temporaryPrefix = (place: string): string => `.${basename(place)}.`;

/** A younger one may have been made a moment ago and not be locked yet. */
const LEFTOVER_AGE_MS = 60_000;

/** Removes what earlier runs for the same target left behind when they were killed: old temporary files that nobody holds. */
async function removeLeftovers(place: string): Promise<void> {
  const names = await namingPath(place, () => readdir(dirname(place)));
  const prefix = temporaryPrefix(place);
  for (const name of names.filter((name) => name.startsWith(prefix) && /^[0-9a-f]{12}\.partial$/.test(name.slice(prefix.length)))) {
    const leftover = join(dirname(place), name);
    try {
      await using file = await open(leftover, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      const found = await file.stat();
      if (!found.isFile() || Date.now() - found.mtimeMs < LEFTOVER_AGE_MS) continue;
      native.fileLock(file.fd, true);
      await unlink(leftover);
    } catch {
      // In use, gone already, or not ours to remove: it costs room, not this run.
    }
  }
}

function targetExists(path: string): VolsealError {
  return new VolsealError('ERR_TARGET_EXISTS', `${path}: exists already and was left as it is`, { details: { path } });
}

/** Opens and locks a file that is to be replaced, against writers only: decrypting a volume onto itself holds a shared lock too. */
async function holdExisting(place: string, path: string): Promise<FileHandle> {
  const file = await namingPath(path, () => open(place, 'r'));
  try {
    native.fileLock(file.fd, false);
    return file;
  } catch (error) {
    await file.close();
    if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw withPath(error, path);
    throw new VolsealError('ERR_STATE_BUSY', `${path}: is attached for writing, and cannot be replaced before it is detached`, {
      cause: error,
      details: { path },
    });
  }
}

/** What `look` sees, or undefined where nothing is. */
async function ifThere(path: string, look: () => Promise<Stats>): Promise<Stats | undefined> {
  return namingPath(path, look).catch((error) => {
    if (error instanceof VolsealError && (error.details.errno === 'ENOENT' || error.details.errno === 'ENOTDIR')) return undefined;
    throw error;
  });
}

/** A rename lasts once its folder is on the disk. */
async function syncFolder(path: string): Promise<void> {
  const folder = await namingPath(path, () => open(path, 'r'));
  try {
    await namingPath(path, () => folder.sync());
  } finally {
    await folder.close();
  }
}
