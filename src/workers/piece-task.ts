/**
 * A piece of an image through the cipher, in memory that the threads share: what comes from a store or goes to one. Its
 * checksums are computed in the same thread.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { EBS_BLOCK_BYTES } from '../limits.js';
import { type KeyHandle, native } from '../native.js';

/** Checksums of a piece: CRC-32 of all of it, or SHA-256 of each of its blocks, as stores want them. */
export type PieceChecksum = 'crc32' | 'blocks';

/** The checksums that were asked for. */
export interface PieceSums {
  /** CRC-32 (ISO 3309); 0 where it was not asked for. */
  readonly crc32: number;
  /**
   * 32 bytes for each block of `EBS_BLOCK_BYTES`, one behind the other; the last block counts as filled up with zeros.
   * Empty where they were not asked for.
   */
  readonly blockDigests: Uint8Array;
}

/** Transforms whole sectors in place. The result is checksums of `area` after that, as far as `checksumBytes`. */
export interface PieceTask {
  kind: 'piece';
  /** Undefined: the bytes stay as they are. */
  key: KeyHandle | undefined;
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
  /** Undefined: none is computed. */
  checksum: PieceChecksum | undefined;
  /** How much of `area` the checksums are of. */
  checksumBytes: number;
}

const UNIT_BYTES = 512;
const DIGEST_BYTES = 32;
const NOTHING = new Uint8Array();

/** @throws {VolsealError} `ERR_KEY_GONE`, `ERR_ARGUMENT` */
export function runPiece(task: PieceTask): PieceSums {
  const { key, encrypt, sectorBytes, startByte, area, offsetBytes, sparse, checksum, checksumBytes } = task;
  const sectors = area.subarray(offsetBytes);
  if (key !== undefined && sectors.length > 0) {
    const runs = sparse && !encrypt ? writtenRuns(sectors, sectorBytes) : [{ from: 0, to: sectors.length }];
    for (const { from, to } of runs)
      native.xtsTransform(key, encrypt, sectorBytes, (startByte + from) / UNIT_BYTES, sectors.subarray(from, to));
  }
  const summed = area.subarray(0, checksumBytes);
  return {
    crc32: checksum === 'crc32' ? crc32(summed) : 0,
    blockDigests: checksum === 'blocks' ? digestsOf(summed) : NOTHING,
  };
}

function digestsOf(bytes: Uint8Array): Uint8Array {
  const digests = new Uint8Array(Math.ceil(bytes.length / EBS_BLOCK_BYTES) * DIGEST_BYTES);
  for (let index = 0; index * DIGEST_BYTES < digests.length; index += 1) {
    const block = bytes.subarray(index * EBS_BLOCK_BYTES, (index + 1) * EBS_BLOCK_BYTES);
    const hash = createHash('sha256').update(block);
    if (block.length < EBS_BLOCK_BYTES) hash.update(new Uint8Array(EBS_BLOCK_BYTES - block.length));
    digests.set(hash.digest(), index * DIGEST_BYTES);
  }
  return digests;
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
