/** A worker_thread of the user's that is terminated: its keys are wiped and its locks released, and nobody else's. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { test } from 'vitest';
import { attach, encryptImage, encryptInPlace } from '../../src/index.js';
import { native } from '../../src/native.js';
import { ROOT } from '../built.js';
import { until } from '../until.js';
import { sandbox } from '../volume/sandbox.js';

const LIBRARY = join(ROOT, 'dist/lib/index.js');

/** A thread that attaches the volume for writing, says so, and then waits for ever. */
async function attachedElsewhere(path: string, kms: string): Promise<Worker> {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.library)
      .then(({ attach }) => attach(workerData.path, { kms: workerData.kms }))
      .then(async (volume) => {
        globalThis.volume = volume;
        await volume.read(0, 512);
        parentPort.postMessage('attached');
        setInterval(() => {}, 1000);
      });`;
  const worker = new Worker(code, { eval: true, workerData: { library: LIBRARY, path, kms } });
  const [message] = await once(worker, 'message');
  assert.equal(message, 'attached');
  return worker;
}

test('its keys and locks end with it; those of the main thread stay', async () => {
  const box = sandbox();
  const image = box.image('a.raw', 8192);
  for (const name of ['a.vol', 'b.vol']) await encryptImage(box.path('a.raw'), box.path(name), { kms: box.kms });
  const mine = await attach(box.path('b.vol'), { kms: box.kms });
  assert.equal(native.vaultInfo().liveKeys, 1);
  for (let round = 0; round < 2; round++) {
    const worker = await attachedElsewhere(box.path('a.vol'), box.kms);
    assert.equal(native.vaultInfo().liveKeys, 2);
    await assert.rejects(attach(box.path('a.vol'), { kms: box.kms }), { code: 'ERR_STATE_BUSY' });
    await worker.terminate();
    await until(() => native.vaultInfo().liveKeys === 1);
    const again = await attach(box.path('a.vol'), { kms: box.kms });
    assert.ok(image.equals(await again.read(0, image.length)));
    await again.detach();
  }
  assert.ok(image.equals(await mine.read(0, image.length)));
  await mine.detach();
  assert.equal(native.vaultInfo().liveKeys, 0);
});

test('a job in place ends with its thread; another one finishes it', async () => {
  const box = sandbox();
  const image = box.image('a.raw', 4 * 1024 * 1024);
  const path = box.path('a.raw');
  // Stands still after its first part, until it is terminated.
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const onProgress = ({ doneBytes }) => {
      if (doneBytes === 0) return;
      parentPort.postMessage('begun');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    };
    import(workerData.library).then(({ encryptInPlace }) =>
      encryptInPlace(workerData.path, { kms: workerData.kms, partBytes: 1024 * 1024, onProgress }));`;
  const worker = new Worker(code, { eval: true, workerData: { library: LIBRARY, path, kms: box.kms } });
  assert.deepEqual(await once(worker, 'message'), ['begun']);
  await assert.rejects(encryptInPlace(path, { kms: box.kms }), { code: 'ERR_STATE_BUSY' });
  await worker.terminate();
  await until(() => native.vaultInfo().liveKeys === 0);
  const { wasResumed } = await encryptInPlace(path, { kms: box.kms });
  assert.equal(wasResumed, true);
  const volume = await attach(path, { kms: box.kms });
  assert.ok(image.equals(await volume.read(0, image.length)));
  await volume.detach();
});

test('a key that a thread of the pool has unlocked is that of the thread that asked, and outlives the pool’s', () => {
  const key = native.keyGenerate(64);
  assert.equal(native.handleGive(key, native.environmentId()), true);
  assert.equal(native.vaultInfo().liveKeys, 1);
  // A thread that has ended takes nothing: what nobody would wipe is wiped at once.
  assert.equal(native.handleGive(key, 2 ** 40), false);
  assert.equal(native.vaultInfo().liveKeys, 0);
  assert.throws(() => native.keyByteLength(key), { code: 'ERR_KEY_GONE' });
});
