/** A passphrase from a pipe: the thread goes on, and a caller who gives up is not kept waiting. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished, test } from 'vitest';
import { native } from '../../src/native.js';
import { readPassphrase } from '../../src/volume/unlock-keyslot.js';
import { temporaryHome } from '../kms/harness.js';

function pipe(): string {
  const path = join(temporaryHome(), 'pipe');
  assert.equal(spawnSync('mkfifo', ['-m', '600', path]).status, 0);
  return path;
}

/** Both ends at once, so that the opening waits for nobody. */
function writerOf(path: string): number {
  const fd = openSync(path, constants.O_RDWR);
  onTestFinished(() => closeSync(fd));
  return fd;
}

for (const kind of ['recovery', 'passphrase'] as const) {
  test(`${kind}: a writer that does not come, or says nothing, is waited for until the signal`, async () => {
    const path = pipe();
    const nobody = new AbortController();
    const waiting = readPassphrase(kind, path, nobody.signal);
    await sleep(10);
    nobody.abort();
    await assert.rejects(waiting, { code: 'ERR_ABORTED' });
    writerOf(path);
    const silent = new AbortController();
    const reading = readPassphrase(kind, path, silent.signal);
    await sleep(10);
    silent.abort();
    await assert.rejects(reading, { code: 'ERR_ABORTED' });
  });
}

test('a passphrase that comes late and in two pieces is read whole', async () => {
  const path = pipe();
  const reading = readPassphrase('passphrase', path, undefined);
  // A process of its own: the rest is waited for in this thread.
  const writer = spawn('sh', ['-c', '{ printf "correct horse "; sleep 0.2; echo battery staple; } > "$0"', path]);
  onTestFinished(() => void writer.kill());
  const key = await reading;
  assert.equal(native.keyByteLength(key), 'correct horse battery staple'.length);
  native.keyWipe(key);
});
