/**
 * A piece of an image through the cipher, in memory that the threads share: what comes from a store or goes to one. Its
 * checksum is computed in the same thread.
 */
import { crc32 } from 'node:zlib';
import { type KeyHandle, native } from '../native.js';

/** Transforms whole sectors in place. The result is the CRC-32 of `area` after that, as far as `checksumBytes`. */
export interface PieceTask {
  kind: 'piece';
  key: KeyHandle;
  encrypt: boolean;
  sectorBytes: number;
  /** Where the first of the sectors lies in the volume, in bytes. */
  startByte: number;
  /** On a SharedArrayBuffer. */
  area: Uint8Array;
  /** Where the sectors begin in `area`; they reach to its end. */
  offsetBytes: number;
  /** The volume is sparse: a sector whose ciphertext is all zeros reads as zeros. */
  sparse: boolean;
  /** How much of `area` the checksum is of. Undefined: it is not computed, and the result is 0. */
  checksumBytes: number | undefined;
}

const UNIT_BYTES = 512;

/** @throws {VolsealError} `ERR_KEY_GONE`, `ERR_ARGUMENT` */
export function runPiece({ key, encrypt, sectorBytes, startByte, area, offsetBytes, sparse, checksumBytes }: PieceTask): number {
  const sectors = area.subarray(offsetBytes);
  if (sectors.length > 0) {
    const runs = sparse && !encrypt ? writtenRuns(sectors, sectorBytes) : [{ from: 0, to: sectors.length }];
    for (const { from, to } of runs)
      native.xtsTransform(key, encrypt, sectorBytes, (startByte + from) / UNIT_BYTES, sectors.subarray(from, to));
  }
  return checksumBytes === undefined ? 0 : crc32(area.subarray(0, checksumBytes));
}

/** The ranges of sectors that are not all zeros. */
function writtenRuns(sectors: Uint8Array, sectorBytes: number): { from: number; to: number }[] {
  const zeros = Buffer.alloc(sectorBytes);
  const runs: { from: number; to: number }[] = [];
  for (let at = 0; at < sectors.length; at += sectorBytes) {
    if (zeros.compare(sectors, at, at + sectorBytes) === 0) continue;
    const last = runs.at(-1);
    if (last?.to === at) last.to += sectorBytes;
    else runs.push({ from: at, to: at + sectorBytes });
  }
  return runs;
}
