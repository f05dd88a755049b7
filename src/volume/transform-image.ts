/**
 * A whole image through the cipher: ranges of it side by side in the pool's threads, with progress, and an end at the caller's signal.
 */
import { VolsealError, withPath } from '../errors.js';
import { IMAGE_RANGE_BYTES } from '../limits.js';
import { native, type TransformOptions } from '../native.js';
import type { PoolLease } from '../workers/pool.js';

/** How far a whole-image job has come, in bytes of the image. */
export interface Progress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface JobOptions {
  /** Ends the job with `ERR_ABORTED`; no target is left. */
  signal?: AbortSignal | undefined;
  /** Called now and then while data moves, and once at the end. */
  onProgress?: ((progress: Progress) => void) | undefined;
}

/** @param outcome what has become of the caller's files @throws {VolsealError} `ERR_ABORTED` once the signal has come */
export function throwIfAborted(signal: AbortSignal | undefined, outcome = 'targets are as they were before'): void {
  if (signal?.aborted) throw new VolsealError('ERR_ABORTED', `stopped on request; ${outcome}`, { cause: signal.reason });
}

/**
 * Runs the transform that `options` describes, with as many ranges in flight as the pool has threads.
 *
 * @param paths the files' names, for messages: where reading fails the first, where writing fails the second
 * @throws {VolsealError} `ERR_IO`, `ERR_ABORTED`
 */
export async function transformImage(
  pool: PoolLease,
  options: TransformOptions,
  paths: { source: string; target: string },
  { signal, onProgress }: JobOptions,
): Promise<void> {
  const totalBytes = options.targetBytes;
  const naming = async <T>(call: () => Promise<T>): Promise<T> => {
    try {
      return await call();
    } catch (error) {
      const reading = error instanceof VolsealError && error.details.syscall === 'pread';
      throw withPath(error, reading ? paths.source : paths.target);
    }
  };
  const transform = await naming(() => pool.run({ kind: 'openTransform', options }));
  let nextByte = 0;
  let doneBytes = 0;
  let failed = false;
  const runRanges = async (): Promise<void> => {
    while (nextByte < totalBytes && !failed) {
      throwIfAborted(signal);
      const startByte = nextByte;
      const lengthBytes = Math.min(IMAGE_RANGE_BYTES, totalBytes - startByte);
      nextByte += lengthBytes;
      await naming(() => pool.run({ kind: 'transform', transform, startByte, lengthBytes }));
      doneBytes += lengthBytes;
      onProgress?.({ doneBytes, totalBytes });
    }
  };
  const lanes = Array.from({ length: pool.threads }, () =>
    runRanges().catch((error) => {
      failed = true;
      throw error;
    }),
  );
  // All must have ended before the transform is closed, the failed ones and the others.
  const outcomes = await Promise.allSettled(lanes);
  native.transformClose(transform);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}
