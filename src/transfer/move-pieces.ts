/**
 * An image through the cipher in pieces of memory: where a store is the source or the target. A fixed number of buffers
 * goes round; each is read, transformed in the pool and written before it is used again, and pieces overtake each
 * other.
 */
import { setMaxListeners } from 'node:events';
import pLimit, { type LimitFunction } from 'p-limit';
import { STORE_BUFFER_BYTES, STORE_BUFFERS_MAX } from '../limits.js';
import type { KeyHandle } from '../native.js';
import { sharedPages } from '../output/direct-writes.js';
import type { ImageSource, Piece } from '../stores/store.js';
import { traced } from '../tracing.js';
import { throwIfAborted } from '../workers/abort.js';
import type { PieceChecksum } from '../workers/piece-task.js';
import type { PoolLease } from '../workers/pool.js';
import type { JobOptions } from './transform.js';

/** What moves, and how. */
export interface PieceMove {
  readonly pool: PoolLease;
  /** Undefined: the bytes move as they are. */
  readonly key: KeyHandle | undefined;
  readonly encrypt: boolean;
  readonly sectorBytes: number;
  readonly sparse: boolean;
  readonly source: ImageSource;
  /** Where the first sector lies in the source. */
  readonly sourceOffsetBytes: number;
  /** Bytes of the image or of the data, whatever the last sector has beyond them. */
  readonly dataBytes: number;
  /** What stands in front of the data in the target: the header's area. Shorter than a piece. */
  readonly preamble?: Uint8Array;
  /** A multiple of the sector and of the preamble. */
  readonly pieceBytes: number;
  /** Length of the target: what lies beyond is not written. */
  readonly targetBytes: number;
  /** Where to begin in the target: a multiple of a piece. Default: 0. */
  readonly startByte?: number | undefined;
  /** Which checksums `write` gets. */
  readonly checksum: PieceChecksum | undefined;
  /** Whether the target has this piece already: then it is neither read nor written. */
  readonly isWritten?: ((index: number) => boolean) | undefined;
  /** Takes a piece of the target. Its memory is used again once the promise settles. */
  write(piece: Piece, signal: AbortSignal): Promise<void>;
  readonly stopped?: string;
}

/** @throws {VolsealError} what reading, the cipher and writing throw, the first of it; `ERR_ABORTED` */
export async function movePieces(move: PieceMove, { signal, onProgress }: JobOptions): Promise<void> {
  const { pieceBytes, targetBytes, startByte = 0 } = move;
  const pieceCount = Math.ceil(targetBytes / pieceBytes);
  const firstPiece = startByte / pieceBytes;
  const bufferCount = Math.min(pieceCount - firstPiece, STORE_BUFFERS_MAX, Math.max(2, Math.floor(STORE_BUFFER_BYTES / pieceBytes)));
  const failed = new AbortController();
  const ended = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  // Each request under way listens to it.
  setMaxListeners(0, ended);
  // Without checksums a piece takes less time in a thread than it takes to come over the network: a second thread would
  // cost its start and nothing else.
  const inThread = pLimit(move.checksum === undefined ? 1 : bufferCount);
  let next = firstPiece;
  let movedBytes = 0;
  const worker = async (): Promise<void> => {
    const buffer = sharedPages(Math.min(pieceBytes, roundUp(targetBytes, move.sectorBytes)));
    while (next < pieceCount && !ended.aborted) {
      const index = next;
      next += 1;
      const bytes = Math.min(pieceBytes, targetBytes - index * pieceBytes);
      if (move.isWritten?.(index) !== true) await movePiece(move, index * pieceBytes, bytes, buffer, inThread, ended);
      movedBytes += bytes;
      onProgress?.({ doneBytes: movedBytes, totalBytes: targetBytes - startByte });
    }
  };
  let first: unknown;
  const workers = Array.from({ length: bufferCount }, () =>
    worker().catch((error: unknown) => {
      // What the others throw then is its consequence.
      if (!failed.signal.aborted) first = error;
      failed.abort();
    }),
  );
  await Promise.all(workers);
  throwIfAborted(signal, move.stopped);
  if (failed.signal.aborted) throw first;
}

const roundUp = (bytes: number, unit: number): number => Math.ceil(bytes / unit) * unit;

async function movePiece(
  move: PieceMove,
  at: number,
  bytes: number,
  buffer: Uint8Array,
  inThread: LimitFunction,
  signal: AbortSignal,
): Promise<void> {
  const piece = await makePiece(move, at, bytes, buffer, inThread, signal);
  await traced('volseal.part', { offsetBytes: at, bytes }, () => move.write(piece, signal));
}

/**
 * One piece as the target is to have it, not written. @throws {VolsealError} what reading and the cipher throw;
 * `ERR_ABORTED`
 */
export async function pieceOf(move: Omit<PieceMove, 'write'>, index: number, signal: AbortSignal | undefined): Promise<Piece> {
  const { pieceBytes, targetBytes, sectorBytes } = move;
  const bytes = Math.min(pieceBytes, targetBytes - index * pieceBytes);
  const buffer = new Uint8Array(new SharedArrayBuffer(roundUp(bytes, sectorBytes)));
  return await makePiece(move, index * pieceBytes, bytes, buffer, pLimit(1), signal);
}

async function makePiece(
  move: Omit<PieceMove, 'write'>,
  at: number,
  bytes: number,
  buffer: Uint8Array,
  inThread: LimitFunction,
  signal: AbortSignal | undefined,
): Promise<Piece> {
  const { pool, key, encrypt, sectorBytes, sparse, source, preamble } = move;
  const preambleBytes = at === 0 ? (preamble?.length ?? 0) : 0;
  const dataAt = at === 0 ? 0 : at - (preamble?.length ?? 0);
  const area = buffer.subarray(0, preambleBytes + roundUp(bytes - preambleBytes, sectorBytes));
  if (preamble !== undefined && preambleBytes > 0) area.set(preamble);
  const sectors = area.subarray(preambleBytes);
  const readBytes = Math.max(0, Math.min(sectors.length, move.dataBytes - dataAt));
  if (readBytes > 0) await source.readRange(move.sourceOffsetBytes + dataAt, sectors.subarray(0, readBytes), signal);
  sectors.fill(0, readBytes);
  const sums = await inThread(() =>
    pool.run({
      kind: 'piece',
      ...{ key, encrypt, sectorBytes, sparse, area },
      startByte: dataAt,
      offsetBytes: preambleBytes,
      checksum: move.checksum,
      checksumBytes: bytes,
    }),
  );
  return { offsetBytes: at, bytes: area.subarray(0, bytes), ...sums };
}
