/** At most so many requests a second, evenly. */
import { setTimeout } from 'node:timers/promises';

/** The time, and how to let it pass: tests have their own. */
export interface Clock {
  nowMs(): number;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

const SYSTEM: Clock = {
  nowMs: () => performance.now(),
  sleep: (ms, signal) => setTimeout(ms, undefined, { signal }),
};

/** A timer is not exact to less: shorter waits add up until they are worth one. */
const SHORTEST_WAIT_MS = 4;

/** Gives each request its turn. */
export class Pace {
  readonly #intervalMs: number;
  readonly #clock: Clock;
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number, clock: Clock = SYSTEM) {
    this.#intervalMs = 1000 / perSecond;
    this.#clock = clock;
  }

  /** Resolves when the next request may be sent. @throws the reason of `signal` */
  async turn(signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.nowMs();
    const mineMs = Math.max(this.#nextMs, nowMs);
    this.#nextMs = mineMs + this.#intervalMs;
    if (mineMs - nowMs >= SHORTEST_WAIT_MS) await this.#clock.sleep(mineMs - nowMs, signal);
  }
}
