/** Random bytes that one number decides, so that a run can be repeated. */
import { createCipheriv } from 'node:crypto';

/** The seed of this run. The global set-up chooses and prints it; VOLSEAL_TEST_SEED=N repeats a run. */
export const SEED = Number(process.env.VOLSEAL_TEST_SEED);

/** A stream of bytes that the seed alone decides (AES-128 in counter mode). */
export function seededBytes(seed: number): (length: number) => Buffer {
  const key = Buffer.alloc(16);
  key.writeDoubleLE(seed);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  return (length) => cipher.update(Buffer.alloc(length));
}

/** Whole numbers from 0 to `limit` - 1 that the seed alone decides. */
export function seededNumbers(seed: number): (limit: number) => number {
  const bytes = seededBytes(seed);
  return (limit) => Math.floor((bytes(6).readUIntLE(0, 6) / 2 ** 48) * limit);
}
