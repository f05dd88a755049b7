/** Data in S3 whose header is in a file, against the strict fake (strict-s3.ts). */
import assert from 'node:assert/strict';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { describe, test } from 'vitest';
import {
  addRecoveryKey,
  attach,
  backupHeader,
  createVolume,
  decryptImage,
  describeVolume,
  encryptImage,
  readStoredRange,
  rewrapVolume,
  type VolsealError,
  verifyVolume,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { poolIsUsed } from '../../src/workers/pool.js';
import { ended, lab } from '../cli/program.js';
import { sandbox } from '../volume/sandbox.js';
import { strictS3 } from './strict-s3.js';

const SIGNER = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' };
Object.assign(process.env, SIGNER);

const MIB = 1024 * 1024;
const DATA = 's3://images/a.data';

async function office() {
  const box = sandbox();
  const s3 = await strictS3('images');
  const header = box.path('a.header');
  return { box, s3, header, options: { kms: box.kms, store: { endpointUrl: s3.url } } };
}

/** Data in S3, and its header in a file. */
async function made(imageBytes: number) {
  const all = await office();
  const { box, header, options } = all;
  const image = box.image('a.raw', imageBytes);
  const info = await encryptImage(box.path('a.raw'), DATA, { ...options, header });
  return { ...all, image, info, open: { ...options, header } };
}

const reading = async (path: string, range: object, options: object): Promise<Buffer> => {
  const pieces: Uint8Array[] = [];
  await readStoredRange(path, range, options, async (stream) => {
    for await (const piece of stream) pieces.push(Buffer.from(piece));
  });
  return Buffer.concat(pieces);
};

describe('a detached header', () => {
  for (const imageBytes of [512, 40 * MIB + 512]) {
    test(`of ${imageBytes} bytes: the object is the data alone; every reader takes header and object`, async () => {
      const { box, s3, header, image, info, open } = await made(imageBytes);
      assert.equal(s3.objects.get('images/a.data')!.bytes.length, imageBytes);
      assert.equal(statSync(header).size, MIB);
      assert.deepEqual([info.path, info.header, info.dataOffsetBytes], [DATA, header, 0]);
      const { dataSeconds: _, ...described } = info;
      assert.deepEqual(await describeVolume(DATA, open), described);

      await decryptImage(DATA, box.path('again.raw'), open);
      assert.ok(box.contents('again.raw').equals(image));
      assert.equal((await verifyVolume(DATA, open)).dataBound, true);
      await verifyVolume(DATA, { ...open, against: box.path('a.raw') });
      const range = { offsetBytes: 100, lengthBytes: Math.min(imageBytes - 100, 5 * MIB) };
      assert.ok((await reading(DATA, range, open)).equals(image.subarray(100, 100 + range.lengthBytes)));
      const volume = await attach(DATA, { ...open, readOnly: true });
      assert.ok(image.subarray(imageBytes - 9).equals(await volume.read(imageBytes - 9, 9)));
      await volume.detach();

      // As files they are a volume like any other, and belong to each other.
      writeFileSync(box.path('a.data'), s3.objects.get('images/a.data')!.bytes);
      assert.equal((await verifyVolume(box.path('a.data'), { kms: box.kms, header, against: box.path('a.raw') })).dataBound, true);
      assert.equal((await verifyVolume(box.path('a.data'), { kms: box.kms, header })).dataBound, true);
      assert.equal(poolIsUsed(), false);
      assert.equal(native.vaultInfo().liveKeys, 0);
    });
  }

  test('of a stream of unknown length, and of an empty volume', async () => {
    const { box, s3, header, options } = await office();
    const image = box.image('a.raw', 33 * MIB + 512);
    await encryptImage({ chunks: Readable.from([image]) }, DATA, { ...options, header });
    assert.equal(s3.objects.get('images/a.data')!.bytes.length, image.length);
    assert.equal((await verifyVolume(DATA, { ...options, header, against: box.path('a.raw') })).dataBound, true);
    const empty = box.path('empty.header');
    await createVolume('s3://images/empty.data', { ...options, header: empty, sizeBytes: MIB });
    assert.ok((await reading('s3://images/empty.data', {}, { ...options, header: empty })).equals(Buffer.alloc(MIB)));
  });

  test('that is another volume’s is refused, and so is data with a header of its own', async () => {
    const { box, open, options } = await made(2 * MIB);
    const other = box.path('b.header');
    await encryptImage(box.path('a.raw'), 's3://images/b.data', { ...options, header: other });
    await encryptImage(box.path('a.raw'), 's3://images/c.vol', options);
    const rejects = (work: Promise<unknown>, code: string) => assert.rejects(work, { code });
    await rejects(decryptImage(DATA, box.path('no.raw'), { ...options, header: other }), 'ERR_DATA_MISMATCH');
    await rejects(describeVolume(DATA, { ...options, header: other }), 'ERR_DATA_MISMATCH');
    await rejects(verifyVolume('s3://images/c.vol', open), 'ERR_ARGUMENT');
    await rejects(verifyVolume(DATA, options), 'ERR_NOT_A_VOLUME');
    assert.equal((await verifyVolume(DATA, { ...options, header: other, anyData: true })).dataBound, false);
    await rejects(rewrapVolume(DATA, { ...open, key: 'alias/aws/ebs' }), 'ERR_ARGUMENT');
    assert.equal(existsSync(box.path('no.raw')), false);
  });

  test('a backup opens an object whose own header is damaged, and no other', async () => {
    const { box, s3, options } = await office();
    const image = box.image('a.raw', 2 * MIB);
    for (const name of ['a', 'b']) {
      await encryptImage(box.path('a.raw'), box.path(`${name}.vol`), { kms: box.kms });
      await backupHeader(box.path(`${name}.vol`), box.path(`${name}.backup`));
      s3.put(`images/${name}.vol`, box.contents(`${name}.vol`));
    }
    s3.put('images/damaged.vol', Buffer.concat([Buffer.alloc(64 * 1024), box.contents('a.vol').subarray(64 * 1024)]));
    const backup = { ...options, header: box.path('a.backup') };
    for (const name of ['a', 'damaged']) assert.ok((await reading(`s3://images/${name}.vol`, {}, backup)).equals(image));
    await assert.rejects(reading('s3://images/b.vol', {}, backup), { code: 'ERR_DATA_MISMATCH' });
    await assert.rejects(reading('s3://images/damaged.vol', {}, options), { code: 'ERR_NOT_A_VOLUME' });
  });

  test('is a new file, which is not there where the object is not', async () => {
    const { box, s3, header, options } = await office();
    box.image('a.raw', MIB);
    const encrypt = (more: object = {}) => encryptImage(box.path('a.raw'), DATA, { ...options, header, ...more });
    for (const more of [{ resume: true }, { header: 's3://images/a.header' }])
      await assert.rejects(encrypt(more), { code: 'ERR_ARGUMENT' });
    s3.fail('UploadPart', 'deny');
    await assert.rejects(encrypt(), { code: 'ERR_STORE_DENIED' });
    assert.equal(existsSync(header), false);

    const other = Buffer.from('somebody else was faster');
    s3.onRequest = (operation) => {
      if (operation === 'CompleteMultipartUpload') s3.put('images/a.data', other);
    };
    await assert.rejects(encrypt(), { code: 'ERR_TARGET_EXISTS' });
    assert.ok(s3.objects.get('images/a.data')!.bytes.equals(other));
    assert.equal(existsSync(header), false);
    delete s3.onRequest;

    // Nobody can tell whether it was completed: the header stays.
    s3.fail('CompleteMultipartUpload', ...Array<'fail'>(20).fill('fail'));
    await assert.rejects(encrypt({ force: true }), (error: VolsealError) => {
      assert.deepEqual([error.code, error.details.header], ['ERR_STORE_UNREACHABLE', header]);
      assert.match(error.message, /remove it only if the data is not there/);
      return true;
    });
    assert.equal(existsSync(header), true);
    s3.mend();
    const uploads = s3.requests.length;
    await assert.rejects(encrypt({ force: true }), { code: 'ERR_TARGET_EXISTS', details: { path: header, kind: 'a header' } });
    assert.equal(s3.requests.length, uploads, 'S3 was not asked');
    assert.equal(s3.uploads.size, 0);
  });

  test('the program', async () => {
    const box = lab();
    const s3 = await strictS3('images');
    const image = box.image('a.raw', 3 * MIB);
    const env = { ...SIGNER, AWS_ENDPOINT_URL_S3: s3.url };
    const ok = async (...args: string[]) => {
      const { status, stderr } = await ended(box.start(args, env));
      assert.equal(status, 0, stderr);
    };
    const header = ['--header', 'a.header'];
    await ok('encrypt', 'a.raw', DATA, ...header);
    await ok('info', DATA, ...header);
    await ok('verify', DATA, ...header, '--against', 'a.raw');
    await ok('decrypt', DATA, 'again.raw', ...header);
    assert.ok(box.contents('again.raw').equals(image));
  });
});

test('a keyslot in a detached header', async () => {
  const { box, s3, header, image, options } = await made(2 * MIB);
  writeFileSync(box.path('a.data'), s3.objects.get('images/a.data')!.bytes);
  const recoveryKeyFile = box.path('a.key');
  await addRecoveryKey(box.path('a.data'), recoveryKeyFile, { kms: box.kms, header });
  assert.ok((await reading(DATA, {}, { store: options.store, header, recoveryKeyFile })).equals(image));
});
