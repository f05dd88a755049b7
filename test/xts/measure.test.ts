import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, test } from 'vitest';
import { native } from '../../src/native.js';
import { SEED, seededBytes } from '../seed.js';
import { wrong } from '../vault/test-keys.js';
import { acceleratedKernels, usableKernels } from './kernels.js';

const ARGUMENT = { name: 'VolsealError', code: 'ERR_ARGUMENT' };
const MIB = 1024 * 1024;

/**
 * A view of `length` bytes at an address that is a multiple of 16 and `offset`: Node's large Buffers are 16-aligned.
 */
const aligned = (length: number, offset = 0): Buffer =>
  Buffer.allocUnsafeSlow(Math.max(length + 16, MIB)).subarray(offset, offset + length);

describe('threadCpuNs', () => {
  test('grows with work, and not while the thread waits', async () => {
    const began = native.threadCpuNs();
    native.xtsRoundsOnly(acceleratedKernels()[0] ?? 'aesni', 256 * MIB);
    const worked = native.threadCpuNs();
    assert.ok(worked > began);
    await sleep(300);
    assert.ok(native.threadCpuNs() - worked < 250e6, 'waiting counted as work');
  });
});

describe('xtsRoundsOnly', () => {
  test('takes every length up to 4 GiB, and works longer for more', () => {
    for (const kernel of acceleratedKernels()) {
      native.xtsRoundsOnly(kernel, 1);
      const cost = (byteLength: number): number => {
        const before = native.threadCpuNs();
        native.xtsRoundsOnly(kernel, byteLength);
        return native.threadCpuNs() - before;
      };
      assert.ok(cost(512 * MIB) > 4 * cost(8 * MIB), kernel);
    }
  });

  test('refuses the portable kernel, which has no AES instruction to measure', () => {
    assert.throws(() => native.xtsRoundsOnly('portable', 1024), { ...ARGUMENT, message: /portable/ });
  });

  const refused: Record<string, () => void> = {
    'an unknown kernel': () => native.xtsRoundsOnly('avx1024', 1024),
    'no kernel': () => native.xtsRoundsOnly('', 1024),
    'a kernel that is no text': () => native.xtsRoundsOnly(wrong(512), 1024),
    'length 0': () => native.xtsRoundsOnly('aesni', 0),
    'length -1': () => native.xtsRoundsOnly('aesni', -1),
    'length 0.5': () => native.xtsRoundsOnly('aesni', 0.5),
    'length NaN': () => native.xtsRoundsOnly('aesni', Number.NaN),
    'length beyond 2^32': () => native.xtsRoundsOnly('aesni', 2 ** 32 + 1),
    'length as text': () => native.xtsRoundsOnly('aesni', wrong('1024')),
  };
  for (const [what, call] of Object.entries(refused)) {
    test(`refuses ${what}`, () => assert.throws(call, ARGUMENT));
  }
});

describe('copyBytes', () => {
  test('copies any length, none included', () => {
    for (const length of [0, 1, 511, 512, 4097, MIB + 3]) {
      const source = randomBytes(length);
      const target = Buffer.alloc(length + 2, 0xe7);
      native.copyBytes(source, target.subarray(1, -1));
      assert.ok(target.subarray(1, -1).equals(source));
      assert.deepEqual([target[0], target.at(-1)], [0xe7, 0xe7]);
    }
  });

  test('refuses other lengths, overlap, and what are no bytes', () => {
    const area = Buffer.alloc(1024);
    assert.throws(() => native.copyBytes(area.subarray(0, 512), Buffer.alloc(511)), ARGUMENT);
    assert.throws(() => native.copyBytes(area.subarray(0, 512), area.subarray(511, 1023)), ARGUMENT);
    assert.throws(() => native.copyBytes(area, area), ARGUMENT);
    assert.throws(() => native.copyBytes(wrong('text'), Buffer.alloc(4)), ARGUMENT);
    assert.throws(() => native.copyBytes(Buffer.alloc(4), wrong(new Uint16Array(2))), ARGUMENT);
    native.copyBytes(area.subarray(0, 512), area.subarray(512));
  });
});

describe('streamCopy', () => {
  /** Arm's kernel stores through the caches. */
  const streaming: string[] = acceleratedKernels().filter((name) => name !== 'armv8');

  test('copies from any address, and changes no byte outside the target', () => {
    const random = seededBytes(SEED);
    for (const kernel of streaming) {
      for (const length of [0, 512, 1024, 4096 + 512, 3 * MIB]) {
        for (const [from, to] of [
          [0, 16],
          [1, 0],
          [7, 32],
        ] as const) {
          const source = aligned(length + 64, from).subarray(0, length);
          random(length).copy(source);
          const area = aligned(length + 64).fill(0xe7);
          native.streamCopy(kernel, source, area.subarray(to, to + length));
          const what = `${kernel}, ${length} bytes from ${from} to ${to}`;
          assert.ok(area.subarray(to, to + length).equals(source), what);
          assert.ok(
            Buffer.concat([area.subarray(0, to), area.subarray(to + length)]).every((byte) => byte === 0xe7),
            what,
          );
        }
      }
    }
  });

  test('refuses kernels without such stores', () => {
    for (const kernel of usableKernels().filter((name) => !streaming.includes(name))) {
      assert.throws(() => native.streamCopy(kernel, Buffer.alloc(512), aligned(512)), { ...ARGUMENT, message: new RegExp(kernel) });
    }
  });

  const area = aligned(8192);
  const refused: Record<string, (kernel: string) => void> = {
    'a target off a multiple of 16': (kernel) => native.streamCopy(kernel, Buffer.alloc(512), area.subarray(8, 520)),
    'part of 512 bytes': (kernel) => native.streamCopy(kernel, Buffer.alloc(500), area.subarray(0, 500)),
    'other lengths': (kernel) => native.streamCopy(kernel, Buffer.alloc(1024), area.subarray(0, 512)),
    'the same memory': (kernel) => native.streamCopy(kernel, area.subarray(0, 512), area.subarray(0, 512)),
    'overlap, target behind': (kernel) => native.streamCopy(kernel, area.subarray(0, 1024), area.subarray(512, 1536)),
    'overlap, target first': (kernel) => native.streamCopy(kernel, area.subarray(1008, 2032), area.subarray(0, 1024)),
    'a source that is text': (kernel) => native.streamCopy(kernel, wrong('x'.repeat(512)), area.subarray(0, 512)),
    'a target that is null': (kernel) => native.streamCopy(kernel, Buffer.alloc(512), wrong(null)),
    'an unknown kernel': () => native.streamCopy('avx1024', Buffer.alloc(512), area.subarray(0, 512)),
  };
  for (const [what, call] of Object.entries(refused)) {
    test(`refuses ${what}`, () => {
      for (const kernel of streaming) assert.throws(() => call(kernel), ARGUMENT, kernel);
    });
  }
});
