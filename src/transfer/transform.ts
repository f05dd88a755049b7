/**
 * A whole image through the cipher: slice after slice of it in the pool, with progress, checkpoints, and an end at the
 * caller's signal.
 */
import { VolsealError, withPath } from '../errors.js';
import { IMAGE_SLICE_MS, IMAGE_THREADS } from '../limits.js';
import type { LogOptions } from '../logging.js';
import { native, type TransformHandle, type TransformOptions } from '../native.js';
import { traced } from '../tracing.js';
import { throwIfAborted } from '../workers/abort.js';
import type { PoolLease } from '../workers/pool.js';

/** How far a whole-image job has come, in bytes of the image. */
export interface Progress {
  /** Bytes done so far. */
  readonly doneBytes: number;
  /** Bytes of the whole job. */
  readonly totalBytes: number;
}

/** What every job that works through an image takes. */
export interface JobOptions extends LogOptions {
  /** Ends the job with `ERR_ABORTED`; no target is left. */
  signal?: AbortSignal | undefined;
  /** Called now and then while data moves, and once at the end. */
  onProgress?: ((progress: Progress) => void) | undefined;
}

/** What makes a job resumable: a record of how far it has come, from time to time. */
export interface Checkpoint {
  readonly intervalMs: number;
  /** Saves also when all is written: two files are published then, and a run may end between the two. */
  readonly recordsEnd: boolean;
  /**
   * Everything before `safeBytes` of the image is written, though not yet flushed. Work goes on meanwhile; one call at
   * a time.
   */
  save(safeBytes: number): Promise<void>;
}

export interface TransformJob extends JobOptions {
  checkpoint?: Checkpoint | undefined;
  /** What has become of the caller's files where the signal ends it. Default: targets are as they were. */
  stopped?: string | undefined;
}

/** What a transform has found out on its way. */
export interface TransformOutcome {
  /** SHA-256 of the image in hexadecimal, where it was asked for. */
  sha256: string | undefined;
  /** Of a comparison: the first byte of the image that differs, undefined where none does. */
  differsAtByte: number | undefined;
}

/**
 * Runs the transform that `options` describes in the pool, in slices, so that other work gets its turn between them.
 *
 * @param paths the files' names, for messages: where reading fails the first, where writing fails the second; both for
 * a comparison
 * @throws {VolsealError} `ERR_IO`, `ERR_ABORTED`, and whatever a checkpoint throws
 */
export function transformImage(
  pool: PoolLease,
  options: TransformOptions,
  paths: { source: string; target: string },
  job: TransformJob,
): Promise<TransformOutcome> {
  const { mode, target, startByte } = options;
  return traced('volseal.transform', { mode, bytes: target.sizeBytes - startByte }, () => runTransform(pool, options, paths, job));
}

async function runTransform(
  pool: PoolLease,
  options: TransformOptions,
  paths: { source: string; target: string },
  { signal, onProgress, checkpoint, stopped }: TransformJob,
): Promise<TransformOutcome> {
  throwIfAborted(signal, stopped);
  const naming = options.mode === 'compare' ? namingBoth : namingPaths;
  const transform = await naming(paths, () => pool.run({ kind: 'openTransform', options }));
  const stop = (): void => native.transformStop(transform);
  signal?.addEventListener('abort', stop);
  const saving = new AbortController();
  try {
    // One thread's work, of as many native threads as the disk wants: the pool's other threads have their time for
    // attached volumes.
    const run = async (): Promise<void> => {
      for (let more = true; more; ) {
        throwIfAborted(signal, stopped);
        more = await pool.run({ kind: 'transform', transform, threadCount: IMAGE_THREADS, milliseconds: IMAGE_SLICE_MS });
        onProgress?.({ doneBytes: native.transformProgress(transform).doneBytes, totalBytes: options.target.sizeBytes });
      }
    };
    const saves = checkpoint === undefined ? Promise.resolve() : saveNowAndThen(transform, checkpoint, saving.signal);
    saves.catch(stop);
    const [ran] = await Promise.allSettled([run()]);
    // What is whole is published next, and its record removed.
    const isWhole = ran.status === 'fulfilled' && signal?.aborted !== true;
    saving.abort(isWhole && checkpoint?.recordsEnd === false ? WHOLE : undefined);
    // A record that could not be written is the reason only where nothing else is: a full disk fails both.
    const [saved] = await Promise.allSettled([saves]);
    await naming(paths, () => throwFirst([ran, saved], signal, stopped));
    return {
      sha256: options.digest ? native.transformDigest(transform).toString('hex') : undefined,
      differsAtByte: native.transformDifference(transform),
    };
  } finally {
    signal?.removeEventListener('abort', stop);
    native.transformClose(transform);
  }
}

/** The failure that made the others stop, before theirs. */
async function throwFirst(
  outcomes: readonly PromiseSettledResult<void>[],
  signal: AbortSignal | undefined,
  stopped: string | undefined,
): Promise<void> {
  const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
  const isStop = (error: unknown): boolean => error instanceof VolsealError && error.code === 'ERR_ABORTED';
  const cause = failures.find((failure) => !isStop(failure));
  if (cause !== undefined) throw cause;
  throwIfAborted(signal, stopped);
  if (failures.length > 0) throw failures[0];
}

/** Why saving ends where there is nothing more to save. */
const WHOLE = Symbol('whole');

/** Also once where the work was ended before its end. */
async function saveNowAndThen(transform: TransformHandle, checkpoint: Checkpoint, ended: AbortSignal): Promise<void> {
  while (!ended.aborted) {
    await pause(checkpoint.intervalMs, ended);
    if (ended.reason === WHOLE) return;
    await checkpoint.save(native.transformProgress(transform).safeBytes);
  }
}

/** Until the time is over or `ended` comes. */
function pause(milliseconds: number, ended: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (ended.aborted) return resolve();
    const end = (): void => {
      clearTimeout(timer);
      ended.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    ended.addEventListener('abort', end);
  });
}

/** Both files are read, and the engine does not tell which of them failed. */
async function namingBoth<T>({ source, target }: { source: string; target: string }, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof VolsealError) || error.code !== 'ERR_IO') throw error;
    const message = `comparing ${source} with ${target}: ${error.message}`;
    throw new VolsealError(error.code, message, { cause: error, details: { ...error.details, paths: [source, target] } });
  }
}

async function namingPaths<T>(paths: { source: string; target: string }, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const reading = error instanceof VolsealError && ['pread', 'read'].includes(String(error.details.syscall));
    throw withPath(error, reading ? paths.source : paths.target);
  }
}
