/** `rewrap s3://...`: a volume in S3 under another KMS key, against the strict fake. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import type { VolsealError } from '../../src/errors.js';
import { describeVolume, encryptImage, kmsKeys, rewrapVolume, verifyVolume } from '../../src/index.js';
import { ended, lab } from '../cli/program.js';
import { nothingHeld } from '../volume/nothing-held.js';
import { sandbox } from '../volume/sandbox.js';
import { type Fault, strictS3 } from './strict-s3.js';

const SIGNER = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' };
Object.assign(process.env, SIGNER);

const MIB = 1024 * 1024;
const VOLUME = 's3://images/golden images/a+b.vol';
const OBJECT = 'images/golden images/a+b.vol';

async function office(imageBytes = 40 * MIB + 512) {
  const box = sandbox();
  const s3 = await strictS3('images');
  box.image('a.raw', imageBytes);
  const store = { endpointUrl: s3.url };
  const { kms } = box;
  const made = await encryptImage(box.path('a.raw'), VOLUME, { kms, store });
  const { keyArn } = await kmsKeys({ kms }).createKey();
  s3.objects.get(OBJECT)!.metadata['x-amz-meta-owner'] = 'team';
  s3.requests.length = 0;
  const rewrap = (more: object = {}) => rewrapVolume(VOLUME, { kms, store, key: keyArn, ...more });
  return { box, s3, store, kms, made, keyArn, rewrap, before: s3.objects.get(OBJECT)! };
}

type Office = Awaited<ReturnType<typeof office>>;

/** The data and the metadata stay, the key is the new one, and a file of it is a volume like any other. */
async function isRewrapped({ box, s3, store, kms, keyArn, made, before }: Office): Promise<void> {
  const object = s3.objects.get(OBJECT)!;
  assert.equal(s3.uploads.size, 0);
  assert.equal(object.metadata['x-amz-meta-owner'], 'team');
  assert.ok(object.bytes.subarray(32 * 1024).equals(before.bytes.subarray(32 * 1024)));
  const info = await describeVolume(VOLUME, { store });
  assert.deepEqual([info.keyId, info.volumeId, info.uuid], [keyArn, made.volumeId, made.uuid]);
  writeFileSync(box.path('back.vol'), object.bytes);
  await verifyVolume(box.path('back.vol'), { kms, against: box.path('a.raw') });
  await verifyVolume(VOLUME, { kms, store, against: box.path('a.raw') });
}

describe('a volume in S3 under another KMS key', () => {
  for (const imageBytes of [40 * MIB + 512, 3 * MIB])
    test(`of ${imageBytes} bytes: the header is sent, the data is copied by S3`, async () => {
      const all = await office(imageBytes);
      const result = await all.rewrap();
      assert.deepEqual(result, {
        ...{ path: VOLUME, volumeId: all.made.volumeId, fromKeyArn: all.made.keyId, toKeyArn: all.keyArn, dryRun: false },
      });
      assert.equal(all.s3.requests.filter((name) => name === 'UploadPart').length, 1);
      assert.equal(all.s3.requests.filter((name) => name === 'UploadPartCopy').length, imageBytes > 16 * MIB ? 1 : 0);
      await isRewrapped(all);
      nothingHeld();
    });

  test('a dry run asks KMS and changes nothing', async () => {
    const { s3, rewrap, before, keyArn } = await office(MIB);
    assert.deepEqual([(await rewrap({ dryRun: true })).toKeyArn, s3.objects.get(OBJECT)], [keyArn, before]);
    await assert.rejects(rewrap({ dryRun: true, key: 'alias/nothing' }), { code: 'ERR_KMS_NOT_FOUND' });
    nothingHeld();
  });

  const faults: [operation: string, faults: Fault[]][] = [
    ['UploadPartCopy', ['throttle', 'cut', 'lostReply']],
    ['UploadPart', ['fail', 'flip']],
    ['CompleteMultipartUpload', ['fail', 'cut']],
    ['CompleteMultipartUpload', ['lostReply']],
    ['GetObject', ['cutBody', 'cut']],
  ];
  for (const [operation, list] of faults)
    test(`${operation}: ${list.join(', ')} and then success`, async () => {
      const all = await office();
      all.s3.fail(operation, ...list);
      await all.rewrap();
      await isRewrapped(all);
    });

  test('a copy that S3 denies leaves the object and no upload', async () => {
    const { s3, rewrap, before } = await office();
    s3.fail('UploadPartCopy', 'deny');
    await assert.rejects(rewrap(), { code: 'ERR_STORE_DENIED' });
    assert.equal(s3.objects.get(OBJECT), before);
    assert.equal(s3.uploads.size, 0);
    nothingHeld();
  });

  for (const operation of ['CreateMultipartUpload', 'UploadPartCopy', 'CompleteMultipartUpload'])
    for (const change of ['replaced', 'removed'] as const)
      test(`an object that is ${change} before ${operation} is not overwritten`, async () => {
        const { s3, rewrap } = await office();
        s3.onRequest = (name) => {
          if (name !== operation) return;
          if (change === 'replaced') s3.put(OBJECT, Buffer.from('another one'));
          else s3.objects.delete(OBJECT);
        };
        await assert.rejects(rewrap(), (error: VolsealError) => {
          assert.equal(error.code, 'ERR_SOURCE_CHANGED', error.message);
          return true;
        });
        assert.equal(s3.objects.get(OBJECT)?.bytes.toString(), change === 'replaced' ? 'another one' : undefined);
        assert.equal(s3.uploads.size, 0);
      });

  test('a version, a snapshot, a key of another region', async () => {
    const { rewrap, kms, store, keyArn } = await office(MIB);
    await assert.rejects(rewrapVolume(`${VOLUME}?versionId=x`, { kms, store, key: keyArn }), { code: 'ERR_ARGUMENT' });
    await assert.rejects(rewrapVolume('ebs:snap-00000000000000000', { kms, store, key: keyArn }), { code: 'ERR_ARGUMENT' });
    await assert.rejects(rewrap({ key: 'arn:aws:kms:us-west-1:000000000000:key/x' }), { code: 'ERR_ARGUMENT' });
  });
});

test('the program: files and objects together', async () => {
  const box = lab();
  const s3 = await strictS3('images');
  box.image('a.raw', MIB);
  const env = { ...SIGNER, AWS_ENDPOINT_URL_S3: s3.url };
  box.ok(['encrypt', 'a.raw', 'a.vol']);
  s3.put('images/a.vol', box.contents('a.vol'));
  const { keyArn } = JSON.parse(box.ok(['kms', 'create-key', '--json']).text) as { keyArn: string };
  const { status, stderr } = await ended(box.start(['rewrap', 'a.vol', 's3://images/a.vol', '--key', keyArn], env));
  assert.equal(status, 0, stderr);
  writeFileSync(box.path('back.vol'), s3.objects.get('images/a.vol')!.bytes);
  for (const name of ['a.vol', 'back.vol'])
    assert.equal((JSON.parse(box.ok(['info', name, '--json']).text) as { keyId: string }).keyId, keyArn);
  box.ok(['verify', 'back.vol', '--against', 'a.raw']);
});
