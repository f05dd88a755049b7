/**
 * LMDB's meta pages, as the linked release (1.0, data version 2) writes them: two begin the file, and the newer one is
 * valid.
 */

export const PAGE_BYTES = 4096;
export const META_BYTES = 2 * PAGE_BYTES;
const MAGIC_AT = 24;
const MAGIC = 0xbeefc0de;
const VERSION_AT = 28;
const VERSION = 2;
const LAST_PAGE_AT = 144;
const TRANSACTION_AT = 152;

/**
 * Bytes of the file up to the end of its last page in use. @param metas the first `META_BYTES` of it; undefined: these
 * are no meta pages
 */
export function usedBytes(metas: Buffer): number | undefined {
  if (metas.length < META_BYTES) return undefined;
  const pages = [metas.subarray(0, PAGE_BYTES), metas.subarray(PAGE_BYTES)];
  if (pages.some((page) => page.readUInt32LE(MAGIC_AT) !== MAGIC || page.readUInt32LE(VERSION_AT) !== VERSION)) return undefined;
  const newest = pages.reduce((one, other) => (other.readBigUInt64LE(TRANSACTION_AT) > one.readBigUInt64LE(TRANSACTION_AT) ? other : one));
  return Number(newest.readBigUInt64LE(LAST_PAGE_AT) + 1n) * PAGE_BYTES;
}
