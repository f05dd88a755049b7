import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { encryptImage } from '../../src/index.js';
import { leasePool, poolIsUsed } from '../../src/workers/pool.js';
import { built } from '../built.js';
import { until } from '../until.js';
import { sandbox } from '../volume/sandbox.js';

/** The threads that start from now on. */
function startedThreads(): Worker[] {
  const threads: Worker[] = [];
  const add = (thread: Worker): void => void threads.push(thread);
  process.on('worker', add);
  onTestFinished(() => void process.off('worker', add));
  return threads;
}

test('uses one after another share the threads, which end a moment after the last', async () => {
  const threads = startedThreads();
  for (let use = 0; use < 20; use += 1) {
    const lease = leasePool();
    await lease.run({ kind: 'loadKms', of: 'embedded' });
    await lease.release();
  }
  expect(poolIsUsed()).toBe(false);
  expect(threads.length).toBe(1);
  await once(threads[0]!, 'exit');
  const lease = leasePool();
  await lease.run({ kind: 'loadKms', of: 'embedded' });
  await lease.release();
  expect(threads.length).toBe(2);
  await once(threads[1]!, 'exit');
});

test('a thread that fails without a task does not end the process, and the next use has threads', async () => {
  const threads = startedThreads();
  const lease = leasePool();
  await lease.run({ kind: 'iterations', milliseconds: 1 });
  threads[0]!.emit('error', new Error('out of memory'));
  await once(threads[0]!, 'exit');
  const next = leasePool();
  expect(await next.run({ kind: 'iterations', milliseconds: 1 })).toBeGreaterThan(0);
  await next.release();
  await lease.release();
  // Those of both pools.
  await until(() => threads.every(({ threadId }) => threadId === -1));
});

test('a program ends with its last detach, and its threads have written nothing', async () => {
  const box = sandbox();
  box.image('disk.raw', 1024 * 1024);
  await encryptImage(box.path('disk.raw'), box.path('disk.vol'), { kms: box.kms });
  const program = `
    import { attach } from ${JSON.stringify(built('src/index.ts'))};
    let threads = 0;
    let ended = 0;
    process.on('worker', (worker) => { threads += 1; worker.on('exit', () => { ended += 1; }); });
    process.on('exit', () => process.stdout.write([threads, ended].join()));
    for (let time = 0; time < 3; time += 1) await (await attach(process.argv[1], { kms: process.argv[2] })).detach();
  `;
  const { AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: _, ...environment } = process.env;
  const words = ['--input-type=module', '--eval', program, box.path('disk.vol'), box.kms];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', env: environment });
  // No thread had ended: the process did not wait for that.
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '1,0', stderr: '' });
});

test('a process that exits while a thread loads a native module waits for it', () => {
  const { status, stdout } = spawnSync(process.execPath, [built('test/workers/exit-while-loading.ts')], { encoding: 'utf8' });
  expect({ status, stdout }).toEqual({ status: 3, stdout: 'loading, loaded' });
});
