/**
 * Recovery keys and passphrases: added, tried, used and removed. Stock cryptsetup judges them in
 * test/interop/recovery.test.ts.
 */
import assert from 'node:assert/strict';
import { mkdirSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'vitest';
import {
  addPassphrase,
  addRecoveryKey,
  attach,
  backupHeader,
  createVolume,
  decryptImage,
  densifyVolume,
  describeVolume,
  encryptImage,
  removeKeyslot,
  restoreHeader,
  rewrapVolume,
  testKeyslot,
  VolsealError,
  verifyVolume,
} from '../../src/index.js';
import { openKms } from '../../src/kms/client/calls.js';
import { readHeader, writeHeader } from '../../src/luks2/store.js';
import { native } from '../../src/native.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const SIZE = 1024 * 1024;
const NO_KMS = 'http://127.0.0.1:9';

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

interface Made {
  box: Sandbox;
  image: Buffer;
  volume: string;
  header: string | undefined;
  recoveryKeyFile: string;
}

/** A volume with a recovery key. */
async function prepared(detached = false): Promise<Made> {
  const box = sandbox();
  const image = box.image('disk.raw', SIZE);
  const [volume, recoveryKeyFile] = [box.path('disk.vol'), box.path('recovery.key')];
  const header = detached ? box.path('disk.header') : undefined;
  await encryptImage(box.path('disk.raw'), volume, { kms: box.kms, header });
  const added = await addRecoveryKey(volume, recoveryKeyFile, { kms: box.kms, header });
  assert.deepEqual([added.keyslot, added.kind, added.path], ['0', 'recovery', volume]);
  return { box, image, volume, header, recoveryKeyFile };
}

describe('a recovery key', () => {
  for (const detached of [false, true]) {
    test(`opens the volume without KMS, ${detached ? 'detached' : 'embedded'}: decrypt, attach, verify, densify`, async () => {
      const { box, image, volume, header, recoveryKeyFile } = await prepared(detached);
      assert.equal(statSync(recoveryKeyFile).mode & 0o777, 0o600);
      assert.match(readFileSync(recoveryKeyFile, 'latin1'), /^([cbdefghijklnrtuv]{8}-){8}[cbdefghijklnrtuv]{8}$/);
      const by = { kms: NO_KMS, header, recoveryKeyFile };
      await decryptImage(volume, box.path('back'), by);
      assert.ok(box.contents('back').equals(image));
      await verifyVolume(volume, { ...by, against: box.path('disk.raw') });
      {
        await using attached = await attach(volume, by);
        await attached.write(0, Buffer.from('written by a recovery key'));
      }
      await using again = await attach(volume, { kms: box.kms, header });
      assert.equal(Buffer.from(await again.read(0, 25)).toString(), 'written by a recovery key');
      assert.equal(native.vaultInfo().liveKeys, 1);
    });
  }

  test('is tried, listed and removed; after that it opens nothing, and KMS still does', async () => {
    const { box, image, volume, recoveryKeyFile } = await prepared();
    assert.equal((await testKeyslot(volume, { recoveryKeyFile })).keyslot, '0');
    const { keyslots, keyslotList } = await describeVolume(volume);
    assert.deepEqual([keyslots, keyslotList[0]?.kind], [1, 'recovery']);
    const area = (): Buffer => box.contents('disk.vol').subarray(32768, 32768 + 256_000);
    const before = area();
    await assert.rejects(removeKeyslot(volume, '1', { kms: box.kms }), failsWith('ERR_ARGUMENT', /no keyslot 1; its keyslots: 0/));
    await removeKeyslot(volume, '0', { kms: box.kms });
    for (let at = 0; at < before.length; at += 512)
      assert.ok(
        !area()
          .subarray(at, at + 512)
          .equals(before.subarray(at, at + 512)),
        `${at}`,
      );
    assert.deepEqual((await describeVolume(volume)).keyslotList, []);
    await assert.rejects(testKeyslot(volume, { recoveryKeyFile }), failsWith('ERR_KEYSLOT', /it has no recovery key/));
    await decryptImage(volume, box.path('back'), { kms: box.kms });
    assert.ok(box.contents('back').equals(image));
  });

  test('can remove itself and others, and add new ones', async () => {
    const { box, volume, recoveryKeyFile } = await prepared();
    await addRecoveryKey(volume, box.path('second.key'), { recoveryKeyFile });
    await removeKeyslot(volume, '0', { recoveryKeyFile: box.path('second.key') });
    assert.deepEqual(
      (await describeVolume(volume)).keyslotList.map(({ keyslot }) => keyslot),
      ['1'],
    );
    assert.equal((await addRecoveryKey(volume, box.path('third.key'), { kms: box.kms })).keyslot, '0');
    for (const name of ['second.key', 'third.key']) await testKeyslot(volume, { recoveryKeyFile: box.path(name) });
  });

  test('does not fit where three are: nothing is changed, and no file is left', async () => {
    const { box, volume } = await prepared();
    await addRecoveryKey(volume, box.path('2'), { kms: box.kms });
    await addRecoveryKey(volume, box.path('3'), { kms: box.kms });
    const before = box.contents('disk.vol');
    await assert.rejects(addRecoveryKey(volume, box.path('4'), { kms: box.kms }), failsWith('ERR_ARGUMENT', /no room.*0, 1, 2 are taken/));
    assert.ok(box.contents('disk.vol').equals(before));
    assert.throws(() => box.contents('4'), /ENOENT/);
  });

  test('that cannot be written is removed from the volume again', async () => {
    const { box, volume } = await prepared();
    const fd = openSync('/dev/full', 'w');
    await assert.rejects(addRecoveryKey(volume, { fd, name: 'the printer' }, { kms: box.kms }), failsWith('ERR_IO', /the printer/));
    assert.equal((await describeVolume(volume)).keyslots, 1);
    await assert.rejects(
      addRecoveryKey(volume, box.path('recovery.key'), { kms: box.kms }),
      failsWith('ERR_TARGET_EXISTS', /recovery\.key/),
    );
    assert.equal(native.vaultInfo().liveKeys, 0);
  });

  test('of another volume, a mistyped one, and no file at all are told apart', async () => {
    const { box, volume, recoveryKeyFile } = await prepared();
    const other = await prepared();
    await assert.rejects(
      attach(volume, { recoveryKeyFile: other.recoveryKeyFile }),
      failsWith('ERR_KEYSLOT', /this recovery key opens none of its keyslots \(0\)/),
    );
    writeFileSync(
      box.path('typed'),
      readFileSync(recoveryKeyFile, 'latin1').replace(/^./, (letter) => (letter === 'c' ? 'b' : 'c')),
    );
    await assert.rejects(attach(volume, { recoveryKeyFile: box.path('typed') }), failsWith('ERR_ARGUMENT', /typed: is a mistyped/));
    await assert.rejects(attach(volume, { recoveryKeyFile: box.path('none') }), failsWith('ERR_IO', /none/));
    mkdirSync(box.path('directory'));
    await assert.rejects(attach(volume, { recoveryKeyFile: box.path('directory') }), failsWith('ERR_IO', /directory/));
    await assert.rejects(attach(volume, { passphraseFile: recoveryKeyFile }), failsWith('ERR_KEYSLOT', /it has no passphrase/));
    await assert.rejects(attach(volume, { passphraseFile: recoveryKeyFile, recoveryKeyFile }), failsWith('ERR_ARGUMENT', /name one/));
    await assert.rejects(testKeyslot(volume, {}), failsWith('ERR_ARGUMENT', /name the file/));
  });

  test('a flipped bit in its area or its parameters does not open, and does not say whose fault it is', async () => {
    const { box, volume, recoveryKeyFile } = await prepared();
    const whole = box.contents('disk.vol');
    for (const offset of [32768, 32768 + 511, 32768 + 128_000, 32768 + 255_999]) {
      const changed = Buffer.from(whole);
      changed[offset]! ^= 0x10;
      writeFileSync(volume, changed);
      await assert.rejects(testKeyslot(volume, { recoveryKeyFile }), failsWith('ERR_KEYSLOT', /opens none/), `${offset}`);
      await using _ = await attach(volume, { kms: box.kms });
    }
    writeFileSync(volume, whole);
    // Parameters that somebody changed make it another keyslot than the one that was added.
    const file = await open(volume, 'r+');
    const { header } = await readHeader(file, volume);
    const metadata = structuredClone(header.metadata) as typeof header.metadata & {
      keyslots: Record<string, { kdf: { iterations: number } }>;
    };
    metadata.keyslots['0']!.kdf.iterations += 1;
    await writeHeader(file, { ...header, sequence: header.sequence + 1n, metadata }, volume);
    await file.close();
    assert.equal((await describeVolume(volume)).keyslotList[0]?.kind, 'foreign');
    await assert.rejects(testKeyslot(volume, { recoveryKeyFile }), failsWith('ERR_KEYSLOT', /volseal did not add \(0\) were not tried/));
    await using _ = await attach(volume, { kms: box.kms });
  });

  test('that a header claims without the volume key is refused: the list is under the MAC', async () => {
    const { volume, recoveryKeyFile, box } = await prepared();
    const file = await open(volume, 'r+');
    const { header } = await readHeader(file, volume);
    const metadata = structuredClone(header.metadata) as typeof header.metadata & {
      tokens: Record<string, { 'volseal-keyslots': Record<string, { created: string }> }>;
    };
    metadata.tokens['0']!['volseal-keyslots']['0']!.created = '2020-01-01T00:00:00.000Z';
    await writeHeader(file, { ...header, sequence: header.sequence + 1n, metadata }, volume);
    await file.close();
    await assert.rejects(attach(volume, { recoveryKeyFile }), failsWith('ERR_HEADER_MAC', /changed/));
    await assert.rejects(attach(volume, { kms: box.kms }), failsWith('ERR_HEADER_MAC', /changed/));
  });

  test('stays when the volume is rewrapped or densified, and proves a backup of the header', async () => {
    const { box, volume, recoveryKeyFile } = await prepared();
    const kms = openKms({ kind: 'embedded', home: box.path('home') });
    const { keyArn } = await kms.createKey();
    kms.close();
    await rewrapVolume(volume, { kms: box.kms, key: keyArn, recoveryKeyFile });
    await testKeyslot(volume, { recoveryKeyFile });
    await backupHeader(volume, box.path('backup'));
    await removeKeyslot(volume, '0', { kms: box.kms });
    await assert.rejects(testKeyslot(volume, { recoveryKeyFile }), failsWith('ERR_KEYSLOT', /no recovery key/));
    // What FORMAT.md says of backups: the removed key opens it still.
    await testKeyslot(volume, { recoveryKeyFile, header: box.path('backup') });
    await restoreHeader(volume, box.path('backup'), { recoveryKeyFile, kms: NO_KMS });
    await testKeyslot(volume, { recoveryKeyFile });
    const sparse = box.path('sparse.vol');
    await createVolume(sparse, { kms: box.kms, sizeBytes: SIZE });
    await addRecoveryKey(sparse, box.path('sparse.key'), { kms: box.kms });
    await densifyVolume(sparse, { recoveryKeyFile: box.path('sparse.key') });
    await testKeyslot(sparse, { recoveryKeyFile: box.path('sparse.key') });
  });

  test('an attached volume is busy, a test of its key is not', async () => {
    const { box, volume, recoveryKeyFile } = await prepared();
    await using _ = await attach(volume, { kms: box.kms });
    await testKeyslot(volume, { recoveryKeyFile });
    await assert.rejects(removeKeyslot(volume, '0', { kms: box.kms }), failsWith('ERR_STATE_BUSY', /attached/));
  });
});

test('a passphrase opens the volume, with at least the iterations of OWASP', async () => {
  const { box, image, volume } = await prepared();
  const passphraseFile = box.path('passphrase');
  writeFileSync(passphraseFile, 'correct horse battery staple\n');
  const added = await addPassphrase(volume, passphraseFile, { kms: box.kms });
  assert.deepEqual([added.keyslot, added.kind], ['1', 'passphrase']);
  const file = await open(volume, 'r');
  const { metadata } = (await readHeader(file, volume)).header;
  await file.close();
  const { iterations } = (metadata.keyslots['1'] as unknown as { kdf: { iterations: number } }).kdf;
  assert.ok(iterations >= 210_000, String(iterations));
  await decryptImage(volume, box.path('back'), { passphraseFile, kms: NO_KMS });
  assert.ok(box.contents('back').equals(image));
  writeFileSync(passphraseFile, 'wrong horse');
  await assert.rejects(
    testKeyslot(volume, { passphraseFile }),
    failsWith('ERR_KEYSLOT', /this passphrase opens none of its keyslots \(1\)/),
  );
});
