/**
 * Native modules that threads of the pool are loading. `process.exit` ends threads wherever they are, and LMDB's addon
 * aborts the whole process if its thread ends while the addon is being loaded: so the process waits for that first.
 */
import { workerData } from 'node:worker_threads';
import { NATIVE_LOAD_WAIT_MS } from '../limits.js';

/** How many threads of this thread's pools are loading; each of them has it as its `workerData`. */
export const poolLoads = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

/** In a thread of the pool: counts while `load` runs. Elsewhere only runs it. @throws what `load` throws */
export async function whileLoading<Result>(load: () => Promise<Result>): Promise<Result> {
  if (!(workerData instanceof Int32Array)) return load();
  Atomics.add(workerData, 0, 1);
  try {
    return await load();
  } finally {
    Atomics.sub(workerData, 0, 1);
    Atomics.notify(workerData, 0);
  }
}

/** Blocks until no thread is loading, for `NATIVE_LOAD_WAIT_MS` at most: for the process's `exit` event. */
export function waitForLoads(): void {
  const deadline = Date.now() + NATIVE_LOAD_WAIT_MS;
  for (let loading = Atomics.load(poolLoads, 0); loading > 0; loading = Atomics.load(poolLoads, 0)) {
    const leftMs = deadline - Date.now();
    if (leftMs <= 0) return;
    Atomics.wait(poolLoads, 0, loading, leftMs);
  }
}
