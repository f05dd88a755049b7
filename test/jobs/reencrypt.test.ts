/** Volumes under new data keys, in new files. */
import assert from 'node:assert/strict';
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'vitest';
import {
  addRecoveryKey,
  attach,
  createVolume,
  decryptImage,
  describeVolume,
  encryptImage,
  reencryptVolume,
  tryReencrypt,
  VolsealError,
  verifyVolume,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

/** The parts of two volumes' ciphertext that are equal: none, where each has a key of its own. */
function equalSectors(one: Buffer, other: Buffer): number {
  let equal = 0;
  for (let at = 0; at + 512 <= Math.min(one.length, other.length); at += 512)
    if (one.subarray(at, at + 512).equals(other.subarray(at, at + 512))) equal += 1;
  return equal;
}

const HEADER_BYTES = 1024 * 1024;

describe('a volume under a new data key', () => {
  for (const [from, to] of [
    [512, 512],
    [4096, 512],
    [512, 4096],
    [4096, 4096],
  ] as const) {
    test(`has the same image, id and context: sectors of ${from} into ${to} bytes, with a part of a sector at the end`, async () => {
      const box = sandbox();
      const image = box.image('disk.raw', 5 * 1024 * 1024 + 700);
      const [volume, made] = [box.path('disk.vol'), box.path('new.vol')];
      await encryptImage(box.path('disk.raw'), volume, {
        kms: box.kms,
        sectorBytes: from,
        pad: true,
        encryptionContext: { user: 'alice' },
      });
      const before = box.contents('disk.vol');
      const outcome = await reencryptVolume(volume, made, { kms: box.kms, sectorBytes: to });
      const [old, info] = [await describeVolume(volume), await describeVolume(made)];
      assert.deepEqual(
        [info.volumeId, info.imageBytes, info.encryptionContext, info.keyId],
        [old.volumeId, old.imageBytes, old.encryptionContext, old.keyId],
      );
      assert.notEqual(info.uuid, old.uuid);
      assert.equal(info.sectorBytes, to);
      assert.deepEqual([outcome.from, outcome.path, outcome.oldKeyslots], [volume, made, 0]);
      await decryptImage(made, box.path('back.raw'), { kms: box.kms });
      assert.ok(box.contents('back.raw').equals(image));
      assert.ok(box.contents('disk.vol').equals(before));
      assert.equal(equalSectors(before.subarray(HEADER_BYTES), box.contents('new.vol').subarray(HEADER_BYTES)), 0);
      assert.ok(!(await dataKeyOf(volume, box.kms)).equals(await dataKeyOf(made, box.kms)));
      assert.equal(native.vaultInfo().liveKeys, 0);
    });
  }

  test('stays sparse: a hole is a hole, and reads as zeros; made full on request', async () => {
    const box = sandbox();
    const volume = box.path('disk.vol');
    const sizeBytes = 64 * 1024 * 1024;
    await createVolume(volume, { kms: box.kms, sizeBytes });
    {
      await using attached = await attach(volume, { kms: box.kms });
      await attached.write(10 * 1024 * 1024 + 100, Buffer.from('an island'));
    }
    const { allocation } = await reencryptVolume(volume, box.path('new.vol'), { kms: box.kms });
    assert.equal(allocation, 'sparse');
    assert.ok(statSync(box.path('new.vol')).blocks * 512 < 4 * 1024 * 1024);
    await reencryptVolume(volume, box.path('full.vol'), { kms: box.kms, allocation: 'full' });
    assert.ok(statSync(box.path('full.vol')).blocks * 512 >= sizeBytes);
    await decryptImage(volume, box.path('image.raw'), { kms: box.kms });
    for (const name of ['new.vol', 'full.vol']) await verifyVolume(box.path(name), { kms: box.kms, against: box.path('image.raw') });
  });

  test('a hole in a full volume is ciphertext, not zeros', async () => {
    const box = sandbox();
    box.image('disk.raw', 3 * 1024 * 1024);
    const volume = box.path('disk.vol');
    await encryptImage(box.path('disk.raw'), volume, { kms: box.kms });
    truncateSync(volume, HEADER_BYTES + 1024 * 1024);
    truncateSync(volume, HEADER_BYTES + 3 * 1024 * 1024);
    await decryptImage(volume, box.path('old.raw'), { kms: box.kms });
    await reencryptVolume(volume, box.path('new.vol'), { kms: box.kms });
    await verifyVolume(box.path('new.vol'), { kms: box.kms, against: box.path('old.raw') });
    assert.ok(
      !box
        .contents('old.raw')
        .subarray(2 * 1024 * 1024)
        .equals(Buffer.alloc(1024 * 1024)),
    );
  });

  test('headers detached and embedded, the volume itself replaced, a recovery key instead of KMS', async () => {
    const box = sandbox();
    const image = box.image('disk.raw', 1024 * 1024);
    const [volume, header] = [box.path('disk.vol'), box.path('disk.header')];
    await encryptImage(box.path('disk.raw'), volume, { kms: box.kms, header });
    await addRecoveryKey(volume, box.path('recovery.key'), { kms: box.kms, header });
    // The old KMS is gone: another one wraps the new key.
    const kms = `embedded:${box.path('other home')}`;
    const options = { header, recoveryKeyFile: box.path('recovery.key'), kms, key: 'alias/aws/ebs' };
    const made = await reencryptVolume(volume, box.path('new.vol'), { ...options, newHeader: box.path('new.header') });
    assert.equal(made.oldKeyslots, 1);
    await reencryptVolume(box.path('new.vol'), box.path('embedded.vol'), { kms, header: box.path('new.header') });
    await reencryptVolume(box.path('embedded.vol'), box.path('embedded.vol'), { kms, force: true });
    await decryptImage(box.path('embedded.vol'), box.path('back.raw'), { kms });
    assert.ok(box.contents('back.raw').equals(image));
  });

  test('a dry run makes nothing, and finds what would fail', async () => {
    const box = sandbox();
    box.image('disk.raw', 8192);
    const [volume, made] = [box.path('disk.vol'), box.path('new.vol')];
    await encryptImage(box.path('disk.raw'), volume, { kms: box.kms });
    const preview = await tryReencrypt(volume, made, { kms: box.kms });
    const { keyId, volumeId } = await describeVolume(volume);
    assert.deepEqual(preview, { from: volume, path: made, volumeId, fromKeyArn: keyId, toKey: keyId, imageBytes: 8192 });
    for (const run of [tryReencrypt, reencryptVolume]) {
      await assert.rejects(run(volume, made, { kms: box.kms, key: 'alias/none' }), failsWith('ERR_KMS_NOT_FOUND', /alias\/none/));
      await assert.rejects(run(volume, volume, { kms: box.kms }), failsWith('ERR_TARGET_EXISTS', /disk\.vol/));
    }
    assert.throws(() => box.contents('new.vol'), /ENOENT/);
  });

  test('a volume that is attached for writing, cut off, or whose header was changed is refused; no target is left', async () => {
    const box = sandbox();
    box.image('disk.raw', 1024 * 1024);
    const [volume, made] = [box.path('disk.vol'), box.path('new.vol')];
    await encryptImage(box.path('disk.raw'), volume, { kms: box.kms });
    {
      await using _ = await attach(volume, { kms: box.kms });
      await assert.rejects(reencryptVolume(volume, made, { kms: box.kms }), failsWith('ERR_STATE_BUSY', /attached/));
    }
    const whole = box.contents('disk.vol');
    truncateSync(volume, whole.length - 512);
    await assert.rejects(reencryptVolume(volume, made, { kms: box.kms }), failsWith('ERR_VOLUME_SIZE', /cut off/));
    writeFileSync(volume, whole);
    const controller = new AbortController();
    controller.abort();
    await assert.rejects(reencryptVolume(volume, made, { kms: box.kms, signal: controller.signal }), failsWith('ERR_ABORTED', /stopped/));
    const file = await open(volume, 'r+');
    await file.write(Buffer.alloc(32768), 0, 32768, 0);
    await file.close();
    await assert.rejects(reencryptVolume(volume, made, { kms: box.kms }), failsWith('ERR_NOT_A_VOLUME', /not a LUKS2/));
    assert.throws(() => box.contents('new.vol'), /ENOENT/);
    assert.equal(native.vaultInfo().liveKeys, 0);
  });
});
