import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import * as z from 'zod';
import { native } from '../../src/native.js';
import { withKey, withVolumeKey } from '../vault/test-keys.js';
import { usableKernels } from './kernels.js';

const hex = z.string().regex(/^([0-9a-f]{2})+$/);
const vectorFile = z.object({
  source: z.string(),
  vectors: z.array(
    z.object({
      number: z.number().optional(),
      direction: z.enum(['encrypt', 'decrypt']).optional(),
      key1: hex,
      key2: hex,
      dataUnitSequenceNumber: z.number().int(),
      plaintext: hex,
      ciphertext: hex,
    }),
  ),
});

function readVectors(name: string): z.infer<typeof vectorFile>['vectors'] {
  const text = readFileSync(new URL(`../vectors/${name}`, import.meta.url), 'utf8');
  return vectorFile.parse(JSON.parse(text)).vectors;
}

/**
 * Transforms the beginning of one 512-byte sector. A block of a data unit depends on no later one, so a vector shorter
 * than a sector says what a sector's first blocks must be.
 */
function transformBeginning(key: Buffer, encrypt: boolean, input: Buffer, unit: number, kernel: string): Buffer {
  const source = Buffer.concat([input, Buffer.alloc(512 - input.length, 0x5a)]);
  const target = Buffer.alloc(512);
  withVolumeKey(key, (handle) => native.xtsTransform(handle, encrypt, 512, unit, source, target, kernel));
  return target.subarray(0, input.length);
}

const ieee = readVectors('ieee1619-annex-b.json');
const nist = readVectors('nist-cavp-xts.json');

for (const kernel of usableKernels()) {
  describe(`published vectors, kernel ${kernel}`, () => {
    const suites = [
      ['IEEE 1619-2007, annex B, 2 to 14', ieee.filter(({ number }) => number !== 1), 13],
      ['NIST CAVP', nist, 160],
    ] as const;
    for (const [name, vectors, count] of suites) {
      for (const encrypt of [true, false]) {
        test(`${name}, ${encrypt ? 'encrypt' : 'decrypt'}`, () => {
          assert.equal(vectors.length, count);
          for (const { key1, key2, dataUnitSequenceNumber, plaintext, ciphertext, number } of vectors) {
            const [input, expected] = encrypt ? [plaintext, ciphertext] : [ciphertext, plaintext];
            const output = transformBeginning(
              Buffer.from(key1 + key2, 'hex'),
              encrypt,
              Buffer.from(input, 'hex'),
              dataUnitSequenceNumber,
              kernel,
            );
            assert.equal(output.toString('hex'), expected, `vector ${number ?? key1}`);
          }
        });
      }
    }
  });
}

describe('a key with equal halves', () => {
  test('is refused: IEEE 1619 vector 1', () => {
    const { key1, key2 } = ieee.find(({ number }) => number === 1)!;
    withKey(Buffer.from(key1 + key2, 'hex'), (key) => {
      assert.throws(() => native.xtsPrepare(key), { code: 'ERR_ARGUMENT', message: /halves/ });
    });
  });

  test('is refused at both lengths, and serves neither direction afterwards', () => {
    for (const half of [16, 32]) {
      withKey(Buffer.concat([Buffer.alloc(half, 0xc3), Buffer.alloc(half, 0xc3)]), (key) => {
        assert.throws(() => native.xtsPrepare(key), { code: 'ERR_ARGUMENT' });
        for (const encrypt of [true, false]) {
          const sector = Buffer.alloc(512);
          assert.throws(() => native.xtsTransform(key, encrypt, 512, 0, sector), { code: 'ERR_ARGUMENT' });
          assert.ok(sector.equals(Buffer.alloc(512)));
        }
      });
    }
  });

  test('a difference in one bit anywhere is enough', () => {
    for (const half of [16, 32]) {
      for (let bit = 0; bit < half * 8; bit += 37) {
        const bytes = Buffer.alloc(2 * half, 0xc3);
        bytes[half + (bit >> 3)]! ^= 1 << (bit & 7);
        withKey(bytes, (key) => native.xtsPrepare(key));
      }
    }
  });
});
