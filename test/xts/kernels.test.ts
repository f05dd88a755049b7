import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, test } from 'vitest';
import { native } from '../../src/native.js';
import { built } from '../built.js';
import { testUnless } from '../requirements.js';
import { withVolumeKey, wrong } from '../vault/test-keys.js';
import { usableKernels } from './kernels.js';

const NAMES = ['aesni', 'armv8', 'portable', 'vaes256', 'vaes512'];
const inUse = (): string[] =>
  native
    .xtsKernels()
    .filter((kernel) => kernel.inUse)
    .map(({ name }) => name);

describe('xtsKernels', () => {
  test('tells every kernel there is, what it works in, and why it can run or not', () => {
    const kernels = native.xtsKernels();
    assert.deepEqual(kernels.map(({ name }) => name).sort(), NAMES);
    const bits = { aesni: 128, armv8: 128, portable: 128, vaes256: 256, vaes512: 512 };
    for (const { name, vectorBits, usable, reason } of kernels) {
      assert.equal(vectorBits, bits[name], name);
      assert.equal(typeof usable, 'boolean');
      assert.match(reason, /\w+ \w+/, name);
    }
  });

  testUnless(process.arch !== 'x64' && 'not an x86-64 machine')('agrees with what Linux says about the processor', () => {
    const flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' '));
    const has = (...names: string[]): boolean => names.every((name) => flags.has(name));
    const usable = new Set<string>(usableKernels());
    assert.equal(usable.has('aesni'), has('aes', 'sse4_1'));
    assert.equal(usable.has('vaes256'), has('vaes', 'vpclmulqdq', 'avx2'));
    assert.equal(usable.has('vaes512'), has('vaes', 'vpclmulqdq', 'avx512f', 'avx512bw', 'avx512dq', 'avx512vl'));
    assert.ok(!usable.has('armv8'));
  });

  test('names the fastest that can run as the one in use, and the portable one last', () => {
    assert.deepEqual(inUse(), [usableKernels()[0]]);
    assert.equal(usableKernels().at(-1), 'portable');
  });
});

describe('xtsUseKernel', () => {
  afterEach(() => native.xtsUseKernel(''));

  test('forces each kernel that can run, and "" goes back to the fastest', () => {
    for (const name of usableKernels()) {
      native.xtsUseKernel(name);
      assert.deepEqual(inUse(), [name]);
      withVolumeKey(randomBytes(64), (key) => {
        const [forced, named] = [Buffer.alloc(1536), Buffer.alloc(1536)];
        native.xtsTransform(key, true, 512, 3, forced);
        native.xtsTransform(key, true, 512, 3, named, named, 'portable');
        assert.ok(forced.equals(named), name);
      });
    }
    native.xtsUseKernel('');
    assert.deepEqual(inUse(), [usableKernels()[0]]);
  });

  test('reaches the other threads of the process', async () => {
    native.xtsUseKernel('portable');
    const program = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(workerData).then(({ native }) => parentPort.postMessage(native.xtsKernels().find(({ inUse }) => inUse).name));`;
    const worker = new Worker(program, { eval: true, workerData: pathToFileURL(built('src/native.ts')).href });
    const name = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await worker.terminate();
    assert.equal(name, 'portable');
  });

  test('refuses an unknown kernel, names those there are, and changes nothing', () => {
    native.xtsUseKernel('portable');
    for (const name of ['avx1024', 'AESNI', 'aesni ', '\0', 'portable\0']) {
      assert.throws(
        () => native.xtsUseKernel(name),
        (error: Error & { code?: string }) =>
          error.code === 'ERR_ARGUMENT' && error.message.includes(name) && NAMES.every((each) => error.message.includes(each)),
        JSON.stringify(name),
      );
    }
    assert.deepEqual(inUse(), ['portable']);
  });

  test('refuses a kernel that cannot run here, says why, and changes nothing', () => {
    native.xtsUseKernel('portable');
    const impossible = native.xtsKernels().filter(({ usable }) => !usable);
    assert.ok(impossible.length > 0, 'no processor is of two kinds');
    for (const { name, reason } of impossible) {
      const refusal = (error: Error & { code?: string }): boolean =>
        error.code === 'ERR_ARGUMENT' && error.message.includes(name) && error.message.includes(reason);
      assert.throws(() => native.xtsUseKernel(name), refusal);
      const sector = Buffer.alloc(512);
      withVolumeKey(randomBytes(64), (key) => {
        assert.throws(() => native.xtsTransform(key, true, 512, 0, sector, sector, name), refusal);
      });
      assert.ok(sector.equals(Buffer.alloc(512)));
    }
    assert.deepEqual(inUse(), ['portable']);
  });

  test('refuses what is no text', () => {
    for (const name of [undefined, null, 7, {}, ['aesni']]) {
      assert.throws(() => native.xtsUseKernel(wrong(name)), { code: 'ERR_ARGUMENT' });
    }
  });
});

test('the self-test passes, as often as it is asked', () => {
  native.xtsSelfTest();
  const before = native.threadCpuNs();
  for (let i = 0; i < 1000; i++) native.xtsSelfTest();
  // Run a thousand times it would take six seconds; remembered it takes under a millisecond.
  assert.ok(native.threadCpuNs() - before < 0.5e9, 'its outcome is not remembered');
});
