/** A caller's `AbortSignal`, between the steps of a job. */
import { VolsealError } from '../errors.js';

/** @param outcome what has become of the caller's files @throws {VolsealError} `ERR_ABORTED` once the signal has come */
export function throwIfAborted(signal: AbortSignal | undefined, outcome = 'targets are as they were before'): void {
  if (signal?.aborted) throw new VolsealError('ERR_ABORTED', `stopped on request; ${outcome}`, { cause: signal.reason });
}
