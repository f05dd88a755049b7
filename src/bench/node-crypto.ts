/**
 * node:crypto as a peer and as the judge of bytes: AES-256-XTS with one cipher object a sector, as its interface wants
 * it.
 */
import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';
import { TWEAK_UNIT_BYTES } from '../limits.js';

const CIPHER = 'aes-256-xts';

/** Transforms `source`, whole sectors that begin at sector 0, and hands each one's bytes to `take`. */
export function transformSectors(
  key: KeyObject,
  encrypt: boolean,
  source: Buffer,
  sectorBytes: number,
  take: (sector: Buffer) => void = () => {},
): void {
  const tweak = Buffer.alloc(16);
  const open = encrypt ? createCipheriv : createDecipheriv;
  for (let startByte = 0; startByte < source.length; startByte += sectorBytes) {
    tweak.writeUIntLE(startByte / TWEAK_UNIT_BYTES, 0, 6);
    take(open(CIPHER, key, tweak).update(source.subarray(startByte, startByte + sectorBytes)));
  }
}

/** The ciphertext of `plaintext`, whole sectors that begin at sector 0. */
export function ciphertextOf(key: KeyObject, plaintext: Buffer, sectorBytes: number): Buffer {
  const sectors: Buffer[] = [];
  transformSectors(key, true, plaintext, sectorBytes, (sector) => sectors.push(sector));
  return Buffer.concat(sectors);
}
