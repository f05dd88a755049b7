/** Custody of both data keys while a volume is re-encrypted in place. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { onTestFinished, test } from 'vitest';
import { encryptImage, verifyVolume } from '../../src/index.js';
import { built } from '../built.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { describeCopies, scanMemory } from './memory-scan.js';

const MIB = 1024 * 1024;

test('old and new key are nowhere in memory but in the vault', async () => {
  const box = sandbox();
  box.image('disk.raw', 6 * MIB);
  const volume = box.path('disk.vol');
  await encryptImage(box.path('disk.raw'), volume, { kms: box.kms });
  const oldKey = await dataKeyOf(volume, box.kms);
  copyFileSync(volume, box.path('copy.vol'));
  const child = spawn(process.execPath, [built('test/in-place/in-place-paused.ts'), volume, box.kms], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout });
  assert.deepEqual(await once(lines, 'line'), ['paused']);
  // The journal has the new header behind the old one.
  writeFileSync(box.path('new.header'), readFileSync(box.path('.disk.vol.in-place')).subarray(MIB, 2 * MIB));
  const newKey = await dataKeyOf(box.path('copy.vol'), box.kms, box.path('new.header'));
  const { outside, scannedBytes } = scanMemory(child.pid!, [oldKey, newKey]);
  assert.equal(describeCopies(outside), '');
  assert.ok(scannedBytes > 20_000_000, `only ${scannedBytes} bytes were scanned`);
  child.stdin.write('\n');
  assert.deepEqual(await once(lines, 'line'), ['done']);
  await verifyVolume(volume, { kms: box.kms, against: box.path('disk.raw') });
  assert.ok((await dataKeyOf(volume, box.kms)).equals(newKey));
});
