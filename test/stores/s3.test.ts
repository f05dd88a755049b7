/** Volumes and images in S3, against the strict fake (strict-s3.ts), by the library and by the program. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { createVolume, decryptImage, describeVolume, encryptImage, type Progress, readStoredRange, verifyVolume } from '../../src/index.js';
import { STORE_ATTEMPTS } from '../../src/limits.js';
import { ended, failureOf, lab } from '../cli/program.js';
import { nothingHeld } from '../volume/nothing-held.js';
import { sandbox } from '../volume/sandbox.js';
import { type Fault, strictS3 } from './strict-s3.js';

const SIGNER = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' };
Object.assign(process.env, SIGNER);

const MIB = 1024 * 1024;
/** Three parts, the last one short, and no whole number of sectors of 4096. */
const IMAGE_BYTES = 40 * MIB + 512;

async function office() {
  const box = sandbox();
  const s3 = await strictS3('images');
  return { box, s3, kms: box.kms, store: { endpointUrl: s3.url } };
}

const read = async (path: string, range: object, options: object): Promise<Buffer> => {
  const pieces: Uint8Array[] = [];
  await readStoredRange(path, range, options, async (stream) => {
    for await (const piece of stream) pieces.push(Buffer.from(piece));
  });
  return Buffer.concat(pieces);
};

describe('images and volumes in S3', () => {
  for (const sectorBytes of [512, 4096]) {
    test(`file to object, object to file, object to object, with sectors of ${sectorBytes} bytes`, async () => {
      const { box, s3, kms, store } = await office();
      const image = box.image('a.raw', IMAGE_BYTES);
      const progress: Progress[] = [];
      const made = await encryptImage(box.path('a.raw'), 's3://images/a.vol', {
        ...{ kms, store, sectorBytes, pad: true },
        onProgress: (step) => progress.push(step),
      });
      const object = s3.objects.get('images/a.vol')!;
      assert.equal(object.bytes.length, MIB + made.sizeBytes);
      assert.deepEqual(progress.at(-1), { doneBytes: object.bytes.length, totalBytes: object.bytes.length });
      assert.equal(s3.uploads.size, 0);

      // The object is a volume like any other: as a file, the other way of decrypting opens it.
      writeFileSync(box.path('a.vol'), object.bytes);
      await decryptImage(box.path('a.vol'), box.path('from-file.raw'), { kms });
      assert.ok(box.contents('from-file.raw').equals(image));
      assert.deepEqual({ ...(await describeVolume('s3://images/a.vol', { store })), path: '' }, { ...without(made), path: '' });

      await decryptImage('s3://images/a.vol', box.path('again.raw'), { kms, store });
      assert.ok(box.contents('again.raw').equals(image));
      await decryptImage('s3://images/a.vol', 's3://images/again.raw', { kms, store });
      assert.ok(s3.objects.get('images/again.raw')!.bytes.equals(image));
      await decryptImage(box.path('a.vol'), 's3://images/third.raw', { kms, store });
      assert.ok(s3.objects.get('images/third.raw')!.bytes.equals(image));

      await encryptImage('s3://images/again.raw', box.path('b.vol'), { kms, store, sectorBytes, pad: true });
      await verifyVolume(box.path('b.vol'), { kms, against: box.path('a.raw') });
      await encryptImage('s3://images/again.raw', 's3://images/c.vol', { kms, store, sectorBytes, pad: true });
      assert.equal((await verifyVolume('s3://images/c.vol', { kms, store, against: box.path('a.raw') })).against, box.path('a.raw'));
      nothingHeld();
    });
  }

  test('a detached header beside a file from an object', async () => {
    const { box, s3, kms, store } = await office();
    const image = box.image('a.raw', 4 * MIB);
    s3.put('images/a.raw', image);
    await encryptImage('s3://images/a.raw', box.path('a.data'), { kms, store, header: box.path('a.header') });
    await decryptImage(box.path('a.data'), box.path('again.raw'), { kms, header: box.path('a.header') });
    assert.ok(box.contents('again.raw').equals(image));
  });

  test('ranges: only their sectors are fetched', async () => {
    const { box, s3, kms, store } = await office();
    const image = box.image('a.raw', 9 * MIB);
    await encryptImage(box.path('a.raw'), 's3://images/a.vol', { kms, store });
    for (const [offsetBytes, lengthBytes] of [
      [0, 1],
      [511, 2],
      [4 * MIB - 1, 2],
      [700, 5 * MIB],
      [9 * MIB - 3, 3],
      [9 * MIB, 0],
    ] as const) {
      const bytes = await read('s3://images/a.vol', { offsetBytes, lengthBytes }, { kms, store });
      assert.ok(bytes.equals(image.subarray(offsetBytes, offsetBytes + lengthBytes)), `${offsetBytes} + ${lengthBytes}`);
    }
    assert.ok((await read('s3://images/a.vol', {}, { kms, store })).equals(image));
    s3.requests.length = 0;
    await read('s3://images/a.vol', { offsetBytes: 5 * MIB, lengthBytes: 100 }, { kms, store });
    assert.deepEqual(s3.requests, ['HeadObject', 'GetObject', 'GetObject'], 'the header, and one range');
    await assert.rejects(read('s3://images/a.vol', { offsetBytes: 9 * MIB, lengthBytes: 1 }, { kms, store }), { code: 'ERR_ARGUMENT' });
    nothingHeld();
  });

  test('a sparse volume, put into S3 as it is, reads as its image; so does an empty one', async () => {
    const { box, s3, kms, store } = await office();
    const image = Buffer.alloc(6 * MIB);
    box.image('some.raw', 300_032).copy(image, 3 * MIB);
    writeFileSync(box.path('a.raw'), image);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms, allocation: 'sparse' });
    s3.put('images/a.vol', box.contents('a.vol'));
    await decryptImage('s3://images/a.vol', box.path('again.raw'), { kms, store });
    assert.ok(box.contents('again.raw').equals(image));
    await decryptImage(box.path('a.vol'), 's3://images/again.raw', { kms, store });
    assert.ok(s3.objects.get('images/again.raw')!.bytes.equals(image));

    await createVolume('s3://images/empty.vol', { kms, store, sizeBytes: MIB });
    assert.ok((await read('s3://images/empty.vol', {}, { kms, store })).equals(Buffer.alloc(MIB)));
    assert.ok(!s3.objects.get('images/empty.vol')!.bytes.subarray(MIB).includes(Buffer.alloc(512)), 'every sector is written');
  });

  const faults: [operation: string, faults: Fault[]][] = [
    ['UploadPart', ['throttle', 'fail', 'cut', 'flip', 'lostReply']],
    ['CreateMultipartUpload', ['throttle', 'cut', 'endless']],
    ['CompleteMultipartUpload', ['fail', 'cut']],
    ['CompleteMultipartUpload', ['lostReply']],
    ['GetObject', ['throttle', 'cutBody', 'cut', 'fail']],
    ['HeadObject', ['throttle', 'cut']],
  ];
  for (const [operation, list] of faults) {
    test(`${operation}: ${list.join(', ')} and then success: the bytes are right`, async () => {
      const { box, s3, kms, store } = await office();
      const image = box.image('a.raw', 20 * MIB);
      s3.put('images/a.raw', image);
      s3.fail(operation, ...list);
      await encryptImage('s3://images/a.raw', 's3://images/a.vol', { kms, store });
      await decryptImage('s3://images/a.vol', box.path('again.raw'), { kms, store });
      assert.ok(box.contents('again.raw').equals(image));
      assert.equal(s3.uploads.size, 0);
    });
  }

  const always = (fault: Fault): Fault[] => Array.from({ length: 100 }, () => fault);
  test('pages without an end: an error in time, and not in memory', async () => {
    const { box, s3, kms, store } = await office();
    box.image('a.raw', MIB);
    s3.fail('CreateMultipartUpload', ...always('endless'));
    const encrypting = encryptImage(box.path('a.raw'), 's3://images/a.vol', { kms, store });
    await assert.rejects(encrypting, { code: 'ERR_STORE_UNREACHABLE', message: /has more than 16777216 bytes$/ });
    // Of each try 16 MiB, and what lies in the sockets' buffers.
    assert.ok(s3.endlessBytes < STORE_ATTEMPTS * 32 * MIB, `${s3.endlessBytes} bytes were sent`);
  });

  test('a store that fails for good, or denies: a typed error, no object, no upload, no file', async () => {
    const { box, s3, kms, store } = await office();
    box.image('a.raw', 20 * MIB);
    const encrypt = () => encryptImage(box.path('a.raw'), 's3://images/a.vol', { kms, store });
    for (const [operation, fault, code] of [
      ['UploadPart', 'fail', 'ERR_STORE_UNREACHABLE'],
      ['UploadPart', 'deny', 'ERR_STORE_DENIED'],
      ['CompleteMultipartUpload', 'conflict', 'ERR_STATE_BUSY'],
    ] as const) {
      s3.requests.length = 0;
      s3.fail(operation, ...always(fault));
      await assert.rejects(encrypt(), { code });
      assert.equal(s3.objects.size, 0);
      assert.equal(s3.uploads.size, 0);
      // Two parts, under way at the same time.
      if (fault === 'deny') assert.ok(s3.requests.filter((name) => name === operation).length <= 2, 'a denial is not tried again');
      s3.mend();
    }
    nothingHeld();
  });

  test('what is missing, in the way, or not ours', async () => {
    const { box, s3, kms, store } = await office();
    const image = box.image('a.raw', MIB);
    s3.put('images/there', image);
    const rejects = (work: Promise<unknown>, code: string) => assert.rejects(work, { code });
    await rejects(describeVolume('s3://images/nothing', { store }), 'ERR_STORE_NOT_FOUND');
    await rejects(encryptImage('s3://nowhere/a.raw', box.path('a.vol'), { kms, store }), 'ERR_STORE_NOT_FOUND');
    await rejects(encryptImage(box.path('a.raw'), 's3://nowhere/a.vol', { kms, store }), 'ERR_STORE_NOT_FOUND');
    await rejects(describeVolume('s3://images/there', { store }), 'ERR_NOT_A_VOLUME');
    await rejects(encryptImage(box.path('a.raw'), 's3://images/there', { kms, store }), 'ERR_TARGET_EXISTS');
    assert.ok(s3.objects.get('images/there')!.bytes.equals(image));
    await encryptImage(box.path('a.raw'), 's3://images/there', { kms, store, force: true });
    s3.objects.get('images/there')!.bytes = s3.objects.get('images/there')!.bytes.subarray(0, MIB + 512);
    await rejects(describeVolume('s3://images/there', { store }), 'ERR_VOLUME_SIZE');
    s3.put('images/disk.qcow2', Buffer.concat([Buffer.from('514649fb', 'hex'), Buffer.alloc(MIB - 4)]));
    await rejects(encryptImage('s3://images/disk.qcow2', box.path('b.vol'), { kms, store }), 'ERR_ARGUMENT');
    for (const option of [{ sha256: true }, { allocation: 'sparse' as const }, { header: box.path('h'), resume: true }])
      await rejects(encryptImage(box.path('a.raw'), 's3://images/new.vol', { kms, store, ...option }), 'ERR_ARGUMENT');
    assert.equal(existsSync(box.path('b.vol')) || existsSync(box.path('a.vol')), false);
    assert.equal(s3.uploads.size, 0);
  });

  test('an object that comes meanwhile is not replaced', async () => {
    const { box, s3, kms, store } = await office();
    box.image('a.raw', MIB);
    const other = Buffer.from('somebody else was faster');
    s3.onRequest = (operation) => {
      if (operation === 'CompleteMultipartUpload') s3.put('images/a.vol', other);
    };
    await assert.rejects(encryptImage(box.path('a.raw'), 's3://images/a.vol', { kms, store }), { code: 'ERR_TARGET_EXISTS' });
    assert.ok(s3.objects.get('images/a.vol')!.bytes.equals(other));
    assert.equal(s3.uploads.size, 0);
  });

  test('an object that changes while it is read, or is deleted, is not mixed', async () => {
    const { box, s3, kms, store } = await office();
    for (const change of [() => s3.put('images/a.raw', box.image('b', 40 * MIB)), () => s3.objects.delete('images/a.raw')]) {
      s3.put('images/a.raw', box.image('a', 40 * MIB));
      let gets = 0;
      s3.onRequest = (operation) => {
        if (operation !== 'GetObject') return;
        gets += 1;
        if (gets === 4) change();
      };
      await assert.rejects(encryptImage('s3://images/a.raw', box.path('a.vol'), { kms, store }), { code: 'ERR_SOURCE_CHANGED' });
      assert.deepEqual(
        readdirSync(box.directory).filter((name) => name.includes('a.vol')),
        [],
      );
    }
  });

  test('an abort ends the upload and leaves nothing', async () => {
    const { box, s3, kms, store } = await office();
    box.image('a.raw', 40 * MIB);
    const stop = new AbortController();
    s3.onRequest = (operation) => {
      if (operation === 'UploadPart') stop.abort();
    };
    const work = encryptImage(box.path('a.raw'), 's3://images/a.vol', { kms, store, signal: stop.signal });
    await assert.rejects(work, { code: 'ERR_ABORTED' });
    assert.equal(s3.objects.size + s3.uploads.size, 0);
    nothingHeld();
  });

  test('data that differs is found, at the first byte', async () => {
    const { box, kms, store } = await office();
    const image = box.image('a.raw', 36 * MIB);
    await encryptImage(box.path('a.raw'), 's3://images/a.vol', { kms, store });
    for (const at of [33 * MIB + 7, 17 * MIB, 5]) {
      image[at]! ^= 1;
      writeFileSync(box.path('a.raw'), image);
      await assert.rejects(verifyVolume('s3://images/a.vol', { kms, store, against: box.path('a.raw') }), (error: unknown) => {
        assert.equal((error as { details: { offsetBytes: number } }).details.offsetBytes, at);
        return true;
      });
    }
  });
});

describe('the program', () => {
  test('encrypt, info, verify, read and decrypt s3://; exit statuses and hints', async () => {
    const box = lab();
    const s3 = await strictS3('images');
    const image = box.image('a.raw', 3 * MIB);
    const env = { ...SIGNER, AWS_ENDPOINT_URL_S3: s3.url };
    const run = async (...args: string[]) => {
      const child = box.start(args, env);
      const out: Buffer[] = [];
      child.stdout!.on('data', (chunk: Buffer) => out.push(chunk));
      const outcome = await ended(child);
      return { ...outcome, stdout: Buffer.concat(out), text: Buffer.concat(out).toString() };
    };
    assert.equal((await run('encrypt', 'a.raw', 's3://images/a.vol')).status, 0);
    assert.match((await run('info', 's3://images/a.vol')).text, /vol-[0-9a-f]{17}/);
    assert.equal((await run('verify', 's3://images/a.vol', '--against', 'a.raw')).status, 0);
    const part = await run('read', 's3://images/a.vol', '--offset', '1M', '--length', '4K');
    assert.ok(part.stdout.equals(image.subarray(MIB, MIB + 4096)));
    assert.equal((await run('decrypt', 's3://images/a.vol', 'again.raw')).status, 0);
    assert.ok(box.contents('again.raw').equals(image));

    const exists = await run('encrypt', 'a.raw', 's3://images/a.vol', '--json');
    assert.equal(exists.status, 4);
    assert.match(failureOf(exists).hint!, /--force/);
    const missing = await run('info', 's3://images/b.vol', '--json');
    assert.equal(missing.status, 4);
    assert.match(failureOf(missing).hint!, /aws s3 ls/);
    s3.fail('HeadObject', 'deny');
    const denied = await run('info', 's3://images/a.vol', '--json');
    assert.equal(denied.status, 6);
    assert.match(failureOf(denied).hint!, /s3:GetObject/);
  });
});

test('the AWS SDK for S3 is loaded by a command that names an object, and by no other', async () => {
  const box = lab();
  const s3 = await strictS3('images');
  box.image('a.raw', MIB);
  writeFileSync(
    box.path('hook.cjs'),
    `const vm = require('node:vm');
     vm.Script = class extends vm.Script {
       constructor(source, options) {
         super(source, options);
         if (options.filename?.endsWith('/stores-sdk.js')) require('node:fs').writeFileSync(${JSON.stringify(box.path('loaded'))}, '');
       }
     };`,
  );
  const env = { ...SIGNER, NODE_OPTIONS: `--require "${box.path('hook.cjs')}"` };
  const run = (...args: string[]) => ended(box.start(args, env));
  assert.equal((await run('encrypt', 'a.raw', 'a.vol')).status, 0);
  assert.equal((await run('verify', 'a.vol', '--against', 'a.raw')).status, 0);
  assert.equal(existsSync(box.path('loaded')), false);
  assert.equal((await run('encrypt', 'a.raw', 's3://images/a.vol', '--endpoint-url', s3.url)).status, 0);
  assert.equal(existsSync(box.path('loaded')), true);
});

/** What `encryptImage` adds to a description. */
function without<T extends { dataSeconds: number }>({ dataSeconds: _, ...info }: T): Omit<T, 'dataSeconds'> {
  return info;
}
