// node open-often.js FILE TIMES THREADS: in so many threads, opens the store so many times, takes its write lock and
// closes it; once in 50 times it counts in it, which takes longer.
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { openRecords } from '../../src/lmdb/records.js';

const WHAT = { name: 'the store', code: 'ERR_KMS_STORE', bytesMax: 1024 * 1024 * 1024 } as const;

async function count([path = '', times = '']: readonly string[]): Promise<void> {
  for (let done = 0; done < Number(times); done += 1) {
    const records = openRecords(path, WHAT);
    records.transaction(() => {
      const count = Number(records.get('count')) || 0;
      if (done % 50 === 0) records.put('count', count + 1);
    });
    await records.close();
  }
}

if (isMainThread) {
  const words = process.argv.slice(2);
  for (let thread = 1; thread < Number(words[2]); thread += 1) new Worker(fileURLToPath(import.meta.url), { workerData: words });
  await count(words);
} else await count(workerData as string[]);
