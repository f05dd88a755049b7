/**
 * The place that a target is to have: what stands there, and whether it may be replaced.
 *
 * Where the target is a symbolic link, its place is where the link leads: the link stays, and what it leads to is replaced.
 */
import { type BigIntStats, constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { namingPath, VolsealError, withPath } from '../errors.js';
import { native } from '../native.js';
import { describeKind } from './data-file.js';

/** How a target is to be made. */
export interface TargetWish {
  /** Replaces what is there. */
  readonly force: boolean;
  /** Bytes that a block device must have; undefined where the target must be a regular file. */
  readonly deviceBytes?: number | undefined;
}

export interface Place {
  /** Free of symbolic links: two targets are one if their places are. */
  readonly path: string;
  /** What stands there now. */
  readonly found: Stats | undefined;
  readonly isDevice: boolean;
}

/**
 * Refuses a place that must not be written to, before any work is done.
 *
 * @throws {VolsealError} `ERR_TARGET_EXISTS`; `ERR_ARGUMENT` where it is neither a regular file nor a device that is wanted (a folder, a
 * pipe), or a symbolic link to nothing; `ERR_TARGET_SIZE` a device that is too small; `ERR_STATE_BUSY` a volume that somebody has attached for
 * writing, a device that is mounted; `ERR_IO`
 */
export async function checkTarget(path: string, wish: TargetWish): Promise<Place> {
  // Asked with the path as it was given, so that the kernel can forbid a link that somebody else laid (protected_symlinks).
  const found = await ifThere(path, () => stat(path));
  if (found === undefined) return { path: await newPlace(path), found, isDevice: false };
  const isDevice = found.isBlockDevice() && wish.deviceBytes !== undefined;
  if (!found.isFile() && !isDevice) {
    const kind = describeKind(found);
    const wanted = wish.deviceBytes === undefined ? 'this target is a regular file' : 'a target is a regular file or a block device';
    throw new VolsealError('ERR_ARGUMENT', `${path}: is ${kind}, and ${wanted}`, { details: { path, kind } });
  }
  if (!wish.force) throw isDevice ? deviceNeedsForce(path) : targetExists(path);
  const place = await namingPath(path, () => realpath(path));
  const file = isDevice ? await holdDevice(place, path, wish.deviceBytes!, constants.O_RDONLY) : await holdExisting(place, path);
  await file.close();
  return { path: place, found, isDevice };
}

/**
 * Refuses a target that is the device which `source` reads. A file may take its own source's place, which stays until its successor is whole; a
 * device has no such other place. By the device's number, whatever node or link names it.
 *
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IO`
 */
export async function refuseOwnDevice(source: FileHandle, sourcePath: string, path: string): Promise<void> {
  const [held, found] = [await namingPath(sourcePath, () => source.stat()), await ifThere(path, () => stat(path))];
  if (!held.isBlockDevice() || !found?.isBlockDevice() || held.rdev !== found.rdev) return;
  throw new VolsealError('ERR_ARGUMENT', `${path}: is the device ${sourcePath} itself, which would be gone before it was read`, {
    details: { path },
  });
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

/** What is thrown where a target stands already and must stay. */
export function targetExists(path: string): VolsealError {
  return new VolsealError('ERR_TARGET_EXISTS', `${path}: exists already and was left as it is`, { details: { path } });
}

const deviceNeedsForce = (path: string): VolsealError =>
  new VolsealError('ERR_TARGET_EXISTS', `${path}: is a block device, and what it holds would be gone; it was left as it is`, {
    details: { path, kind: 'a block device' },
  });

/** Opens and locks a file that is to be replaced, against writers only: decrypting a volume onto itself holds a shared lock too. */
export async function holdExisting(place: string, path: string): Promise<FileHandle> {
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

/**
 * Opens a block device for this process alone: one that is mounted, mapped or held by another of its kind is refused.
 *
 * @param neededBytes what it must have room for
 * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_TARGET_SIZE`, `ERR_IO`
 */
export async function holdDevice(place: string, path: string, neededBytes: number, access: number): Promise<FileHandle> {
  const file = await open(place, access | constants.O_EXCL | constants.O_NONBLOCK).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EBUSY') throw deviceBusy(path, 'is mounted, or another program holds it', error);
    throw withPath(error, path);
  });
  try {
    native.fileLock(file.fd, true);
    const sizeBytes = native.fileSize(file.fd);
    if (sizeBytes >= neededBytes) return file;
    throw new VolsealError('ERR_TARGET_SIZE', `${path}: has ${sizeBytes} bytes, and ${neededBytes} are needed; nothing was written to it`, {
      details: { path, sizeBytes, neededBytes },
    });
  } catch (error) {
    await file.close();
    if (error instanceof VolsealError && error.code === 'ERR_STATE_BUSY') throw deviceBusy(path, 'is attached as a volume', error);
    throw withPath(error, path);
  }
}

const deviceBusy = (path: string, why: string, cause: Error): VolsealError =>
  new VolsealError('ERR_STATE_BUSY', `${path}: ${why}; nothing was written to it`, { cause, details: { path } });

/** What `look` sees, or undefined where nothing is. @throws {VolsealError} `ERR_IO` */
export async function ifThere<S extends Stats | BigIntStats>(path: string, look: () => Promise<S>): Promise<S | undefined> {
  return namingPath(path, look).catch((error) => {
    if (error instanceof VolsealError && (error.details.errno === 'ENOENT' || error.details.errno === 'ENOTDIR')) return undefined;
    throw error;
  });
}
