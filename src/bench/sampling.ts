/**
 * Taking turns: every contender has one turn a round, so that a slower minute of the machine falls on all of them
 * alike, in an order that changes, so that no one always follows the same other one; what is reported is the median
 * over the rounds.
 */
import { randomInt } from 'node:crypto';
import { setImmediate as nextTurnOfTheLoop } from 'node:timers/promises';
import { Bench } from 'tinybench';
import { VolsealError } from '../errors.js';
import { native } from '../native.js';
import type { Subject } from './measurement.js';

/**
 * A sample is at least this long: two readings of the clock, system calls of about 0.3 us each, are then nothing beside
 * it.
 */
const SAMPLE_NS_MIN = 500_000;
/** Samples of one turn, at least; their median is what the turn says. */
const SAMPLES_MIN = 3;

/** Something that is measured. */
export interface Contender {
  subject: Subject;
  /** Has one turn. @returns GB/s */
  turn(): number | Promise<number>;
}

export interface SamplingOptions {
  /** Turns of each contender, at most. */
  rounds: number;
  /** No further round begins after this many milliseconds. */
  budgetMs: number;
  /** Ends the measuring with `ERR_ABORTED`, within one turn. */
  signal?: AbortSignal | undefined;
  /** Called after each turn. */
  onTurn?: ((doneTurns: number, totalTurns: number) => void) | undefined;
}

export interface Sampled {
  subject: Subject;
  /** GB/s of each round. */
  turns: number[];
}

/**
 * A contender that runs in this thread: `run` handles `byteLength` bytes. It is timed by the CPU time of the thread, in
 * batches of calls that are long enough for the clock, after an untimed call in each turn, which brings its buffers
 * back into the caches.
 *
 * @param turnMs how long a turn takes, at least, and at least three samples
 * @param prepare called before each turn, untimed
 */
export function inThread(subject: Subject, byteLength: number, turnMs: number, run: () => void, prepare = () => {}): Contender {
  let calls = 0;
  const bench = new Bench({
    now: () => native.threadCpuNs() / 1e6,
    time: turnMs,
    iterations: SAMPLES_MIN,
    warmupTime: 0,
    warmupIterations: 1,
    throws: true,
  });
  const batch = (): void => {
    for (let call = 0; call < calls; call++) run();
  };
  bench.add('batch', batch, { async: false });
  return {
    subject,
    turn() {
      prepare();
      if (calls === 0) calls = callsPerSample(run);
      bench.reset();
      const [task] = bench.runSync();
      const result = task?.result;
      if (result?.state !== 'completed') throw new Error(`${subject.name}: the sampler ended in the state ${result?.state}`);
      return (byteLength * calls) / (result.latency.p50 * 1e6);
    },
  };
}

/**
 * Calls that together take `SAMPLE_NS_MIN`, found by doubling: the first ones, untimed memory and code, do not decide.
 */
function callsPerSample(run: () => void): number {
  for (let calls = 1; ; calls *= 2) {
    const startedNs = native.threadCpuNs();
    for (let call = 0; call < calls; call++) run();
    if (native.threadCpuNs() - startedNs >= SAMPLE_NS_MIN) return calls;
  }
}

/**
 * Gives each contender a turn a round, each round in a random order: after a second in which this thread waited for a
 * program, or in which another one wore the caches out, the clock and the caches are not what they were.
 *
 * @throws {VolsealError} `ERR_ABORTED`, and whatever a contender throws
 */
export async function takeTurns(contenders: readonly Contender[], options: SamplingOptions): Promise<Sampled[]> {
  const sampled = contenders.map(({ subject }): Sampled => ({ subject, turns: [] }));
  const startedMs = performance.now();
  for (let round = 0; round < options.rounds && (round === 0 || performance.now() - startedMs < options.budgetMs); round++) {
    for (const [done, index] of shuffled(contenders.length).entries()) {
      // Signals and the progress bar are heard between turns only.
      await nextTurnOfTheLoop();
      if (options.signal?.aborted) {
        throw new VolsealError('ERR_ABORTED', 'stopped on request: the measurements are not complete', { cause: options.signal.reason });
      }
      sampled[index]!.turns.push(await contenders[index]!.turn());
      options.onTurn?.(round * contenders.length + done + 1, options.rounds * contenders.length);
    }
  }
  return sampled;
}

/** The numbers from 0 to `count` - 1 in a random order. */
export const shuffled = (count: number): number[] =>
  Array.from({ length: count }, (_, index) => ({ index, rank: randomInt(2 ** 47) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ index }) => index);

/** The middle of `numbers`, which are not none; between the two middle ones where their count is even. */
export const median = (numbers: readonly number[]): number => quantile(numbers, 0.5);

/** The interquartile range of `numbers`, as a share of their median. */
export const spread = (numbers: readonly number[]): number => (quantile(numbers, 0.75) - quantile(numbers, 0.25)) / median(numbers);

/** Linear between the two nearest ranks. */
function quantile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const rank = (sorted.length - 1) * share;
  const below = sorted[Math.floor(rank)]!;
  return below + (sorted[Math.ceil(rank)]! - below) * (rank - Math.floor(rank));
}
