/** Keyslots of volseal, judged by stock cryptsetup, and keyslots of cryptsetup, opened by volseal. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import {
  addPassphrase,
  addRecoveryKey,
  attach,
  decryptImage,
  describeVolume,
  encryptImage,
  removeKeyslot,
  testKeyslot,
  VolsealError,
} from '../../src/index.js';
import { describeUnless } from '../requirements.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { runTool, skipWithout, tryTool } from './tools.js';

const opens = (volume: string, passphrase: string, ...more: string[]): boolean =>
  tryTool('cryptsetup', ['open', '--test-passphrase', ...more, volume], { input: passphrase }).status === 0;

async function prepared(sectorBytes = 512) {
  const box = sandbox();
  const image = box.image('disk.raw', 2 * 1024 * 1024);
  const volume = box.path('disk.vol');
  await encryptImage(box.path('disk.raw'), volume, { kms: box.kms, sectorBytes });
  return { box, image, volume, recoveryKeyFile: box.path('recovery.key') };
}

describeUnless(skipWithout('cryptsetup'))('keyslots', () => {
  for (const sectorBytes of [512, 4096]) {
    test(`cryptsetup opens a volume by the text of its recovery key, and decrypts it with that, ${sectorBytes}-byte sectors`, async () => {
      const { box, image, volume, recoveryKeyFile } = await prepared(sectorBytes);
      await addRecoveryKey(volume, recoveryKeyFile, { kms: box.kms });
      const text = readFileSync(recoveryKeyFile, 'latin1');
      // Typed at a prompt, and as a key file.
      assert.ok(opens(volume, `${text}\n`));
      assert.ok(opens(volume, '', '--key-file', recoveryKeyFile));
      assert.ok(!opens(volume, `${text.slice(0, -1)}\n`));
      const dump = runTool('cryptsetup', ['luksDump', volume]);
      assert.match(
        dump,
        /0: luks2\s+Key:\s+512 bits[\s\S]*PBKDF:\s+pbkdf2\s+Hash:\s+sha512\s+Iterations: 1000[\s\S]*AF stripes:\s+4000\s+AF hash:\s+sha512/,
      );
      await removeKeyslot(volume, '0', { kms: box.kms });
      assert.ok(!opens(volume, `${text}\n`));
      runTool('cryptsetup', ['luksDump', volume]);
      await addRecoveryKey(volume, box.path('second.key'), { kms: box.kms });
      const header = box.path('header');
      runTool('cryptsetup', [
        'reencrypt',
        '--batch-mode',
        '--decrypt',
        '--force-offline-reencrypt',
        '--header',
        header,
        '--key-file',
        box.path('second.key'),
        volume,
      ]);
      assert.ok(box.contents('disk.vol').subarray(0, image.length).equals(image));
    });
  }

  test('cryptsetup opens a volume by a passphrase of its owner', async () => {
    const { box, volume } = await prepared();
    const passphraseFile = box.path('passphrase');
    writeFileSync(passphraseFile, 'correct horse\n');
    await addPassphrase(volume, passphraseFile, { kms: box.kms });
    assert.ok(opens(volume, 'correct horse\n'));
    assert.ok(!opens(volume, 'wrong horse\n'));
  });

  test('where cryptsetup says that a changed bit ends a keyslot, so do we', async () => {
    const { box, volume, recoveryKeyFile } = await prepared();
    await addRecoveryKey(volume, recoveryKeyFile, { kms: box.kms });
    const whole = box.contents('disk.vol');
    for (const offset of [32768, 32768 + 100_001, 32768 + 255_999, 32768 + 256_000]) {
      const changed = Buffer.from(whole);
      changed[offset]! ^= 1;
      writeFileSync(volume, changed);
      const ours = await testKeyslot(volume, { recoveryKeyFile }).then(
        () => true,
        () => false,
      );
      assert.equal(ours, opens(volume, '', '--key-file', recoveryKeyFile), String(offset));
      assert.equal(ours, offset === 32768 + 256_000, String(offset));
    }
  });

  for (const [name, pbkdf] of [
    ['SHA-256', ['--pbkdf', 'pbkdf2', '--hash', 'sha256']],
    ['SHA-512', ['--pbkdf', 'pbkdf2', '--hash', 'sha512']],
  ] as const) {
    test(`a keyslot of cryptsetup's is reported, and used only on request: PBKDF2 with ${name}`, async () => {
      const { box, image, volume, recoveryKeyFile } = await prepared();
      await addRecoveryKey(volume, recoveryKeyFile, { kms: box.kms });
      const [keyFile, passphraseFile] = [box.path('vk'), box.path('passphrase')];
      writeFileSync(keyFile, await dataKeyOf(volume, box.kms));
      writeFileSync(passphraseFile, 'correct horse');
      const key = ['--volume-key-file', keyFile, '--key-size', '512'];
      runTool('cryptsetup', ['luksAddKey', '--batch-mode', ...key, ...pbkdf, '--pbkdf-force-iterations', '1000', volume, passphraseFile]);
      assert.deepEqual(
        (await describeVolume(volume)).keyslotList.map(({ keyslot, kind }) => [keyslot, kind]),
        [
          ['0', 'recovery'],
          ['1', 'foreign'],
        ],
      );
      await assert.rejects(attach(volume, { passphraseFile }), (error) => error instanceof VolsealError && error.code === 'ERR_KEYSLOT');
      await decryptImage(volume, box.path('back.raw'), { passphraseFile, anyKeyslot: true });
      assert.ok(box.contents('back.raw').equals(image));
      // What cryptsetup wrote left ours as it was.
      assert.equal((await testKeyslot(volume, { recoveryKeyFile })).keyslot, '0');
      await removeKeyslot(volume, '1', { recoveryKeyFile });
      assert.ok(!opens(volume, '', '--key-file', passphraseFile));
      assert.ok(opens(volume, '', '--key-file', recoveryKeyFile));
    });
  }

  test('a keyslot that cryptsetup removed or gave another priority does not disturb', async () => {
    const { box, volume, recoveryKeyFile } = await prepared();
    await addRecoveryKey(volume, recoveryKeyFile, { kms: box.kms });
    runTool('cryptsetup', ['config', '--key-slot', '0', '--priority', 'prefer', volume]);
    assert.equal((await testKeyslot(volume, { recoveryKeyFile })).keyslot, '0');
    runTool('cryptsetup', ['luksKillSlot', '--batch-mode', volume, '0']);
    assert.deepEqual((await describeVolume(volume)).keyslotList, []);
    await using _ = await attach(volume, { kms: box.kms });
  });
});
