/**
 * Files and directories that decide about keys and records. They are used only where they belong to the caller or to
 * root and nobody else can write to them: otherwise another user could choose the root key's command, replace the store
 * or the audit log.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import { asVolsealError, VolsealError } from './errors.js';

/**
 * Checks the directory `path`, and the symbolic link where it is one. A directory that does not exist passes.
 * @throws {VolsealError} `ERR_IO` with errno `EPERM`: another user owns the link or the directory, or others may write
 * to it; `ERR_IO`
 */
export function checkOwnDirectory(path: string): void {
  try {
    const link = lstatSync(path, { throwIfNoEntry: false });
    if (link === undefined) return;
    checkOwner(path, link);
    const target = link.isSymbolicLink() ? statSync(path, { throwIfNoEntry: false }) : link;
    if (target === undefined) return;
    checkOwner(path, target);
    checkMode(path, target);
  } catch (error) {
    throw asVolsealError(error, path);
  }
}

/**
 * Checks the directory `path`, which exists: the caller's own, no symbolic link, and closed to everybody else.
 * @throws {VolsealError} `ERR_IO` with errno `EPERM`: it is not; `ERR_IO`
 */
export function checkPrivateDirectory(path: string): void {
  try {
    const stats = lstatSync(path);
    if (!stats.isDirectory()) throw refused(path, 'is not a directory', 'move it away');
    if (stats.uid !== process.geteuid?.()) throw refused(path, `belongs to another user (uid ${stats.uid})`, 'ask its owner to remove it');
    if ((stats.mode & 0o077) !== 0) {
      throw refused(path, `other users may enter it (mode ${(stats.mode & 0o7777).toString(8)})`, `run: chmod 700 ${path}`);
    }
  } catch (error) {
    throw asVolsealError(error, path);
  }
}

/**
 * Opens the regular file `path`; a symbolic link is refused.
 * @param flags of open(2). @param mode of a file that this creates
 * @returns the descriptor; the caller closes it
 * @throws as openSync, with its `code`; {VolsealError} `ERR_IO` with errno `EPERM`: another user owns it, or others may
 * write to it
 */
export function openOwnFile(path: string, flags: number, mode = 0o600): number {
  // O_NONBLOCK: a pipe that somebody put there must not stop the open.
  const fd = openUnlinked(path, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, mode);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw refused(path, 'is not a regular file', 'move it away');
    checkOwner(path, stats);
    checkMode(path, stats);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * The contents of the regular file `path`; undefined where it does not exist.
 * @throws {VolsealError} `ERR_IO`, as `openOwnFile`, and with errno `EFBIG` where it has more than `bytesMax` bytes
 */
export function readOwnFile(path: string, bytesMax: number): Buffer | undefined {
  try {
    const fd = openOwnFile(path, constants.O_RDONLY);
    try {
      const bytes = Buffer.alloc(bytesMax + 1);
      const byteCount = readSync(fd, bytes, 0, bytes.length, 0);
      if (byteCount <= bytesMax) return bytes.subarray(0, byteCount);
      throw refused(path, `has more than ${bytesMax} bytes`, 'restore it from a backup', 'EFBIG');
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw asVolsealError(error, path);
  }
}

function openUnlinked(path: string, flags: number, mode: number): number {
  try {
    return openSync(path, flags, mode);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ELOOP') throw error;
    throw refused(path, 'is a symbolic link', 'replace it by the file itself', 'ELOOP');
  }
}

function checkOwner(path: string, { uid }: Stats): void {
  const caller = process.geteuid?.();
  if (caller === undefined || uid === caller || uid === 0) return;
  throw refused(path, `belongs to another user (uid ${uid}; this process has uid ${caller})`, 'use a directory of your own');
}

/**
 * A group with the number of the user is the user's own: with it, a umask of 002 is common (useradd(8),
 * "USERGROUPS_ENAB").
 */
function checkMode(path: string, { mode, uid, gid }: Stats): void {
  if ((mode & (gid === uid ? 0o002 : 0o022)) === 0) return;
  throw refused(path, `other users may write to it (mode ${(mode & 0o7777).toString(8)})`, `run: chmod go-w ${path}`);
}

const refused = (path: string, problem: string, advice: string, errno = 'EPERM'): VolsealError =>
  new VolsealError('ERR_IO', `${path}: ${problem}; ${advice}`, { details: { errno, syscall: 'open', path } });
