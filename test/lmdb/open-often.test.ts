/** A store that processes and threads open and close at the same time (native/base/store_guard.h). */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'vitest';
import { openRecords } from '../../src/lmdb/records.js';
import { built } from '../built.js';
import { sandbox } from '../volume/sandbox.js';

const TIMES = 500;
/** Of each process. */
const THREADS = [1, 1, 1, 3];

test('each of many openings in several processes can write; the last one to close takes nothing from the others', async () => {
  const path = sandbox().path('store.mdb');
  const children = THREADS.map((threads) =>
    spawn(process.execPath, [built('test/lmdb/open-often.ts'), path, String(TIMES), String(threads)], {
      stdio: ['ignore', 'inherit', 'pipe'],
    }),
  );
  const outcomes = children.map(async (child) => {
    let said = '';
    child.stderr.on('data', (text) => {
      said += text;
    });
    const [status] = await once(child, 'close');
    assert.equal(status, 0, said.slice(0, 2000));
  });
  await Promise.all(outcomes);
  const records = openRecords(path, { name: 'the store', code: 'ERR_KMS_STORE', bytesMax: 1024 * 1024 * 1024 });
  assert.equal(records.get('count'), (TIMES / 50) * THREADS.reduce((sum, threads) => sum + threads));
  await records.close();
});
