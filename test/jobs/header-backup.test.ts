/** Backups of headers: made, restored, and refused where they would make data unreadable. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { copyFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'vitest';
import {
  addRecoveryKey,
  attach,
  backupHeader,
  decryptImage,
  decryptInPlace,
  densifyVolume,
  describeVolume,
  encryptImage,
  readHeaderText,
  reencryptInPlace,
  restoreHeader,
  rewrapVolume,
  testKeyslot,
  VolsealError,
} from '../../src/index.js';
import { openKms } from '../../src/kms/client/calls.js';
import { EmbeddedKms } from '../../src/kms/embedded/service.js';
import { ask } from '../kms/harness.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const SIZE = 1024 * 1024;
const COPY_BYTES = 16384;

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
  backup: string;
  header: string | undefined;
}

/** A volume and a backup of its header. */
async function prepared(detached = false): Promise<Made> {
  const box = sandbox();
  const image = box.image('disk.raw', SIZE);
  const [volume, backup] = [box.path('disk.vol'), box.path('backup')];
  const header = detached ? box.path('disk.header') : undefined;
  await encryptImage(box.path('disk.raw'), volume, { kms: box.kms, header });
  await backupHeader(volume, backup, { header });
  return { box, image, volume, backup, header };
}

/** Overwrites a part of a file. */
async function overwrite(path: string, offsetBytes: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, offsetBytes);
  await file.close();
}

async function assertReads({ box, image, volume, header }: Made): Promise<void> {
  await using attached = await attach(volume, { kms: box.kms, header, readOnly: true });
  assert.ok(image.equals(await attached.read(0, SIZE)));
}

describe('a backup of a header', () => {
  for (const detached of [false, true]) {
    test(`is a detached header of the volume, with mode 0600, ${detached ? 'detached' : 'embedded'}`, async () => {
      const made = await prepared(detached);
      const { box, volume, backup, header } = made;
      assert.equal(statSync(backup).mode & 0o777, 0o600);
      assert.ok(box.contents('backup').equals(box.contents(header === undefined ? 'disk.vol' : 'disk.header').subarray(0, SIZE)));
      await assertReads({ ...made, header: backup });
      const { uuid, volumeId } = await describeVolume(volume, { header });
      const again = await backupHeader(volume, backup, { header, force: true });
      assert.deepEqual(again, { volume, backup, volumeId, uuid, sizeBytes: SIZE });
      await assert.rejects(backupHeader(volume, backup, { header }), failsWith('ERR_TARGET_EXISTS', /backup/));
      await assert.rejects(backupHeader(volume, header ?? volume, { header, force: true }), failsWith('ERR_ARGUMENT', /itself/));
    });

    test(`brings back a header that lost both copies, ${detached ? 'detached' : 'embedded'}`, async () => {
      const made = await prepared(detached);
      const { box, volume, backup, header } = made;
      // The magic stays at one of them: remains of a header.
      await overwrite(header ?? volume, 100, Buffer.alloc(2 * COPY_BYTES, 0x55));
      await assert.rejects(attach(volume, { kms: box.kms, header }), failsWith('ERR_HEADER_DAMAGED', /neither copy/));
      const warnings: string[] = [];
      const restored = await restoreHeader(volume, backup, { kms: box.kms, header, onWarning: (warning) => warnings.push(warning) });
      assert.deepEqual([restored.before, restored.wasOlder, restored.proved], ['remains', false, true]);
      assert.match(warnings.join(), /no good header/);
      assert.deepEqual((await describeVolume(volume, { header })).headerCopies, { primary: 'good', secondary: 'good' });
      await assertReads(made);
    });
  }

  for (const detached of [false, true])
    for (const rest of ['zeros', 'random bytes'] as const)
      test(`is forced where ${rest} are all that is left, ${detached ? 'detached' : 'embedded'}, and the keyslots come back`, async () => {
        const made = await prepared(detached);
        const { box, volume, backup, header } = made;
        await addRecoveryKey(volume, box.path('key'), { kms: box.kms, header });
        await backupHeader(volume, backup, { header, force: true });
        await overwrite(header ?? volume, 0, rest === 'zeros' ? Buffer.alloc(SIZE) : randomBytes(SIZE));
        const before = box.contents('disk.vol');
        const by = { kms: box.kms, header };
        await assert.rejects(restoreHeader(volume, backup, by), failsWith('ERR_NOT_A_VOLUME', /no remains|begins like/));
        assert.ok(box.contents('disk.vol').equals(before));
        // KMS is not asked where a recovery key proves the backup.
        const byKey = { header, recoveryKeyFile: box.path('key'), force: true };
        const { before: found, proved } = await restoreHeader(volume, backup, byKey);
        assert.deepEqual([found, proved], ['none', true]);
        await testKeyslot(volume, byKey);
        await assertReads(made);
      });

  test('is not forced onto a volume of another length, nor onto one with a header of its own', async () => {
    const { box, volume, backup } = await prepared();
    box.image('other.raw', 2 * SIZE);
    await encryptImage(box.path('other.raw'), box.path('other.vol'), { kms: box.kms });
    const before = box.contents('other.vol');
    const force = { kms: box.kms, force: true };
    await assert.rejects(restoreHeader(box.path('other.vol'), backup, force), failsWith('ERR_HEADER_BACKUP', /another volume/));
    truncateSync(volume, SIZE + 512);
    await overwrite(volume, 0, Buffer.alloc(SIZE));
    await assert.rejects(restoreHeader(volume, backup, force), failsWith('ERR_VOLUME_SIZE', /cut off/));
    assert.ok(box.contents('other.vol').equals(before));
    assert.ok(box.contents('disk.vol').subarray(0, SIZE).equals(Buffer.alloc(SIZE)));
  });

  test('replaces no volume: neither a copy of its own nor another one', async () => {
    const { box, volume, backup } = await prepared();
    for (const name of ['copy.vol', 'other.vol']) {
      if (name === 'copy.vol') copyFileSync(volume, box.path(name));
      else await encryptImage(box.path('disk.raw'), box.path(name), { kms: box.kms });
      const before = box.contents(name);
      await assert.rejects(backupHeader(volume, box.path(name), { force: true }), failsWith('ERR_TARGET_EXISTS', /is a volume/));
      assert.ok(box.contents(name).equals(before));
    }
    await backupHeader(volume, backup, { force: true });
  });

  test('that is a part of one, or none at all, is said to be the wrong one', async () => {
    const { box, volume, backup } = await prepared();
    const before = box.contents('disk.vol');
    for (const [name, bytes] of [
      ['part', box.contents('backup').subarray(0, 40_000)],
      ['none', Buffer.alloc(0)],
      ['image', box.contents('disk.raw')],
      ['damaged', Buffer.concat([Buffer.alloc(100, 1), box.contents('backup').subarray(100, 16384), Buffer.alloc(20_000)])],
    ] as const) {
      writeFileSync(box.path(name), bytes);
      await assert.rejects(
        restoreHeader(volume, box.path(name), { kms: box.kms }),
        (error: VolsealError) => error.details.isBackup === true,
        name,
      );
    }
    assert.ok(box.contents('disk.vol').equals(before));
    await restoreHeader(volume, backup, { kms: box.kms });
  });

  test('changes no data while the volume has its own header, which would not know', async () => {
    const { box, volume, backup, image } = await prepared();
    const by = { kms: box.kms, header: backup };
    for (const change of [attach, densifyVolume, reencryptInPlace, decryptInPlace]) {
      await assert.rejects(change(volume, by), failsWith('ERR_ARGUMENT', /leave that header out/));
    }
    assert.ok(box.contents('backup').equals(box.contents('disk.vol').subarray(0, SIZE)));

    await reencryptInPlace(volume, { kms: box.kms });
    const [older, out] = [failsWith('ERR_DATA_MISMATCH', /another data key/), box.path('out.raw')];
    await assert.rejects(decryptImage(volume, out, by), older);
    await assert.rejects(attach(volume, { ...by, readOnly: true }), older);
    await assert.rejects(attach(volume, { ...by, readOnly: true }), (error: VolsealError) => error.details.isOldCopy === true);
    await assertReads({ box, image, volume, backup, header: undefined });
  });

  test('changes data where the volume lost its own header', async () => {
    const { box, volume, backup } = await prepared();
    await overwrite(volume, 100, Buffer.alloc(2 * COPY_BYTES, 0x55));
    await using attached = await attach(volume, { kms: box.kms, header: backup });
    await attached.write(0, Buffer.alloc(4096, 1));
    assert.ok(Buffer.alloc(4096, 1).equals(await attached.read(0, 4096)));
  });

  test('is made while the volume is attached, and has two good copies where the volume has one', async () => {
    const made = await prepared();
    const { box, volume, backup } = made;
    await using _ = await attach(volume, { kms: box.kms });
    await overwrite(volume, 0, Buffer.alloc(4096, 0x55));
    await backupHeader(volume, backup, { force: true });
    assert.deepEqual((await readHeaderText(backup)).headerCopies, { primary: 'good', secondary: 'good' });
    assert.notEqual((await readHeaderText(volume)).headerCopies.primary, 'good');
    await assert.rejects(restoreHeader(volume, backup, { kms: box.kms }), failsWith('ERR_STATE_BUSY', /attached/));
  });

  test('makes a detached header that is missing', async () => {
    const made = await prepared(true);
    rmSync(made.header!);
    const { before } = await restoreHeader(made.volume, made.backup, { kms: made.box.kms, header: made.header });
    assert.equal(before, 'none');
    await assertReads(made);
  });

  test('that is older is restored with a warning, as what it was, and never loses to the newer one', async () => {
    const made = await prepared();
    const { box, volume, backup } = made;
    const old = await describeVolume(volume);
    const kms = openKms({ kind: 'embedded', home: box.path('home') });
    const { keyArn } = await kms.createKey();
    kms.close();
    await rewrapVolume(volume, { kms: box.kms, key: keyArn });
    const newer = BigInt((await readHeaderText(volume)).sequence);
    const warnings: string[] = [];
    const restored = await restoreHeader(volume, backup, { kms: box.kms, onWarning: (warning) => warnings.push(warning) });
    assert.equal(restored.wasOlder, true);
    assert.match(warnings.join(), /is older than the header/);
    assert.ok(BigInt((await readHeaderText(volume)).sequence) > newer);
    assert.equal((await describeVolume(volume)).keyId, old.keyId);
    await assertReads(made);
  });

  test('whose key KMS does not unwrap is not written, unless the caller says so', async () => {
    const { box, volume, backup } = await prepared();
    const client = openKms({ kind: 'embedded', home: box.path('home') });
    const { keyArn } = await client.createKey();
    client.close();
    await rewrapVolume(volume, { kms: box.kms, key: keyArn });
    await backupHeader(volume, backup, { force: true });
    const before = box.contents('disk.vol');
    const kms = EmbeddedKms.open(box.path('home'));
    ask(kms, 'DisableKey', { KeyId: keyArn });
    await kms.close();
    await assert.rejects(restoreHeader(volume, backup, { kms: box.kms }), failsWith('ERR_KMS_KEY_STATE', /Disabled|disabled/));
    assert.ok(box.contents('disk.vol').equals(before));
    const warnings: string[] = [];
    const restored = await restoreHeader(volume, backup, { prove: false, onWarning: (warning) => warnings.push(warning) });
    assert.equal(restored.proved, false);
    assert.match(warnings.join(), /not proved/);
    assert.ok(box.contents('disk.vol').subarray(SIZE).equals(before.subarray(SIZE)));
  });

  test('that somebody changed, with a good checksum, is refused by its MAC', async () => {
    const { box, volume, backup } = await prepared();
    const before = box.contents('disk.vol');
    const { readHeader, writeHeader } = await import('../../src/luks2/store.js');
    const file = await open(backup, 'r+');
    const { header } = await readHeader(file, backup);
    const token = { ...header.metadata.tokens['0']!, 'volseal-image-bytes': String(SIZE - 512) };
    await writeHeader(file, { ...header, sequence: 2n, metadata: { ...header.metadata, tokens: { '0': token } } }, backup);
    await file.close();
    await assert.rejects(restoreHeader(volume, backup, { kms: box.kms }), failsWith('ERR_HEADER_MAC', /changed/));
    assert.ok(box.contents('disk.vol').equals(before));
  });

  test('of another volume is refused, also with force, and so is one from before a re-encryption', async () => {
    const { box, volume, backup } = await prepared();
    const other = box.path('other.vol');
    await encryptImage(box.path('disk.raw'), other, { kms: box.kms });
    const before = box.contents('other.vol');
    for (const force of [false, true])
      await assert.rejects(restoreHeader(other, backup, { kms: box.kms, force }), failsWith('ERR_HEADER_BACKUP', /another volume/));
    assert.ok(box.contents('other.vol').equals(before));
    // The same UUID over another key, as after cryptsetup reencrypt.
    const { readHeader, writeHeader } = await import('../../src/luks2/store.js');
    const [one, two] = [await open(volume, 'r'), await open(other, 'r+')];
    const { uuid } = (await readHeader(one, volume)).header;
    const { header } = await readHeader(two, other);
    await writeHeader(two, { ...header, uuid, sequence: 2n }, other);
    await Promise.all([one.close(), two.close()]);
    await assert.rejects(restoreHeader(other, backup, { kms: box.kms }), failsWith('ERR_HEADER_BACKUP', /another data key/));
  });

  test('is not written over what was no volume, or over another kind of volume', async () => {
    const { box, volume, backup } = await prepared();
    const luks1 = Buffer.alloc(8192);
    Buffer.from('4c554b53babe0001', 'hex').copy(luks1);
    const gpt = Buffer.alloc(8192);
    gpt.writeUInt16LE(0xaa55, 510);
    for (const [start, message] of [
      [luks1, /LUKS1/],
      [gpt, /partition table/],
      [Buffer.alloc(8192), /no remains/],
    ] as const) {
      await overwrite(volume, 0, Buffer.alloc(2 * COPY_BYTES));
      await overwrite(volume, 0, start);
      const before = box.contents('disk.vol');
      await assert.rejects(restoreHeader(volume, backup, { kms: box.kms }), failsWith('ERR_NOT_A_VOLUME', message));
      assert.ok(box.contents('disk.vol').equals(before));
    }
    await restoreHeader(volume, backup, { kms: box.kms, force: true });
    await decryptImage(volume, box.path('back'), { kms: box.kms });
    assert.ok(box.contents('back').equals(box.contents('disk.raw')));
  });

  test('is refused where the volume was cut off, and where the backup was', async () => {
    const { box, volume, backup } = await prepared();
    truncateSync(backup, 100_000);
    await assert.rejects(restoreHeader(volume, backup, { kms: box.kms }), failsWith('ERR_HEADER_DAMAGED', /ends after 100000 bytes/));
    await backupHeader(volume, backup, { force: true });
    truncateSync(volume, SIZE + 4096);
    await assert.rejects(restoreHeader(volume, backup, { kms: box.kms }), failsWith('ERR_VOLUME_SIZE', /cut off/));
    await assert.rejects(restoreHeader(backup, backup, { kms: box.kms }), failsWith('ERR_ARGUMENT', /itself/));
  });

  test('cut off after any byte of its writes, the volume opens, and the same call completes it', async () => {
    const made = await prepared();
    const { box, volume, backup } = made;
    const kms = openKms({ kind: 'embedded', home: box.path('home') });
    const { keyArn } = await kms.createKey();
    kms.close();
    await rewrapVolume(volume, { kms: box.kms, key: keyArn });
    const before = box.contents('disk.vol');
    await restoreHeader(volume, backup, { kms: box.kms });
    const after = box.contents('disk.vol');
    for (const cut of [0, 1, 511, 4096, 9000, COPY_BYTES]) {
      const secondary = Buffer.from(before);
      after.copy(secondary, COPY_BYTES, COPY_BYTES, COPY_BYTES + cut);
      const primary = Buffer.from(before);
      after.copy(primary, COPY_BYTES, COPY_BYTES, 2 * COPY_BYTES);
      after.copy(primary, 0, 0, cut);
      for (const state of [secondary, primary]) {
        writeFileSync(volume, state);
        await assertReads(made);
        await restoreHeader(volume, backup, { kms: box.kms });
        assert.notEqual((await describeVolume(volume)).keyId, keyArn);
      }
    }
  });

  test('a text of any LUKS2 header: of a volume, a detached header, a backup', async () => {
    const { box, volume, backup } = await prepared();
    copyFileSync(backup, box.path('copy'));
    const text = await readHeaderText(volume);
    assert.deepEqual({ ...(await readHeaderText(box.path('copy'))), path: volume }, text);
    assert.equal(text.areaBytes, SIZE);
    assert.deepEqual(Object.keys(text.metadata), ['keyslots', 'tokens', 'segments', 'digests', 'config']);
    await assert.rejects(readHeaderText(box.path('disk.raw')), failsWith('ERR_NOT_A_VOLUME', /not a LUKS2 volume/));
  });
});
