/** Waiting for what cannot be stopped. */
import { once } from 'node:events';

/**
 * The result of `work`. @throws what `work` throws; the signal's reason as soon as it aborts, or where it has aborted
 * before, while `work` continues unobserved
 */
export async function untilAborted<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> {
  const done = new AbortController();
  // A signal that has aborted tells nobody again.
  if (signal.aborted) {
    work.catch(() => {});
    throw signal.reason;
  }
  const aborted = once(signal, 'abort', { signal: done.signal }).then(() => {
    throw signal.reason;
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    done.abort();
  }
}
