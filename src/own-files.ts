/**
 * Files and directories that decide about keys and records. They are used only where they belong to the caller or to
 * root and nobody else can write to them: otherwise another user could choose the root key's command, replace the store
 * or the audit log.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, readlinkSync, readSync, type Stats, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { asVolsealError, VolsealError } from './errors.js';

/** Linux's own limit (path_resolution(7)). */
const LINKS_MAX = 40;

/**
 * Checks the directory `path`, the symbolic link where it is one, and the way there: every directory that the kernel
 * passes. Nobody else can then exchange a name on it, so the path leads to the same directory whenever it is opened
 * again. A directory that does not exist passes.
 * @throws {VolsealError} `ERR_IO` with errno `EPERM`: another user owns a link or a directory, or others may write to
 * it or exchange it; `ERR_IO`
 */
export function checkOwnDirectory(path: string): void {
  try {
    checkWay(path);
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

/** Follows `path` as the kernel does, from the root; the last directory is the caller's to check. */
function checkWay(path: string): void {
  // An open directory of this process: nobody can lead that path elsewhere.
  if (path.startsWith('/proc/self/fd/')) return;
  let parts = namesOf(path.startsWith('/') ? path : `${process.cwd()}/${path}`);
  let at = '/';
  for (let linkCount = 0; parts.length > 0; ) {
    const [name = '', ...later] = parts;
    const directory = lstatSync(at);
    // What is there is no way: whoever opens it says so.
    if (!directory.isDirectory()) return;
    checkParent(at, directory);
    const next = name === '..' ? dirname(at) : join(at, name);
    const found = lstatSync(next, { throwIfNoEntry: false });
    if (found === undefined) return;
    if (!found.isSymbolicLink()) {
      [at, parts] = [next, later];
      continue;
    }
    checkOwner(next, found);
    if (++linkCount > LINKS_MAX) throw refused(path, 'passes too many symbolic links', 'name the directory itself', 'ELOOP');
    const target = readlinkSync(next);
    parts = [...namesOf(target), ...later];
    if (target.startsWith('/')) at = '/';
  }
}

const namesOf = (path: string): string[] => path.split('/').filter((name) => name !== '' && name !== '.');

/** In a sticky directory only its owner and a name's own can exchange the name (inode(7)). */
function checkParent(path: string, stats: Stats): void {
  const advice = 'use a home in a directory that only you or root may change (--home, VOLSEAL_HOME)';
  if (!isOfCallerOrRoot(stats) && !isUnmapped(stats)) {
    throw refused(path, `belongs to another user (uid ${stats.uid}), who may exchange what is in it`, advice);
  }
  if ((stats.mode & 0o1000) === 0 && isWritableForOthers(stats)) {
    throw refused(path, `other users may exchange what is in it (mode ${(stats.mode & 0o7777).toString(8)})`, advice);
  }
}

/** Of the system outside this user namespace, such as the host's root (user_namespaces(7)). */
function isUnmapped({ uid }: Stats): boolean {
  const read = (path: string): number[] => readFileSync(path, 'latin1').trim().split(/\s+/).map(Number);
  return uid === read('/proc/sys/kernel/overflowuid')[0] && read('/proc/self/uid_map').join(' ') !== '0 0 4294967295';
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

function isOfCallerOrRoot({ uid }: Stats): boolean {
  const caller = process.geteuid?.();
  return caller === undefined || uid === caller || uid === 0;
}

function checkOwner(path: string, stats: Stats): void {
  if (isOfCallerOrRoot(stats)) return;
  const problem = `belongs to another user (uid ${stats.uid}; this process has uid ${process.geteuid?.()})`;
  throw refused(path, problem, 'use a directory of your own');
}

/**
 * A group with the number of the user is the user's own: with it, a umask of 002 is common (useradd(8),
 * "USERGROUPS_ENAB").
 */
const isWritableForOthers = ({ mode, uid, gid }: Stats): boolean => (mode & (gid === uid ? 0o002 : 0o022)) !== 0;

function checkMode(path: string, stats: Stats): void {
  if (!isWritableForOthers(stats)) return;
  throw refused(path, `other users may write to it (mode ${(stats.mode & 0o7777).toString(8)})`, `run: chmod go-w ${path}`);
}

const refused = (path: string, problem: string, advice: string, errno = 'EPERM'): VolsealError =>
  new VolsealError('ERR_IO', `${path}: ${problem}; ${advice}`, { details: { errno, syscall: 'open', path } });
