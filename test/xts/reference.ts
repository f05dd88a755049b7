/** The judge of the kernels: OpenSSL through node:crypto, one data unit at a time; and bytes that a seed reproduces. */
import { createCipheriv, createDecipheriv, randomInt } from 'node:crypto';

/** The tweak of a sector: its number in 512-byte units, 16 bytes, little-endian ("plain64"). */
function tweakOf(unit: number): Buffer {
  const tweak = Buffer.alloc(16);
  tweak.writeBigUInt64LE(BigInt(unit));
  return tweak;
}

/** Transforms whole sectors. OpenSSL starts each data unit anew, so every sector gets a cipher of its own. */
export function referenceTransform(key: Buffer, encrypt: boolean, source: Buffer, sectorBytes: number, firstUnit: number): Buffer {
  const algorithm = key.length === 64 ? 'aes-256-xts' : 'aes-128-xts';
  const create = encrypt ? createCipheriv : createDecipheriv;
  const sectors: Buffer[] = [];
  for (let start = 0; start < source.length; start += sectorBytes) {
    const cipher = create(algorithm, key, tweakOf(firstUnit + start / 512));
    sectors.push(cipher.update(source.subarray(start, start + sectorBytes)));
  }
  return Buffer.concat(sectors);
}

/** The seed of this run: VOLSEAL_TEST_SEED repeats a printed one. */
export const SEED = Number(process.env.VOLSEAL_TEST_SEED ?? randomInt(2 ** 31));

/** A stream of bytes that the seed alone decides (AES-128 in counter mode). */
export function seededBytes(seed: number): (length: number) => Buffer {
  const key = Buffer.alloc(16);
  key.writeDoubleLE(seed);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  return (length) => cipher.update(Buffer.alloc(length));
}
