import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, onTestFinished, test } from 'vitest';
import { attach, describeVolume, encryptImage, rewrapVolume, VolsealError } from '../../src/index.js';
import { openKms } from '../../src/kms/client/calls.js';
import { EmbeddedKms } from '../../src/kms/embedded/service.js';
import { readHeader, writeHeader } from '../../src/luks2/store.js';
import { ask, done } from '../kms/harness.js';
import { dataKeyOf, type Sandbox, sandbox } from '../volume/sandbox.js';

const SIZE = 1024 * 1024;
const ACCOUNT = 'arn:aws:iam::000000000000:';

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

/**
 * A sandbox with a volume under one KMS key, and another key. `deletable`: the first one is no AWS-managed key, which
 * nobody can delete.
 */
async function prepared(header?: string, deletable = false): Promise<{ box: Sandbox; image: Buffer; keyArn: string; volume: string }> {
  const box = sandbox();
  const image = box.image('disk.raw', SIZE);
  const volume = box.path('disk.vol');
  const encryptionContext = { user: 'alice' };
  const kms = openKms({ kind: 'embedded', home: box.path('home'), create: true });
  const own = deletable ? { key: (await kms.createKey()).keyArn } : {};
  await encryptImage(box.path('disk.raw'), volume, {
    kms: box.kms,
    ...own,
    encryptionContext,
    ...(header === undefined ? {} : { header: box.path(header) }),
  });
  const { keyArn } = await kms.createKey();
  kms.close();
  return { box, image, keyArn, volume };
}

async function contentsOf(volume: string, options: object): Promise<Buffer> {
  await using attached = await attach(volume, { readOnly: true, ...options });
  return Buffer.from(await attached.read(0, SIZE));
}

const dataHash = (bytes: Buffer, from: number) => createHash('sha256').update(bytes.subarray(from)).digest('hex');

describe('rewrapping', () => {
  test('a header whose sequence number is the largest there is: the next one is 0, as cryptsetup counts', async () => {
    const { box, image, keyArn, volume } = await prepared();
    const file = await open(volume, 'r+');
    const { header } = await readHeader(file, volume);
    await writeHeader(file, { ...header, sequence: 2n ** 64n - 1n }, volume);
    await file.close();
    await rewrapVolume(volume, { key: keyArn, kms: box.kms });
    assert.deepEqual((await describeVolume(volume)).headerCopies, { primary: 'good', secondary: 'good' });
    assert.equal((await describeVolume(volume)).keyId, keyArn);
    assert.ok((await contentsOf(volume, { kms: box.kms })).equals(image));
  });

  for (const header of [undefined, 'disk.header']) {
    test(`moves a volume to another key, ${header === undefined ? 'its header inside' : 'its header detached'}; its data stays byte for byte`, async () => {
      const { box, image, keyArn, volume } = await prepared(header, true);
      const detached = header === undefined ? {} : { header: box.path(header) };
      const before = await describeVolume(volume, detached);
      const dataKey = await dataKeyOf(volume, box.kms, detached.header);
      copyFileSync(detached.header ?? volume, box.path('old header'));
      const hash = dataHash(box.contents('disk.vol'), header === undefined ? SIZE : 0);
      const result = await rewrapVolume(volume, { key: keyArn, kms: box.kms, ...detached });
      assert.deepEqual(result, { path: volume, volumeId: before.volumeId, fromKeyArn: before.keyId, toKeyArn: keyArn, dryRun: false });
      const after = await describeVolume(volume, detached);
      assert.equal(after.keyId, keyArn);
      assert.deepEqual([after.uuid, after.volumeId, after.encryptionContext], [before.uuid, before.volumeId, before.encryptionContext]);
      assert.notEqual(after.encryptedDataKey, before.encryptedDataKey);
      assert.equal(dataHash(box.contents('disk.vol'), header === undefined ? SIZE : 0), hash);
      assert.ok((await dataKeyOf(volume, box.kms, detached.header)).equals(dataKey));
      assert.ok((await contentsOf(volume, { kms: box.kms, ...detached })).equals(image));
      // The old key is not needed any more: only the copy of the header as it was cannot be opened without it.
      const kms = EmbeddedKms.open(box.path('home'));
      done(kms, 'ScheduleKeyDeletion', { KeyId: before.keyId });
      await kms.close();
      const old = { kms: box.kms, ...(header === undefined ? {} : { header: box.path('old header') }) };
      await assert.rejects(contentsOf(header === undefined ? box.path('old header') : volume, old), failsWith('ERR_KMS_KEY_STATE', /./));
      assert.ok((await contentsOf(volume, { kms: box.kms, ...detached })).equals(image));
    });
  }

  test('a dry run changes nothing, and says what would be refused', async () => {
    const { box, keyArn, volume } = await prepared();
    const before = box.contents('disk.vol');
    assert.equal((await rewrapVolume(volume, { key: keyArn, kms: box.kms, dryRun: true })).dryRun, true);
    const kms = EmbeddedKms.open(box.path('home'));
    onTestFinished(() => kms.close());
    ask(kms, 'DisableKey', { KeyId: keyArn });
    for (const dryRun of [true, false]) {
      await assert.rejects(rewrapVolume(volume, { key: keyArn, kms: box.kms, dryRun }), failsWith('ERR_KMS_KEY_STATE', new RegExp(keyArn)));
      await assert.rejects(
        rewrapVolume(volume, { key: keyArn, kms: box.kms, dryRun, kmsAccess: { principal: `${ACCOUNT}user/anna` } }),
        failsWith('ERR_KMS_DENIED', /ReEncrypt.* as arn:aws:iam::000000000000:user\/anna failed/),
      );
      await assert.rejects(
        rewrapVolume(volume, { key: 'arn:aws:kms:eu-west-1:111122223333:key/x', kms: box.kms, dryRun }),
        failsWith('ERR_ARGUMENT', /within one region/),
      );
      await assert.rejects(
        rewrapVolume(volume, { key: 'alias/none', kms: box.kms, dryRun }),
        failsWith('ERR_KMS_NOT_FOUND', /alias\/none/),
      );
    }
    assert.ok(box.contents('disk.vol').equals(before));
  });

  test('who may move it there, and could not open it then, is refused before anything is written', async () => {
    const { box, keyArn, volume } = await prepared();
    const before = box.contents('disk.vol');
    const kms = EmbeddedKms.open(box.path('home'));
    onTestFinished(() => kms.close());
    const anna = `${ACCOUNT}user/anna`;
    const { keyId } = await describeVolume(volume);
    ask(kms, 'CreateGrant', { KeyId: keyId, GranteePrincipal: anna, Operations: ['Decrypt', 'ReEncryptFrom'] });
    ask(kms, 'CreateGrant', { KeyId: keyArn, GranteePrincipal: anna, Operations: ['ReEncryptTo'] });
    const options = { key: keyArn, kms: box.kms, kmsAccess: { principal: anna } };
    await assert.rejects(rewrapVolume(volume, options), failsWith('ERR_KMS_DENIED', /Decrypt under key/));
    assert.ok(box.contents('disk.vol').equals(before));
    ask(kms, 'CreateGrant', { KeyId: keyArn, GranteePrincipal: anna, Operations: ['Decrypt'] });
    await rewrapVolume(volume, options);
    assert.equal((await describeVolume(volume)).keyId, keyArn);
  });

  test('an attached volume is busy, another context is refused', async () => {
    const { box, keyArn, volume } = await prepared();
    {
      await using _ = await attach(volume, { kms: box.kms });
      await assert.rejects(rewrapVolume(volume, { key: keyArn, kms: box.kms }), failsWith('ERR_STATE_BUSY', /attached/));
    }
    await assert.rejects(
      rewrapVolume(volume, { key: keyArn, kms: box.kms, encryptionContext: { user: 'bob' } }),
      failsWith('ERR_CONTEXT_MISMATCH', /"user" is "alice", expected was "bob"/),
    );
  });

  test('cut off after any byte of its writes, the volume opens: under the old key or under the new one', async () => {
    const { box, image, keyArn, volume } = await prepared();
    const before = box.contents('disk.vol');
    // What a rewrap writes, in order: recorded by comparing the file before and after, copy by copy, as writeHeader
    // does.
    await rewrapVolume(volume, { key: keyArn, kms: box.kms });
    const after = box.contents('disk.vol');
    const copyBytes = 16384;
    const states: [string, Buffer][] = [];
    for (const cut of [0, 1, 511, 4096, 9000, copyBytes]) {
      const one = Buffer.from(before);
      after.copy(one, copyBytes, copyBytes, copyBytes + cut);
      states.push([`secondary to ${cut}`, one]);
      const both = Buffer.from(before);
      after.copy(both, copyBytes, copyBytes, 2 * copyBytes);
      after.copy(both, 0, 0, cut);
      states.push([`primary to ${cut}`, both]);
    }
    for (const [name, bytes] of states) {
      writeFileSync(volume, bytes);
      assert.ok((await contentsOf(volume, { kms: box.kms })).equals(image), name);
      // And the same command again finishes it.
      await rewrapVolume(volume, { key: keyArn, kms: box.kms });
      assert.equal((await describeVolume(volume)).keyId, keyArn, name);
    }
  });
});
