/** Backups of headers and stock cryptsetup: each restores what the other has made. */
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'vitest';
import { backupHeader, decryptImage, describeVolume, encryptImage, restoreHeader } from '../../src/index.js';
import { describeUnless } from '../requirements.js';
import { sandbox } from '../volume/sandbox.js';
import { runTool, skipWithout } from './tools.js';

async function loseHeader(path: string): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(8192, 0x55), 0, 8192, 100);
  await file.write(Buffer.alloc(8192, 0x55), 0, 8192, 16384 + 100);
  await file.close();
}

describeUnless(skipWithout('cryptsetup'))('a backup of a header', () => {
  test('is restored by cryptsetup luksHeaderRestore', async () => {
    const box = sandbox();
    const image = box.image('disk.raw', 1024 * 1024);
    const [volume, backup] = [box.path('disk.vol'), box.path('backup')];
    await encryptImage(box.path('disk.raw'), volume, { kms: box.kms });
    await backupHeader(volume, backup);
    runTool('cryptsetup', ['luksDump', backup]);
    await loseHeader(volume);
    runTool('cryptsetup', ['luksHeaderRestore', '--batch-mode', '--header-backup-file', backup, volume]);
    await decryptImage(volume, box.path('back.raw'), { kms: box.kms });
    assert.ok(box.contents('back.raw').equals(image));
  });

  test('of cryptsetup luksHeaderBackup is restored by volseal', async () => {
    const box = sandbox();
    const image = box.image('disk.raw', 1024 * 1024);
    const [volume, backup] = [box.path('disk.vol'), box.path('backup')];
    await encryptImage(box.path('disk.raw'), volume, { kms: box.kms });
    runTool('cryptsetup', ['luksHeaderBackup', '--batch-mode', '--header-backup-file', backup, volume]);
    await loseHeader(volume);
    await restoreHeader(volume, backup, { kms: box.kms });
    assert.deepEqual((await describeVolume(volume)).headerCopies, { primary: 'good', secondary: 'good' });
    await decryptImage(volume, box.path('back.raw'), { kms: box.kms });
    assert.ok(box.contents('back.raw').equals(image));
  });
});
