/**
 * Random cases by count. `npm run fuzz` runs the short form; VOLSEAL_FUZZ_TIMES=100 runs a hundred times as many. Each
 * case has a seed of its own, so that a failure can be repeated alone.
 */
import { SEED, seededBytes, seededNumbers } from '../seed.js';

const TIMES = Number(process.env.VOLSEAL_FUZZ_TIMES ?? 1);

/** What a case draws from; its seed alone decides all of it. */
export interface Draw {
  readonly seed: number;
  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number;
  bytes(length: number): Buffer;
  /** One of these. */
  oneOf<T>(choices: readonly T[]): T;
}

/** What the seed `seed` draws. */
export function drawOf(seed: number): Draw {
  const below = seededNumbers(seed);
  const bytes = seededBytes(seed + 0.5);
  return { seed, below, bytes, oneOf: (choices) => choices[below(choices.length)]! };
}

const counted = (count: number): number => Math.ceil(count * TIMES);

const withSeed = (seed: number, index: number, error: unknown): Error =>
  new Error(`case ${index} fails; VOLSEAL_TEST_SEED=${seed} makes it the first one`, { cause: error });

/**
 * Runs `count` cases, or as many times more as were asked for. @throws {Error} that names the seed of the case that
 * failed
 */
export function forEachCase(count: number, run: (draw: Draw) => void): void {
  for (let index = 0; index < counted(count); index++) {
    try {
      run(drawOf(SEED + index));
    } catch (error) {
      throw withSeed(SEED + index, index, error);
    }
  }
}

/** The same for cases that wait for something, one after the other. */
export async function forEachSlowCase(count: number, run: (draw: Draw) => Promise<void>): Promise<void> {
  for (let index = 0; index < counted(count); index++) {
    try {
      await run(drawOf(SEED + index));
    } catch (error) {
      throw withSeed(SEED + index, index, error);
    }
  }
}

/** `bytes` with one to four small changes: bits flipped, bytes replaced, ranges removed, repeated or swapped. */
export function mutated(draw: Draw, bytes: Buffer): Buffer {
  let result = Buffer.from(bytes);
  for (let change = draw.below(4); change >= 0; change--) {
    const at = draw.below(result.length + 1);
    const end = Math.min(result.length, at + 1 + draw.below(16));
    const piece = result.subarray(at, end);
    const interesting = Buffer.from(
      draw.oneOf(['"', '\\', '{', '}', '[', ']', ',', ':', '\0', '\u00ff', '-1', '1e999', '\\u0000', 'null']),
    );
    result = draw.oneOf([
      () => Buffer.concat([result.subarray(0, at), piece.map((byte) => byte ^ (1 << draw.below(8))), result.subarray(end)]),
      () => Buffer.concat([result.subarray(0, at), interesting, result.subarray(end)]),
      () => Buffer.concat([result.subarray(0, at), interesting, result.subarray(at)]),
      () => Buffer.concat([result.subarray(0, at), result.subarray(end)]),
      () => Buffer.concat([result.subarray(0, end), piece, result.subarray(end)]),
    ])();
  }
  return result;
}
