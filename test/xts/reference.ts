/** The reference for the kernels: OpenSSL through node:crypto, one data unit at a time. */
import { createCipheriv, createDecipheriv } from 'node:crypto';

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
