/** Volumes in S3 that are opened by their keyslots, without KMS, against the strict fake (strict-s3.ts). */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import {
  addPassphrase,
  addRecoveryKey,
  attach,
  decryptImage,
  describeVolume,
  encryptImage,
  readStoredRange,
  removeKeyslot,
  testKeyslot,
  verifyVolume,
} from '../../src/index.js';
import { ended, lab, parsed } from '../cli/program.js';
import { nothingHeld } from '../volume/nothing-held.js';
import { sandbox } from '../volume/sandbox.js';
import { strictS3 } from './strict-s3.js';

const SIGNER = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' };
Object.assign(process.env, SIGNER);

const MIB = 1024 * 1024;
const VOLUME = 's3://images/a.vol';
const NO_KMS = 'http://127.0.0.1:9';

/** A volume with a recovery key, and perhaps a passphrase, put into S3 as it is; KMS is gone. */
async function office({ passphrase = false } = {}) {
  const box = sandbox();
  const s3 = await strictS3('images');
  const image = box.image('a.raw', 20 * MIB);
  const volume = box.path('a.vol');
  await encryptImage(box.path('a.raw'), volume, { kms: box.kms });
  const [recoveryKeyFile, passphraseFile] = [box.path('a.key'), box.path('a.phrase')];
  await addRecoveryKey(volume, recoveryKeyFile, { kms: box.kms });
  writeFileSync(passphraseFile, 'correct horse\n');
  // It takes seconds.
  if (passphrase) await addPassphrase(volume, passphraseFile, { kms: box.kms });
  const store = { endpointUrl: s3.url };
  await decryptImage(volume, VOLUME, { store, asIs: true });
  s3.requests.length = 0;
  return { box, s3, image, recoveryKeyFile, passphraseFile, options: { kms: NO_KMS, store } };
}

describe('a volume in S3 by its keyslots', () => {
  test('decrypt, verify, read and attach', async () => {
    const { box, image, recoveryKeyFile, passphraseFile, options } = await office({ passphrase: true });
    for (const opened of [{ recoveryKeyFile }, { passphraseFile }]) {
      await decryptImage(VOLUME, box.path('b.raw'), { ...options, ...opened, force: true });
      assert.ok(box.contents('b.raw').equals(image));
    }
    const opened = { ...options, recoveryKeyFile };
    await verifyVolume(VOLUME, { ...opened, against: box.path('a.raw') });
    const pieces: Uint8Array[] = [];
    await readStoredRange(VOLUME, { offsetBytes: MIB + 1, lengthBytes: 1000 }, opened, async (stream) => {
      for await (const piece of stream) pieces.push(Buffer.from(piece));
    });
    assert.ok(Buffer.concat(pieces).equals(image.subarray(MIB + 1, MIB + 1001)));
    const volume = await attach(VOLUME, { ...opened, readOnly: true });
    assert.ok(image.subarray(0, 512).equals(await volume.read(0, 512)));
    await volume.detach();
    nothingHeld();
  });

  test('only header and keyslot are fetched to try one', async () => {
    const { s3, recoveryKeyFile, options } = await office();
    const recovery = await testKeyslot(VOLUME, { ...options, recoveryKeyFile });
    assert.deepEqual([recovery.keyslot, recovery.kind, recovery.path], ['0', 'recovery', VOLUME]);
    assert.deepEqual(s3.requests, ['HeadObject', 'GetObject', 'GetObject']);
    assert.deepEqual(
      (await describeVolume(VOLUME, options)).keyslotList.map(({ kind }) => kind),
      ['recovery'],
    );
    nothingHeld();
  });

  test('another key, another context, and a volume without keyslots are refused; a damaged area opens nothing', async () => {
    const { box, s3, recoveryKeyFile, options } = await office();
    await encryptImage(box.path('a.raw'), 's3://images/b.vol', { ...options, kms: box.kms });
    await encryptImage(box.path('a.raw'), box.path('c.vol'), { kms: box.kms });
    await addRecoveryKey(box.path('c.vol'), box.path('c.key'), { kms: box.kms });
    const refused = (work: Promise<unknown>, code: string) => assert.rejects(work, { code });
    const opened = { ...options, recoveryKeyFile };
    await refused(decryptImage(VOLUME, box.path('no.raw'), { ...options, recoveryKeyFile: box.path('c.key') }), 'ERR_KEYSLOT');
    await refused(verifyVolume('s3://images/b.vol', opened), 'ERR_KEYSLOT');
    await refused(testKeyslot(VOLUME, { ...opened, encryptionContext: { user: 'eve' } }), 'ERR_CONTEXT_MISMATCH');
    await refused(testKeyslot(VOLUME, options), 'ERR_ARGUMENT');
    s3.objects.get('images/a.vol')!.bytes.fill(0, 64 * 1024, 65 * 1024);
    await refused(verifyVolume(VOLUME, opened), 'ERR_KEYSLOT');
    nothingHeld();
  });
});

describe('keyslots of a volume in S3 are changed', () => {
  /** A volume in S3 alone, of two parts at least. */
  async function alone() {
    const box = sandbox();
    const s3 = await strictS3('images');
    const image = box.image('a.raw', 20 * MIB);
    const options = { kms: box.kms, store: { endpointUrl: s3.url } };
    await encryptImage(box.path('a.raw'), VOLUME, options);
    s3.requests.length = 0;
    const object = () => s3.objects.get('images/a.vol')!.bytes;
    const opens = async (opened: object): Promise<void> => {
      await decryptImage(VOLUME, box.path('b.raw'), { ...options, kms: NO_KMS, ...opened, force: true });
      assert.ok(box.contents('b.raw').equals(image));
    };
    return { box, s3, options, object, opens };
  }

  test('added, used and removed; the data is copied inside S3, and files agree', async () => {
    const { box, s3, options, object, opens } = await alone();
    const before = object();
    const recoveryKeyFile = box.path('a.key');
    const added = await addRecoveryKey(VOLUME, recoveryKeyFile, options);
    assert.deepEqual([added.keyslot, added.kind, added.path], ['0', 'recovery', VOLUME]);
    assert.equal(s3.requests.filter((name) => name === 'UploadPart').length, 1);
    assert.ok(s3.requests.includes('UploadPartCopy'));
    assert.ok(object().subarray(MIB).equals(before.subarray(MIB)));
    await opens({ recoveryKeyFile });
    // As a file it is the same volume, for every other reader.
    writeFileSync(box.path('a.vol'), object());
    assert.equal((await testKeyslot(box.path('a.vol'), { kms: NO_KMS, recoveryKeyFile })).keyslot, '0');

    const passphraseFile = box.path('a.phrase');
    writeFileSync(passphraseFile, 'correct horse');
    await addPassphrase(VOLUME, passphraseFile, { ...options, kms: NO_KMS, recoveryKeyFile });
    await opens({ passphraseFile });
    await removeKeyslot(VOLUME, '0', options);
    await assert.rejects(opens({ recoveryKeyFile }), { code: 'ERR_KEYSLOT' });
    await opens({ passphraseFile });
    await verifyVolume(VOLUME, { ...options, against: box.path('a.raw') });
    assert.equal(s3.uploads.size, 0);
    nothingHeld();
  });

  test('whatever fails, the object is as it was, and no key is shown for a keyslot that is not there', async () => {
    const { box, s3, options, object } = await alone();
    const before = object();
    const recoveryKeyFile = box.path('a.key');
    const add = () => addRecoveryKey(VOLUME, recoveryKeyFile, options);
    for (const operation of ['UploadPart', 'UploadPartCopy', 'CompleteMultipartUpload']) {
      s3.fail(operation, 'deny');
      await assert.rejects(add(), { code: 'ERR_STORE_DENIED' });
    }
    s3.onRequest = (operation) => {
      if (operation === 'CompleteMultipartUpload') s3.put('images/a.vol', Buffer.from('another'));
    };
    await assert.rejects(add(), { code: 'ERR_SOURCE_CHANGED' });
    assert.ok(object().equals(Buffer.from('another')));
    delete s3.onRequest;
    s3.put('images/a.vol', before);
    assert.equal(existsSync(recoveryKeyFile), false);

    // The key cannot be written: its keyslot goes again.
    const full = openSync('/dev/full', 'w');
    await assert.rejects(addRecoveryKey(VOLUME, { fd: full, name: 'a full disk' }, options), { code: 'ERR_IO' });
    closeSync(full);
    assert.equal((await describeVolume(VOLUME, options)).keyslots, 0);
    await verifyVolume(VOLUME, { ...options, against: box.path('a.raw') });

    for (const [name, more] of [
      [`${VOLUME}?versionId=1`, {}],
      ['ebs:snap-0123456789abcdef0', {}],
      [VOLUME, { header: box.path('a.header') }],
    ] as const)
      await assert.rejects(addRecoveryKey(name, recoveryKeyFile, { ...options, ...more }), { code: 'ERR_ARGUMENT' });
    await assert.rejects(removeKeyslot(VOLUME, '7', options), { code: 'ERR_ARGUMENT' });
    assert.equal(s3.uploads.size, 0);
    nothingHeld();
  });
});

test('the program: recovery list and test, decrypt', async () => {
  const { box: made, s3, image, recoveryKeyFile } = await office();
  const box = lab();
  writeFileSync(box.path('a.key'), made.contents('a.key'));
  assert.ok(recoveryKeyFile.endsWith('a.key'));
  const env = { ...SIGNER, AWS_ENDPOINT_URL_S3: s3.url };
  const ok = async (...args: string[]) => {
    const child = box.start(args, env);
    let text = '';
    child.stdout!.on('data', (chunk) => {
      text += chunk;
    });
    const { status, stderr } = await ended(child);
    assert.equal(status, 0, stderr);
    return text;
  };
  const { keyslots } = parsed(await ok('recovery', 'list', VOLUME, '--json')) as { keyslots: { kind: string }[] };
  assert.deepEqual(
    keyslots.map(({ kind }) => kind),
    ['recovery'],
  );
  assert.match(await ok('recovery', 'test', VOLUME, '--recovery-key-file', 'a.key'), /keyslot/);
  await ok('decrypt', VOLUME, 'b.raw', '--recovery-key-file', 'a.key');
  assert.ok(box.contents('b.raw').equals(image));
});
