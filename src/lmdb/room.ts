/**
 * Room in a store's file before a transaction needs it.
 *
 * Where LMDB itself meets a full disk, lmdb 3.5 builds its error message in a buffer that is too small (mdb.c,
 * mdb_page_flush) and corrupts the heap. So the file is made longer first, by zeros that the file system must find
 * blocks for.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { META_BYTES, usedBytes } from './meta-page.js';

/** Not every transaction makes the file longer. */
const ROUND_UP = 1.5;

/**
 * Makes the file `path` at least `roomBytes` longer than its pages in use. Must run inside a write transaction: LMDB
 * writes pages when the transaction ends, so nobody else writes to the file meanwhile.
 * @throws of the file system: `ENOSPC`, `EDQUOT`, `EFBIG`; the file is as long as before then
 */
export function makeRoom(path: string, roomBytes: number): void {
  const fd = openSync(path, 'r+');
  try {
    const metas = Buffer.alloc(META_BYTES);
    const used = usedBytes(metas.subarray(0, readSync(fd, metas, 0, META_BYTES, 0))) ?? 0;
    const { size } = fstatSync(fd);
    if (size - used >= roomBytes) return;
    const zeros = Buffer.alloc(used + ROUND_UP * roomBytes - size);
    try {
      for (let done = 0; done < zeros.length; ) done += writeSync(fd, zeros, done, zeros.length - done, size + done);
    } catch (error) {
      ftruncateSync(fd, size);
      throw error;
    }
  } finally {
    closeSync(fd);
  }
}
