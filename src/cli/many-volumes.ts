/** Of commands that take several volumes: one that fails keeps no other away, and each failure is told. */
import { VolsealError } from '../errors.js';
import type { Output } from './terminal/output.js';

/** A volume that was refused. */
export interface FailedVolume {
  readonly path: string;
  readonly error: VolsealError;
}

/** @param error with the job in place that is in the way, where one is @throws what is none of volseal's errors */
export async function failedVolume(path: string, error: unknown): Promise<FailedVolume> {
  const named = await (await import('../in-place/name-job.js')).nameJob(error);
  if (named instanceof VolsealError) return { path, error: named };
  throw named;
}

/**
 * Tells what failed, after the result for the others.
 * @param counts of all volumes, and of those that are done; some were perhaps not tried
 * @param what was done: "rewrapped", for example
 * @throws {VolsealError} the first failure, where there is one
 */
export function tellFailed(
  output: Output,
  failed: readonly FailedVolume[],
  { all, done }: { all: number; done: number },
  what: string,
): void {
  const [first] = failed;
  if (first === undefined) return;
  if (all === 1) throw first.error;
  for (const { error } of failed) output.warning(error.message);
  const { code, message, details } = first.error;
  throw new VolsealError(code, `${all - done} of ${all} volumes were not ${what}; the first: ${message}`, { details });
}
