/**
 * Moves an image from one form into the other, part after part. In each round one part is taken into the journal while
 * the one before it is put into its new place; then both are on the disk, and the record says so.
 */
import { VolsealError } from '../errors.js';
import { IMAGE_THREADS } from '../limits.js';
import { type KeyHandle, type MoveHandle, type MovePart, native } from '../native.js';
import type { JobOptions } from '../transfer/transform.js';
import type { PoolLease } from '../workers/pool.js';
import { type InPlaceJournal, readFailure } from './journal.js';
import type { InPlaceRecord, PendingPart } from './record.js';

/** What is moved, and by whom. */
export interface Moving {
  readonly pool: PoolLease;
  readonly move: MoveHandle;
  readonly journal: InPlaceJournal;
  /** Proves the records; the caller's. */
  readonly key: KeyHandle;
}

type Direction = InPlaceRecord['direction'];

/**
 * Moves everything in `direction`, whichever way an earlier run went.
 * @returns the last record: nothing is pending, and the frontier is at the end
 * @throws {VolsealError} `ERR_ABORTED`, `ERR_IO`, `ERR_RESUME` the journal is damaged; the same job can go on in any
 * case
 */
export async function moveAll(moving: Moving, begun: InPlaceRecord, direction: Direction, job: JobOptions): Promise<InPlaceRecord> {
  let record = await settle(moving, begun, direction);
  const { dataBytes } = record;
  for (;;) {
    if (job.signal?.aborted) throw new VolsealError('ERR_ABORTED', 'stopped on request');
    const doneBytes = direction === 'toHigh' ? dataBytes - frontierOf(record) : frontierOf(record);
    job.onProgress?.({ doneBytes, totalBytes: dataBytes });
    const { frontierBytes, take } = nextPart(moving.move, record);
    if (take === undefined && record.pending === null && frontierBytes === record.frontierBytes) return record;
    const sha256 = await run(moving, direction, take, record.pending);
    const pending: PendingPart | null = take === undefined ? null : { ...take, sha256: sha256! };
    record = await next(moving, { ...record, frontierBytes: take === undefined ? frontierBytes : after(take, direction), pending });
  }
}

/** Puts what an earlier run has taken, in its direction, and turns around where that is not the wanted one. */
async function settle(moving: Moving, begun: InPlaceRecord, direction: Direction): Promise<InPlaceRecord> {
  const { pool, move, journal } = moving;
  let record = begun;
  if (record.pending !== null) {
    const { sha256: digest, ...part } = record.pending;
    const sha256 = Buffer.from(digest, 'base64');
    await pool.run({ kind: 'readMoved', move, direction: record.direction, part, sha256 }).catch((error: unknown) => {
      throw readFailure(error, journal.path);
    });
    // Its flush may have failed: an older record on the disk would take once more what is put now.
    record = await next(moving, record);
    await run(moving, record.direction, undefined, record.pending);
    record = await next(moving, { ...record, pending: null });
  }
  return record.direction === direction ? record : next(moving, { ...record, direction });
}

/**
 * Puts what an earlier run has taken, whichever way it went. Neither record in the journal names a part afterwards:
 * if the newer one were lost, the older one must not bring back what was there before a write.
 * @returns the last record @throws {VolsealError} as `moveAll`
 */
export async function settleForWriters(moving: Moving, begun: InPlaceRecord): Promise<InPlaceRecord> {
  return next(moving, await next(moving, await settle(moving, begun, begun.direction)));
}

async function next({ journal, key }: Moving, record: InPlaceRecord): Promise<InPlaceRecord> {
  const written = { ...record, sequence: record.sequence + 1 };
  await journal.write(written, key);
  return written;
}

async function run(
  { pool, move }: Moving,
  direction: Direction,
  take: MovePart | undefined,
  pending: PendingPart | null,
): Promise<string | undefined> {
  const { sha256: _, ...part } = pending ?? { sha256: '' };
  const put = pending === null ? undefined : (part as MovePart);
  const digest = await pool.run({ kind: 'move', move, direction, take, put, threadCount: IMAGE_THREADS });
  return digest && Buffer.from(digest).toString('base64');
}

/** Where the forms meet on the disk now. */
function frontierOf({ frontierBytes, pending, direction }: InPlaceRecord): number {
  if (pending === null) return frontierBytes;
  return direction === 'toHigh' ? pending.startByte + pending.lengthBytes : pending.startByte;
}

const after = ({ startByte, lengthBytes }: MovePart, direction: Direction): number =>
  direction === 'toHigh' ? startByte : startByte + lengthBytes;

/** The next part to take, and the frontier before it: parts of a sparse image that are holes need not move. */
function nextPart(move: MoveHandle, record: InPlaceRecord): { frontierBytes: number; take: MovePart | undefined } {
  const { direction, dataBytes, partBytes, sparse, lowOffsetBytes, highOffsetBytes } = record;
  const slot = record.pending?.slot === 0 ? 1 : 0;
  let { frontierBytes } = record;
  for (;;) {
    if (frontierBytes === (direction === 'toHigh' ? 0 : dataBytes)) return { frontierBytes, take: undefined };
    const startByte = direction === 'toHigh' ? Math.floor((frontierBytes - 1) / partBytes) * partBytes : frontierBytes;
    const end = direction === 'toHigh' ? frontierBytes : Math.min(dataBytes, startByte + partBytes);
    const take = { startByte, lengthBytes: end - startByte, slot } as const;
    if (!sparse || lowOffsetBytes !== highOffsetBytes || !native.moveIsHole(move, direction, take)) return { frontierBytes, take };
    frontierBytes = after(take, direction);
  }
}
