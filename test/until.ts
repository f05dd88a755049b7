/** Waiting for an event that only looking can show. */
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 20;

/**
 * Resolves with the first value of `look` that is not false. It has no deadline: the test's own ends a wait in vain.
 */
export async function until<T>(look: () => T | false | Promise<T | false>): Promise<T> {
  for (;;) {
    const seen = await look();
    if (seen !== false) return seen;
    await sleep(POLL_MS);
  }
}
