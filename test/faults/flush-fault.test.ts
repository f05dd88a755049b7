import assert from 'node:assert/strict';
import { test } from 'vitest';
import { createVolume } from '../../src/index.js';
import { built } from '../built.js';
import { describeUnless } from '../requirements.js';
import { sandbox } from '../volume/sandbox.js';
import { runInjected, skipInjection } from './injected.js';

const FLUSH_TWICE = built('test/faults/flush-twice.ts');

describeUnless(skipInjection())('a flush that fails', () => {
  test('is final: no later write or flush succeeds, reads still work, and detach reports the failure and detaches', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
    const { stdout } = runInjected('fdatasync:error=EIO:when=1', FLUSH_TWICE, [box.path('a.vol'), box.kms], box.path('a.vol'));
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
