/**
 * The files of the store before LMDB opens them: theirs are permissions of our choice, and bytes that LMDB can stand. It maps the
 * file and follows the page numbers in it: one that is cut short or is no store at all would end the process, not the call.
 */
import { chmodSync, closeSync, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectory } from '../directories.js';
import { asVolsealError, type ErrorCode, VolsealError } from '../errors.js';

/** LMDB's meta page, as the linked release (1.0, data version 2) writes it; two of them begin the file. */
const PAGE_BYTES = 4096;
const MAGIC_AT = 24;
const MAGIC = 0xbeefc0de;
const VERSION_AT = 28;
const VERSION = 2;
const LAST_PAGE_AT = 144;
const TRANSACTION_AT = 152;

interface WhatStore {
  readonly name: string;
  readonly code: ErrorCode;
}

/**
 * Makes the folder (0700) of the store file `path` where it is missing, and refuses a file that is no whole store.
 *
 * The lock file is never opened here: closing it again would drop every lock that LMDB has on it in this process (fcntl(2), "POSIX
 * record locks"), and the next process would take itself for the only one.
 * @param what names it in messages, with the code of its faults
 * @throws {VolsealError} that code, `ERR_IO`
 */
export function prepareStoreFile(path: string, what: WhatStore): void {
  const folder = dirname(path);
  try {
    makeDirectory(folder);
    if ((statSync(folder).mode & 0o077) !== 0) chmodSync(folder, 0o700);
    if (!existsSync(path)) return;
    const fd = openSync(path, 'r');
    try {
      checkWhole(fd, path, what);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw asVolsealError(error, folder);
  }
}

/** Takes from others what LMDB's own mode lets them see of its files. By path, so that no descriptor is closed (see above). @throws {VolsealError} `ERR_IO` */
export function restrictStoreFiles(path: string): void {
  for (const file of [path, `${path}-lock`]) {
    try {
      if ((statSync(file).mode & 0o077) !== 0) chmodSync(file, 0o600);
    } catch (error) {
      throw asVolsealError(error, file);
    }
  }
}

/** An empty file is a store to be; LMDB makes it. */
function checkWhole(fd: number, path: string, what: WhatStore): void {
  const metas = Buffer.alloc(2 * PAGE_BYTES);
  const byteCount = readSync(fd, metas, 0, metas.length, 0);
  if (byteCount === 0) return;
  // After the meta pages: another process may be growing the file, and does so before it names the new pages.
  const { size } = fstatSync(fd);
  const pages = [metas.subarray(0, PAGE_BYTES), metas.subarray(PAGE_BYTES)];
  if (
    byteCount < metas.length ||
    pages.some((page) => page.readUInt32LE(MAGIC_AT) !== MAGIC || page.readUInt32LE(VERSION_AT) !== VERSION)
  ) {
    throw new VolsealError(what.code, `${path} is not ${what.name}; restore it from a backup`);
  }
  const newest = pages.reduce((one, other) => (other.readBigUInt64LE(TRANSACTION_AT) > one.readBigUInt64LE(TRANSACTION_AT) ? other : one));
  const neededBytes = Number(newest.readBigUInt64LE(LAST_PAGE_AT) + 1n) * PAGE_BYTES;
  if (size < neededBytes) {
    throw new VolsealError(what.code, `${path} is cut short: it has ${size} bytes and needs ${neededBytes}; restore it from a backup`);
  }
}
