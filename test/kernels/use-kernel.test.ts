/** The library's choice of kernel: the whole process's, with errors that name what is wrong. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, test } from 'vitest';
import { attach, createVolume, type KernelName, kernels, useKernel, VolsealError } from '../../src/index.js';
import { built } from '../built.js';
import { sandbox } from '../volume/sandbox.js';

const inUse = (): KernelName[] =>
  kernels()
    .filter((kernel) => kernel.inUse)
    .map(({ name }) => name);
const usable = kernels().flatMap(({ name, usable }) => (usable ? [name] : []));

/** What another thread of this process sees. */
async function inUseElsewhere(): Promise<KernelName> {
  const worker = new Worker(built('test/kernels/report-kernel.ts'));
  const [name] = (await once(worker, 'message')) as [KernelName];
  await worker.terminate();
  return name;
}

describe('useKernel', () => {
  afterEach(() => useKernel());

  test('without a choice it is the first that can run', () => {
    assert.deepEqual(inUse(), [usable[0]]);
  });

  for (const name of usable) {
    test(`${name} is in use in every thread until it is undone`, async () => {
      useKernel(name);
      assert.deepEqual(inUse(), [name]);
      assert.equal(await inUseElsewhere(), name);
      useKernel();
      assert.deepEqual(inUse(), [usable[0]]);
      assert.equal(await inUseElsewhere(), usable[0]);
    });
  }

  test('a choice that cannot be is refused, and the one before it stays', () => {
    useKernel('portable');
    const impossible = kernels().filter((kernel) => !kernel.usable);
    for (const name of [...impossible.map((kernel) => kernel.name), 'none', 'AESNI', 'aesni ']) {
      assert.throws(
        () => useKernel(name as KernelName),
        (error) => {
          assert.ok(error instanceof VolsealError);
          assert.equal(error.code, 'ERR_ARGUMENT');
          assert.equal(error.details.kernel, name);
          assert.ok(error.message.includes(name), error.message);
          return true;
        },
      );
      assert.deepEqual(inUse(), ['portable']);
    }
    assert.throws(() => useKernel(5 as unknown as KernelName), { code: 'ERR_ARGUMENT' });
  });

  test('an attached volume keeps working under another kernel', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 64 * 1024, kms: box.kms });
    await using volume = await attach(box.path('a.vol'), { kms: box.kms });
    for (const [index, name] of usable.entries()) {
      useKernel(name);
      await volume.write(index * 8192, Buffer.alloc(8192, name));
    }
    for (const name of usable) {
      useKernel(name);
      for (const [index, written] of usable.entries()) {
        assert.ok(Buffer.alloc(8192, written).equals(await volume.read(index * 8192, 8192)), `${name} reads what ${written} wrote`);
      }
    }
  });
});
