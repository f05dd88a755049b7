/**
 * Checks the files of a store before LMDB opens them. It maps the file and follows the page numbers in it: one that is
 * cut short or is no store at all would end the process, not the call.
 */
import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  linkSync,
  lstatSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectory, syncDirectorySync } from '../directories.js';
import { asVolsealError, type ErrorCode, VolsealError } from '../errors.js';
import { STORE_READERS_MAX } from '../limits.js';
import { checkOwnDirectory, openOwnFile } from '../own-files.js';
import { META_BYTES, usedBytes } from './meta-page.js';

/** LMDB's table of readers has 64 bytes for each, and a page or so before that. */
const LOCK_FILE_BYTES = STORE_READERS_MAX * 64 + 4096;

interface WhatStore {
  readonly name: string;
  readonly code: ErrorCode;
}

/**
 * Makes the directory (0700) of the store file `path` and its files (0600) where they are missing, and refuses what
 * belongs to another user, and a file that is not a whole store.
 * @param what names it in messages, with the code of its faults
 * @throws {VolsealError} that code, `ERR_IO`
 */
export function prepareStoreFile(path: string, what: WhatStore): void {
  const directory = dirname(path);
  try {
    makeDirectory(directory);
    checkOwnDirectory(directory);
    const isNew = !existsSync(path);
    if (isPrivateToBe(directory)) chmodSync(directory, 0o700);
    prepareLockFile(`${path}-lock`);
    // LMDB makes a store of an empty file.
    const fd = openOwnFile(path, constants.O_RDWR | constants.O_CREAT);
    try {
      checkWhole(fd, path, what);
    } finally {
      closeSync(fd);
    }
    if (isNew) syncDirectorySync(directory);
  } catch (error) {
    throw asVolsealError(error, directory);
  }
}

/** A directory of the caller, not behind a link, that others may look into. */
function isPrivateToBe(directory: string): boolean {
  const stats = lstatSync(directory);
  return stats.isDirectory() && stats.uid === process.geteuid?.() && (stats.mode & 0o077) !== 0;
}

/**
 * Makes the lock file in full: LMDB maps it, and on a full disk the first access to a hole would end the process
 * (SIGBUS).
 *
 * An existing one is never opened here: closing it again would drop every lock that LMDB has on it in this process
 * (fcntl(2), "POSIX record locks"), and the next process would take itself for the only one.
 */
function prepareLockFile(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found !== undefined) {
    if (!found.isFile())
      throw new VolsealError('ERR_IO', `${path}: is not a regular file; move it away`, { details: { path, errno: 'EPERM' } });
    if (found.uid === process.geteuid?.() && (found.mode & 0o077) !== 0) chmodSync(path, 0o600);
    return;
  }
  const draft = `${path}.${randomUUID()}`;
  const fd = openSync(draft, 'wx', 0o600);
  try {
    const zeros = Buffer.alloc(LOCK_FILE_BYTES);
    for (let done = 0; done < zeros.length; ) done += writeSync(fd, zeros, done);
    // The file system may have delayed the allocation until now.
    fsyncSync(fd);
    linkSync(draft, path);
  } catch (error) {
    // Another process was first.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    closeSync(fd);
    rmSync(draft, { force: true });
  }
}

function checkWhole(fd: number, path: string, what: WhatStore): void {
  const metas = Buffer.alloc(META_BYTES);
  const byteCount = readSync(fd, metas, 0, metas.length, 0);
  if (byteCount === 0) return;
  const neededBytes = usedBytes(metas.subarray(0, byteCount));
  if (neededBytes === undefined) throw new VolsealError(what.code, `${path} is not ${what.name}; restore it from a backup`);
  // After the meta pages: another process may be growing the file, and does so before it names the new pages.
  const { size } = statSync(path);
  if (size < neededBytes) {
    throw new VolsealError(what.code, `${path} is cut short: it has ${size} bytes and needs ${neededBytes}; restore it from a backup`);
  }
}
