/** Runs large enough for stores past the caches, in Buffers as Node allocates them: 16 bytes behind a page's start. */
import assert from 'node:assert/strict';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { type KeyHandle, native } from '../../src/native.js';
import { SEED, seededBytes } from '../seed.js';
import { importKey } from '../vault/test-keys.js';
import { usableKernels } from './kernels.js';
import { referenceTransform } from './reference.js';

/**
 * Kernels store past the caches from 32 MiB on (kStreamFromBytes in native/xts/xts.h); and an odd number of sectors
 * beyond.
 */
const STREAM_FROM_BYTES = 32 * 1024 * 1024;

for (const [sectorBytes, keyBytes] of [
  [512, 64],
  [4096, 32],
] as const) {
  describe(`32 MiB and three sectors out of place, AES-${keyBytes * 4}, ${sectorBytes}-byte sectors`, () => {
    const unit = 2 ** 32 - 8 * 1024;
    let handle: KeyHandle;
    let plaintext: Buffer;
    let ciphertext: Buffer;

    beforeAll(() => {
      const random = seededBytes(SEED);
      const key = random(keyBytes);
      handle = importKey(key);
      native.xtsPrepare(handle);
      plaintext = random(STREAM_FROM_BYTES + 3 * sectorBytes);
      ciphertext = referenceTransform(key, true, plaintext, sectorBytes, unit);
    });
    afterAll(() => {
      native.keyWipe(handle);
    });

    for (const kernel of usableKernels()) {
      test(`${kernel} gives OpenSSL's bytes, both ways, at the Buffer's start and one byte on`, () => {
        for (const [encrypt, input, expected] of [
          [true, plaintext, ciphertext],
          [false, ciphertext, plaintext],
        ] as const) {
          for (const offset of [0, 1]) {
            const area = Buffer.allocUnsafeSlow(input.length + 2).fill(0xe7);
            const target = area.subarray(offset, offset + input.length);
            native.xtsTransform(handle, encrypt, sectorBytes, unit, input, target, kernel);
            assert.ok(target.equals(expected), `offset ${offset}`);
            assert.ok(area.subarray(offset + input.length).every((byte) => byte === 0xe7));
          }
        }
      });
    }
  });
}
