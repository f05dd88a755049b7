/**
 * What is in a store, on its way into a file: pieces, and for a job that can be resumed a record of how far it is.
 * Pieces overtake each other: what is safe is what lies before the first that is missing.
 */
import { RESUME_UNIT_BYTES, STORE_PIECE_BYTES } from '../limits.js';
import { DirectWrites } from '../output/direct-writes.js';
import type { TargetFile } from '../output/target.js';
import { movePieces, type PieceMove, pieceOf } from './move-pieces.js';
import type { Checkpoint, JobOptions } from './transform.js';

/** What moves, and where to. */
export interface Download {
  readonly move: Omit<PieceMove, 'write' | 'pieceBytes' | 'checksum' | 'isWritten'>;
  readonly target: TargetFile;
  /** Where the first byte goes in the file. */
  readonly dataOffsetBytes: number;
}

/**
 * Moves what lies behind `startByte`.
 * @param checkpoint undefined: no later run goes on with it
 * @throws {VolsealError} as `movePieces`; `ERR_IO` there is no room for all of it; what saving throws
 */
export async function download(
  { move, target, dataOffsetBytes }: Download,
  startByte: number,
  checkpoint: Checkpoint | undefined,
  job: JobOptions,
): Promise<void> {
  target.file.checkRoom(dataOffsetBytes + move.targetBytes);
  const pieceBytes = STORE_PIECE_BYTES;
  const written = new Set<number>();
  let whole = Math.floor(startByte / pieceBytes);
  await using file = await DirectWrites.open(target.file);
  const write: PieceMove['write'] = async ({ offsetBytes, bytes }) => {
    await file.write(bytes, dataOffsetBytes + offsetBytes);
    written.add(offsetBytes / pieceBytes);
    while (written.delete(whole)) whole += 1;
  };
  const isWritten = (index: number): boolean => (index + 1) * pieceBytes <= startByte;
  await saving(
    checkpoint,
    () => Math.min(whole * pieceBytes, move.targetBytes),
    job,
    (own) => movePieces({ ...move, pieceBytes, checksum: undefined, isWritten, write }, own),
  );
}

/**
 * Saves now and then how far `work` is, and where it fails, or ends if that is wanted. A record that cannot be written
 * ends it.
 */
async function saving(
  checkpoint: Checkpoint | undefined,
  safeBytes: () => number,
  job: JobOptions,
  work: (job: JobOptions) => Promise<void>,
): Promise<void> {
  if (checkpoint === undefined) return await work(job);
  const stop = new AbortController();
  let unsaved: unknown;
  let saves = Promise.resolve();
  const save = (): void => {
    saves = saves
      .then(() => checkpoint.save(safeBytes()))
      .catch((error: unknown) => {
        unsaved ??= error;
        stop.abort();
      });
  };
  const timer = setInterval(save, checkpoint.intervalMs);
  const signal = job.signal === undefined ? stop.signal : AbortSignal.any([job.signal, stop.signal]);
  const [outcome] = await Promise.allSettled([work({ ...job, signal })]);
  clearInterval(timer);
  if ((outcome.status === 'rejected' || checkpoint.recordsEnd) && unsaved === undefined) save();
  await saves;
  if (outcome.status === 'fulfilled') return;
  // What the others throw then is its consequence.
  throw stop.signal.aborted && job.signal?.aborted !== true && isStop(outcome.reason) ? unsaved : outcome.reason;
}

const isStop = (error: unknown): boolean => (error as { code?: unknown }).code === 'ERR_ABORTED';

/**
 * Compares the last part before `safeBytes` in the file with what the source gives.
 * @returns the first byte that differs @throws {VolsealError} as `pieceOf`; `ERR_IO`
 */
export async function differsBefore(
  { move, target, dataOffsetBytes }: Download,
  safeBytes: number,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  const part = { ...move, pieceBytes: RESUME_UNIT_BYTES, checksum: undefined };
  const { bytes, offsetBytes } = await pieceOf(part, safeBytes / RESUME_UNIT_BYTES - 1, signal);
  const there = await target.file.read(dataOffsetBytes + offsetBytes, bytes.length);
  if (there.equals(bytes)) return undefined;
  const at = there.findIndex((byte, index) => byte !== bytes[index]);
  return offsetBytes + (at === -1 ? there.length : at);
}
