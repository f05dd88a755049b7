/**
 * Where a target goes, what is there now, and whether it may be replaced. Done once a target, before any work.
 *
 * A symbolic link stays: what it leads to is the target, and is replaced. The path is followed once, here; afterwards
 * its directory is opened by the real path, in which no link may be (src/directory-entry.ts).
 */
import { constants } from 'node:fs';
import { lstat, readlink, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Directory, type DirectoryEntry, findEntry } from '../directory-entry.js';
import { namingPath, VolsealError } from '../errors.js';
import { native } from '../native.js';
import { describeKind } from './data-file.js';
import { refuseOthersHeader } from './detached-header.js';
import { refuseInPlace } from './in-place-mark.js';
import { ifThere, NamedFile } from './named-file.js';

/** How a target is made. */
export interface TargetOptions {
  /** Replaces what is there. */
  readonly force: boolean;
  /** Bytes that a block device must have; undefined where the target must be a regular file. */
  readonly deviceBytes?: number | undefined;
  /** Whether parts of the target are not written. A block device is refused then: its old bytes would stay there. */
  readonly sparse?: boolean | undefined;
  /** Where a detached header is to be written: the path of its data. */
  readonly headerOf?: string | undefined;
  /** Where a copy of a header is to be written: its UUID. An older copy of it may be replaced. */
  readonly headerUuid?: string | undefined;
}

export interface ResolvedTarget {
  /** As the caller named it. */
  readonly path: string;
  /** Free of symbolic links: two targets are one if these are equal. */
  readonly realPath: string;
  readonly isDevice: boolean;
}

/**
 * Resolves the path of a target, and refuses one that must not be written to.
 *
 * @throws {VolsealError} `ERR_TARGET_EXISTS`, also the header of another volume, `force` or not; `ERR_ARGUMENT` where
 * it is neither a regular file nor a device that is wanted (a directory, a pipe), or a symbolic link to nothing;
 * `ERR_TARGET_SIZE` a device that is too small; `ERR_IO` also a missing device; `ERR_STATE_BUSY` a volume that is
 * attached for writing, a device that is mounted; `ERR_STATE_INTERRUPTED` a job in place is in the middle of it;
 * `ERR_IO`
 */
export async function resolveTarget(path: string, options: TargetOptions): Promise<ResolvedTarget> {
  await using entry = await targetEntry(path);
  const { found, realPath } = entry;
  if (found === undefined) {
    if (isAmongDevices(realPath)) throw noSuchDevice(path);
    await refuseInPlace(entry.directory, entry.name, path, BigInt(process.geteuid!()));
    return { path, realPath, isDevice: false };
  }
  const isDevice = found.stats.isBlockDevice() && options.deviceBytes !== undefined;
  if (!found.stats.isFile() && !isDevice) {
    const kind = describeKind(found.stats);
    const wanted = options.deviceBytes === undefined ? 'this target is a regular file' : 'a target is a regular file or a block device';
    throw new VolsealError('ERR_ARGUMENT', `${path}: is ${kind}, and ${wanted}`, { details: { path, kind } });
  }
  if (isDevice && options.sparse) {
    throw new VolsealError('ERR_ARGUMENT', `${path}: is a block device, whose old bytes would stay where a sparse target has holes`, {
      details: { path },
    });
  }
  if (!options.force) throw isDevice ? deviceNeedsForce(path) : targetExists(path);
  const { directory, name } = entry;
  // A journal that is left beside a new file would keep everybody from it, and the old one would be lost.
  if (!isDevice) await refuseInPlace(directory, name, path, found.stats.uid);
  await using file = isDevice
    ? await openDevice(directory, name, path, options.deviceBytes!, constants.O_RDONLY)
    : await lockExisting(directory, name, path);
  if (!isDevice) await refuseOthersHeader(file, options);
  return { path, realPath, isDevice };
}

/**
 * The path free of symbolic links, whether something is there or not.
 * @throws {VolsealError} `ERR_ARGUMENT` a symbolic link to nothing, an empty path; `ERR_IO`
 */
export async function realPathOf(path: string): Promise<string> {
  await using entry = await targetEntry(path);
  return entry.realPath;
}

/**
 * Where a target goes: what other users' links lead to is none.
 * @returns the caller's to close @throws {VolsealError} as `realPathOf`
 */
export async function targetEntry(path: string): Promise<DirectoryEntry> {
  if (path === '') throw new VolsealError('ERR_ARGUMENT', 'a target cannot be named ""', { details: { path } });
  const entry = await ifThere(path, () => findEntry(path, 'write'));
  if (entry?.found !== undefined) return entry;
  try {
    await refuseLinkToNothing(path);
    if (entry !== undefined && !path.endsWith('/')) return entry;
    const directory = path.endsWith('/') ? path : dirname(path);
    throw new VolsealError('ERR_IO', `${path}: there is no directory ${directory}`, {
      details: { errno: 'ENOENT', syscall: 'stat', path },
    });
  } catch (error) {
    await entry?.close();
    throw error;
  }
}

/**
 * Refuses a target that is the device which `source` reads. A file may replace its own source, which stays until the
 * new file is complete; a device is overwritten where it is. Compares the devices' numbers, whatever node or link names
 * them.
 *
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IO`
 */
export async function refuseOwnDevice(source: NamedFile, path: string): Promise<void> {
  const [held, found] = [await source.stat(), await ifThere(path, () => stat(path, { bigint: true }))];
  if (!held.isBlockDevice() || !found?.isBlockDevice() || held.rdev !== found.rdev) return;
  throw new VolsealError('ERR_ARGUMENT', `${path}: is the device ${source.path} itself, which would be overwritten before it was read`, {
    details: { path },
  });
}

/**
 * Whether a path is in the directory of device nodes. /dev/shm and /dev/mqueue there are file systems of their own, for
 * files.
 */
export const isAmongDevices = (realPath: string): boolean => realPath.startsWith('/dev/') && !/^\/dev\/(shm|mqueue)\//.test(realPath);

function noSuchDevice(path: string): VolsealError {
  return new VolsealError('ERR_IO', `${path}: there is no such device, and a file in /dev would be lost at the next start`, {
    details: { errno: 'ENOENT', syscall: 'stat', path },
  });
}

/**
 * Writing through such a link would make a file where nobody looks for one; replacing the link would be as surprising.
 */
async function refuseLinkToNothing(path: string): Promise<void> {
  const found = await ifThere(path, () => lstat(path));
  if (!found?.isSymbolicLink()) return;
  const leadsTo = await namingPath(path, () => readlink(path));
  throw new VolsealError('ERR_ARGUMENT', `${path}: is a symbolic link to ${leadsTo}, where nothing is`, {
    details: { path, kind: 'a link to nothing' },
  });
}

/** The error where a target exists and must stay. */
export const targetExists = (path: string): VolsealError =>
  new VolsealError('ERR_TARGET_EXISTS', `${path}: exists already and was left as it is`, { details: { path } });

const deviceNeedsForce = (path: string): VolsealError =>
  new VolsealError('ERR_TARGET_EXISTS', `${path}: is a block device, and what it holds would be lost; it was left as it is`, {
    details: { path, kind: 'a block device' },
  });

/**
 * Opens and locks a file that is to be replaced. The lock is shared, against writers: decrypting a volume onto itself
 * holds one too.
 * @param onWarning is told where the file system has no locks
 */
export async function lockExisting(
  directory: Directory,
  name: string,
  path: string,
  onWarning?: (warning: string) => void,
): Promise<NamedFile> {
  const file = await NamedFile.openIn(directory, name, constants.O_RDONLY, path);
  try {
    if (!file.lockIfPossible('shared'))
      onWarning?.(`${path}: its file system has no locks: whether somebody has it attached cannot be told`);
    return file;
  } catch (error) {
    await file.close();
    if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw error;
    throw new VolsealError('ERR_STATE_BUSY', `${path}: is attached for writing, and cannot be replaced before it is detached`, {
      cause: error,
      details: { path },
    });
  }
}

/**
 * Opens a block device for this process alone: one that is mounted, mapped or held by another program is refused.
 *
 * @param neededBytes the least size @param access O_RDONLY or O_RDWR
 * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_TARGET_SIZE`, `ERR_IO`
 */
export async function openDevice(
  directory: Directory,
  name: string,
  path: string,
  neededBytes: number,
  access: number,
): Promise<NamedFile> {
  const file = await NamedFile.openIn(directory, name, access | constants.O_EXCL, path).catch((error: unknown) => {
    const isBusy = error instanceof VolsealError && error.details.errno === 'EBUSY';
    throw isBusy ? deviceBusy(path, 'is mounted, or another program holds it', error) : error;
  });
  try {
    if (native.fileIsReadOnlyDevice(file.fd)) {
      throw new VolsealError('ERR_IO', `${path}: is a read-only device; nothing was written to it`, {
        details: { errno: 'EROFS', syscall: 'ioctl(BLKROGET)', path, kind: 'a block device' },
      });
    }
    file.lock('exclusive');
    const sizeBytes = file.sizeBytes();
    if (sizeBytes >= neededBytes) return file;
    throw new VolsealError('ERR_TARGET_SIZE', `${path}: has ${sizeBytes} bytes, and ${neededBytes} are needed; nothing was written to it`, {
      details: { path, sizeBytes, neededBytes },
    });
  } catch (error) {
    await file.close();
    const isBusy = error instanceof VolsealError && error.code === 'ERR_STATE_BUSY';
    throw isBusy ? deviceBusy(path, 'is attached as a volume', error) : error;
  }
}

const deviceBusy = (path: string, why: string, cause: Error): VolsealError =>
  new VolsealError('ERR_STATE_BUSY', `${path}: ${why}; nothing was written to it`, { cause, details: { path } });
