/** LUKS1 volumes that cryptsetup has converted, other hashes, and AES-128 under KMS; cryptsetup is the judge. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { test } from 'vitest';
import {
  addRecoveryKey,
  adoptVolume,
  attach,
  decryptImage,
  describeVolume,
  reencryptInPlace,
  rewrapVolume,
  testKeyslot,
  verifyVolume,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { describeUnless } from '../requirements.js';
import { dataKeyOf, type Sandbox, sandbox } from '../volume/sandbox.js';
import { type Foreign, fill, foreign, PBKDF2 } from './foreign-volume.js';
import { runTool, skipWithout, tryTool } from './tools.js';

const LUKS1 = ['--pbkdf-force-iterations', '1000'];

const opensForCryptsetup = ({ volume }: Pick<Foreign, 'volume'>, keyFile: string): boolean =>
  tryTool('cryptsetup', ['open', '--test-passphrase', '--key-file', keyFile, volume]).status === 0;

const dumped = ({ volume }: Foreign) =>
  JSON.parse(runTool('cryptsetup', ['luksDump', '--dump-json-metadata', volume])) as {
    digests: Record<string, { hash: string }>;
    keyslots: Record<string, { key_size: number; af: { hash: string }; kdf: { hash: string }; area: { key_size: number } }>;
  };

/** Adopts, and then does all that a volume of volseal's own can do: by KMS and by the passphrase. */
async function adoptAndUse(box: Sandbox, made: Foreign): Promise<void> {
  const { volume, pass, image, key } = made;
  const { kms } = box;
  const adopted = await adoptVolume(volume, { kms, passphraseFile: pass });
  assert.deepEqual([adopted.openedBy, adopted.keyslotList.map(({ kind }) => kind)], ['0', ['passphrase']]);
  assert.equal((await describeVolume(volume)).keyBytes, key.length);
  assert.ok((await dataKeyOf(volume, kms)).equals(key));
  await verifyVolume(volume, { kms, against: box.path('image.raw') });
  const attached = await attach(volume, { kms });
  const written = randomBytes(8192);
  await attached.write(4096, written);
  await attached.flush();
  await attached.detach();
  written.copy(image, 4096);
  writeFileSync(box.path('image.raw'), image);
  for (const options of [{ kms }, { passphraseFile: pass }]) {
    await verifyVolume(volume, { ...options, against: box.path('image.raw') });
    await decryptImage(volume, box.path('back'), { ...options, force: true });
    assert.ok(box.contents('back').equals(image));
  }
  assert.ok(opensForCryptsetup(made, pass));
  assert.equal(native.vaultInfo().liveKeys, 0);
}

describeUnless(skipWithout('cryptsetup'))('volumes that cryptsetup convert has made of LUKS1', () => {
  for (const hash of ['sha1', 'sha256', 'sha384', 'sha512']) {
    test(`with ${hash}: adopted, they are volumes like others`, async () => {
      const box = sandbox();
      const made = foreign(box, ['--hash', hash], LUKS1, { type: 'luks1' });
      runTool('cryptsetup', ['convert', '--batch-mode', '--type', 'luks2', made.volume]);
      await fill(made);
      const { digests, keyslots } = dumped(made);
      assert.deepEqual([digests[0]!.hash, keyslots[0]!.kdf.hash, keyslots[0]!.af.hash], [hash, hash, hash]);
      await adoptAndUse(box, made);
    });
  }
});

describeUnless(skipWithout('cryptsetup'))('volumes of AES-128', () => {
  for (const [slot, options] of [
    ['AES-128', []],
    ['AES-256', ['--keyslot-cipher', 'aes-xts-plain64', '--keyslot-key-size', '512']],
  ] as const) {
    test(`with keyslots of ${slot}: adopted, they are volumes like others`, async () => {
      const box = sandbox();
      const made = foreign(box, options, PBKDF2, { keyBytes: 32 });
      await fill(made);
      const slotOf = dumped(made).keyslots[0]!;
      assert.deepEqual([slotOf.key_size, slotOf.area.key_size], [32, slot === 'AES-128' ? 32 : 64]);
      await adoptAndUse(box, made);
      const { volume } = made;
      const { kms } = box;
      // A new way in: for cryptsetup too.
      await addRecoveryKey(volume, box.path('recovery'), { kms });
      await testKeyslot(volume, { recoveryKeyFile: box.path('recovery') });
      for (const name of ['recovery', 'pass']) assert.ok(opensForCryptsetup(made, box.path(name)), name);
      await rewrapVolume(volume, { kms, key: 'alias/aws/ebs' });
      // A new key has 256 bits.
      await reencryptInPlace(volume, { kms, partBytes: 1024 * 1024 });
      assert.equal((await dataKeyOf(volume, kms)).length, 64);
      await verifyVolume(volume, { kms, against: box.path('image.raw') });
    });
  }

  test('by the volume key itself, of 32 bytes', async () => {
    const box = sandbox();
    const made = foreign(box, [], PBKDF2, { keyBytes: 32 });
    await fill(made);
    await adoptVolume(made.volume, { kms: box.kms, volumeKeyFile: box.path('vk'), removeKeyslots: true });
    await verifyVolume(made.volume, { kms: box.kms, against: box.path('image.raw') });
  });
});
