import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createVolume } from '../../src/index.js';
import { sandbox } from '../volume/sandbox.js';
import { runInjected, skipInjection } from './injected.js';

const FLUSH_TWICE = fileURLToPath(new URL('flush-twice.js', import.meta.url));

describe('a flush that fails', { skip: skipInjection() }, () => {
  test('is final: no later write or flush succeeds, reading goes on, detach says so and detaches', async (t) => {
    const box = sandbox(t);
    await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
    const { stdout } = runInjected('fdatasync:error=EIO:when=1', FLUSH_TWICE, [box.path('a.vol'), box.kms]);
    assert.deepEqual(JSON.parse(stdout), {
      write: 'ok',
      flush: 'ERR_IO',
      flushAgain: 'ERR_STATE_POISONED',
      writeAgain: 'ERR_STATE_POISONED',
      read: 'ok',
      detach: 'ERR_STATE_POISONED',
      readDetached: 'ERR_STATE_DETACHED',
      liveKeys: 0,
    });
  });
});
