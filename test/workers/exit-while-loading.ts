// Exits with 3 once a thread has begun to load something, which takes it 300 ms more.
import { writeSync } from 'node:fs';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { poolLoads, waitForLoads, whileLoading } from '../../src/workers/native-loads.js';

const LOADING_MS = 300;

if (isMainThread) {
  process.on('exit', waitForLoads);
  new Worker(new URL(import.meta.url), { workerData: poolLoads }).once('message', () => process.exit(3));
} else {
  await whileLoading(async () => {
    writeSync(1, 'loading, ');
    parentPort!.postMessage('begun');
    // As dlopen(3) does it: without a turn of the event loop.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOADING_MS);
    writeSync(1, 'loaded');
  });
}
