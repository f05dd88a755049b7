// node end-thread.js VOLUME KMS: threads attach the volume, one after the other, and are ended in the middle of their
// requests; prints "ended" for each.
import { once } from 'node:events';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { attach } from '../../src/index.js';

const [path, kms] = process.argv.slice(2) as [string, string];
if (isMainThread) {
  for (let round = 0; round < 5; round++) {
    const worker = new Worker(new URL(import.meta.url), { argv: [path, kms] });
    await once(worker, 'message');
    await worker.terminate();
    console.log('ended');
  }
} else {
  // For reading: the lock of a writer might outlive its thread.
  const volume = await attach(path, { kms, readOnly: true });
  const target = new Uint8Array(new SharedArrayBuffer(1_000_000));
  const again = async (): Promise<void> => {
    for (;;) await Promise.all([volume.read(0, 3_000_000), volume.readInto(5, target), volume.extents(0, 4096)]);
  };
  const busy = [again(), again(), again()];
  parentPort!.postMessage('busy');
  await Promise.all(busy);
}
