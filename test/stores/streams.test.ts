/** Images that come in order, into S3, and volumes in S3 that go out in order: by the library and by the program. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, createReadStream, openSync, writeFileSync, writeSync } from 'node:fs';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'vitest';
import { decryptImage, describeVolume, encryptImage, verifyVolume } from '../../src/index.js';
import { native } from '../../src/native.js';
import { s3Location } from '../../src/stores/location.js';
import type { S3Connection } from '../../src/stores/s3/client.js';
import { S3Upload } from '../../src/stores/s3/upload.js';
import { ended, failureOf, lab } from '../cli/program.js';
import { nothingHeld } from '../volume/nothing-held.js';
import { sandbox } from '../volume/sandbox.js';
import { strictS3 } from './strict-s3.js';

const SIGNER = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' };
Object.assign(process.env, SIGNER);

const MIB = 1024 * 1024;

async function office() {
  const box = sandbox();
  const s3 = await strictS3('images');
  return { box, s3, options: { kms: box.kms, store: { endpointUrl: s3.url } } };
}

/** In chunks of a length that fits nothing. */
function* chunksOf(bytes: Buffer, chunkBytes = 1_000_003): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

/** Gives these bytes, and then nothing, for ever. */
async function* andThenNothing(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield* chunksOf(bytes);
  await new Promise(() => {});
}

describe('a stream into S3', () => {
  // The first part has 1 MiB of header: its data ends at 15 MiB.
  for (const imageBytes of [512, 15 * MIB, 15 * MIB + 512, 31 * MIB, 40 * MIB + 512]) {
    test(`${imageBytes} bytes, of a length that was known before, and of one that was not`, async () => {
      const { box, s3, options } = await office();
      const image = box.image('a.raw', imageBytes);
      for (const sizeBytes of [imageBytes, undefined]) {
        const made = await encryptImage({ chunks: Readable.from(chunksOf(image)), sizeBytes }, 's3://images/a.vol', {
          ...options,
          force: true,
        });
        assert.deepEqual([made.imageBytes, made.sizeBytes, made.path], [imageBytes, imageBytes, 's3://images/a.vol']);
        assert.equal(s3.objects.get('images/a.vol')!.bytes.length, MIB + imageBytes);
        const { dataSeconds: _, ...info } = made;
        assert.deepEqual(await describeVolume('s3://images/a.vol', options), info);
        await verifyVolume('s3://images/a.vol', { ...options, against: box.path('a.raw') });
        // As a file it is a volume like any other.
        writeFileSync(box.path('a.vol'), s3.objects.get('images/a.vol')!.bytes);
        await decryptImage(box.path('a.vol'), box.path('again.raw'), { kms: box.kms, force: true });
        assert.ok(box.contents('again.raw').equals(image));
      }
      assert.equal(s3.uploads.size, 0);
      nothingHeld();
    });
  }

  test('with --pad, any length; without, one that is not whole sectors is refused at its end, and no object comes', async () => {
    const { box, s3, options } = await office();
    const image = box.image('a.raw', 20 * MIB + 77);
    await encryptImage({ chunks: chunks(image) }, 's3://images/a.vol', { ...options, pad: true, sectorBytes: 4096 });
    await decryptImage('s3://images/a.vol', box.path('again.raw'), options);
    assert.ok(box.contents('again.raw').equals(image));
    for (const bytes of [image, Buffer.alloc(0)])
      await assert.rejects(encryptImage({ chunks: chunks(bytes) }, 's3://images/b.vol', options), { code: 'ERR_IMAGE_SIZE' });
    assert.equal(s3.objects.has('images/b.vol'), false);
    assert.equal(s3.uploads.size, 0);
    nothingHeld();
  });

  test('faults of S3 are tried again', async () => {
    const { box, s3, options } = await office();
    box.image('a.raw', 40 * MIB);
    s3.fail('UploadPart', 'throttle', 'cut', 'flip', 'lostReply');
    s3.fail('CompleteMultipartUpload', 'lostReply');
    await encryptImage({ chunks: chunks(box.contents('a.raw')) }, 's3://images/a.vol', options);
    await verifyVolume('s3://images/a.vol', { ...options, against: box.path('a.raw') });
  });

  test('a descriptor: a file from where it stands, and a pipe', async () => {
    const { box, options } = await office();
    const image = box.image('a.raw', 2 * MIB);
    const fd = openSync(box.path('a.raw'), 'r');
    await encryptImage({ fd, sizeBytes: 2 * MIB, name: 'a file' }, 's3://images/a.vol', options);
    closeSync(fd);
    await verifyVolume('s3://images/a.vol', { ...options, against: box.path('a.raw') });
    const { readFd, writeFd } = native.openPipe();
    const work = encryptImage({ fd: readFd, sizeBytes: 512, name: 'a pipe' }, 's3://images/b.vol', options);
    writeSync(writeFd, image.subarray(0, 512));
    closeSync(writeFd);
    await work;
    closeSync(readFd);
    await decryptImage('s3://images/b.vol', box.path('b.raw'), options);
    assert.ok(box.contents('b.raw').equals(image.subarray(0, 512)));
  });

  test('a stream that ends early, goes on, fails or gives something else: a typed error, no object, no upload', async () => {
    const { box, s3, options } = await office();
    const image = box.image('a.raw', 20 * MIB);
    const failing = async function* () {
      yield* chunksOf(image);
      throw new Error('no more');
    };
    const cases = [
      [{ chunks: chunks(image), sizeBytes: 20 * MIB + 512 }, 'ERR_IO', 'ENODATA'],
      [{ chunks: chunks(image), sizeBytes: 20 * MIB - 512 }, 'ERR_IO', 'EFBIG'],
      [{ chunks: failing() }, 'ERR_IO', undefined],
      [{ chunks: Readable.from(['text']) as AsyncIterable<Uint8Array> }, 'ERR_ARGUMENT', undefined],
    ] as const;
    for (const [source, code, errno] of cases) {
      await assert.rejects(
        encryptImage(source, 's3://images/a.vol', options),
        (error: Error & { code: string; details: { errno?: string } }) => {
          assert.deepEqual([error.code, error.details.errno], [code, errno], error.message);
          return true;
        },
      );
      assert.equal(s3.objects.size + s3.uploads.size, 0);
    }
    nothingHeld();
  });

  test('what cannot be is refused before KMS is asked', async () => {
    const { box, s3, options } = await office();
    const source = () => ({ chunks: chunks(Buffer.alloc(512)) });
    for (const [target, more] of [
      ['s3://images/a.vol', { sha256: true }],
      ['s3://images/a.vol', { resume: true }],
      ['s3://images/a.vol', { allocation: 'sparse' as const }],
      ['ebs:new', {}],
      [box.path('a.vol'), {}],
    ] as const)
      await assert.rejects(encryptImage(source(), target, { ...options, ...more }), { code: 'ERR_ARGUMENT' });
    assert.equal(s3.uploads.size, 0);
  });

  test('a wait for the next chunk ends with the signal, and with a failure of S3', async () => {
    const { box, s3, options } = await office();
    const image = box.image('a.raw', 40 * MIB);
    const stop = new AbortController();
    s3.onRequest = (operation) => {
      if (operation === 'UploadPart') stop.abort();
    };
    const work = encryptImage({ chunks: andThenNothing(image) }, 's3://images/a.vol', { ...options, signal: stop.signal });
    await assert.rejects(work, { code: 'ERR_ABORTED' });
    s3.onRequest = () => undefined;
    s3.fail('UploadPart', 'deny', 'deny', 'deny');
    await assert.rejects(encryptImage({ chunks: andThenNothing(image) }, 's3://images/a.vol', options), { code: 'ERR_STORE_DENIED' });
    assert.equal(s3.objects.size + s3.uploads.size, 0);
    nothingHeld();
  });

  test('more than 10,000 parts: the size must be known', async () => {
    const target = new S3Upload({} as S3Connection, s3Location('s3://images/a.vol'), 'id', {
      ...{ sizeBytes: undefined, pieceBytes: 16 * MIB, condition: {} },
    });
    const piece = { offsetBytes: 160_000 * MIB, bytes: new Uint8Array(512), crc32: 0, blockDigests: new Uint8Array() };
    await assert.rejects(target.write(piece), { code: 'ERR_IMAGE_SIZE' });
  });
});

describe('a volume in S3 as a stream', () => {
  test('into a file, a pipe, and a pipe that nobody reads', async () => {
    const { box, options } = await office();
    const image = box.image('a.raw', 30 * MIB + 77);
    await encryptImage(box.path('a.raw'), 's3://images/a.vol', { ...options, pad: true });
    const fd = openSync(box.path('b.raw'), 'w');
    const steps: number[] = [];
    const made = await decryptImage(
      's3://images/a.vol',
      { fd, name: 'a file' },
      { ...options, onProgress: ({ doneBytes }) => steps.push(doneBytes) },
    );
    closeSync(fd);
    assert.ok(box.contents('b.raw').equals(image));
    assert.deepEqual([made.imageBytes, made.path, steps.at(-1)], [image.length, 'a file', image.length]);

    const { readFd, writeFd } = native.openPipe();
    const read = buffer(createReadStream('', { fd: readFd }));
    await decryptImage('s3://images/a.vol', { fd: writeFd, name: 'a pipe' }, options);
    closeSync(writeFd);
    assert.ok((await read).equals(image));

    const broken = native.openPipe();
    closeSync(broken.readFd);
    await assert.rejects(decryptImage('s3://images/a.vol', { fd: broken.writeFd, name: 'a pipe' }, options), { code: 'ERR_IO' });
    closeSync(broken.writeFd);
    nothingHeld();
  });

  test('a reader that does not go on: the signal ends it', async () => {
    const { box, options } = await office();
    box.image('a.raw', 30 * MIB);
    await encryptImage(box.path('a.raw'), 's3://images/a.vol', options);
    const { readFd, writeFd } = native.openPipe();
    const stop = new AbortController();
    const work = decryptImage('s3://images/a.vol', { fd: writeFd, name: 'a pipe' }, { ...options, signal: stop.signal });
    // The pipe is full then, and the first piece is not.
    const first = createReadStream('', { fd: readFd, end: 0, autoClose: false, highWaterMark: 1 });
    await buffer(first);
    stop.abort();
    await assert.rejects(work, { code: 'ERR_ABORTED' });
    closeSync(readFd);
    closeSync(writeFd);
    nothingHeld();
  });
});

test('the program: through pipes, without a size, and back', async () => {
  const box = lab();
  const s3 = await strictS3('images');
  const image = box.image('a.raw', 20 * MIB);
  const env = { ...box.env, ...SIGNER, AWS_ENDPOINT_URL_S3: s3.url };
  const shell = async (line: string) => {
    const child = spawn('sh', ['-c', line], { cwd: box.directory, env });
    const said = ended(child);
    const [text] = await Promise.all([buffer(child.stdout), once(child, 'close')]);
    return { ...(await said), stdout: text, text: text.toString() };
  };
  const ok = async (line: string) => {
    const done = await shell(line);
    assert.equal(done.status, 0, done.stderr);
    return done;
  };
  await ok('cat a.raw | volseal encrypt - s3://images/a.vol');
  await ok('volseal encrypt - s3://images/b.vol < a.raw');
  await ok(`cat a.raw | volseal encrypt - s3://images/c.vol --size ${20 * MIB}`);
  for (const name of ['a', 'b', 'c']) await ok(`volseal verify s3://images/${name}.vol --against a.raw`);
  await ok('volseal decrypt s3://images/a.vol - | cat > b.raw');
  assert.ok(box.contents('b.raw').equals(image));
  await ok('volseal decrypt s3://images/a.vol - > c.raw');
  assert.ok(box.contents('c.raw').equals(image));
  // Standard output is a socket here.
  const said = await ok('volseal decrypt s3://images/a.vol - --json');
  assert.ok(said.stdout.equals(image));
  assert.equal(JSON.parse(said.stderr).imageBytes, image.length);
  assert.equal((await ok('volseal decrypt s3://images/a.vol - | head -c 100 | wc -c')).text.trim(), '100');

  const snapshot = await shell('cat a.raw | volseal encrypt - ebs:new --json');
  assert.equal(snapshot.status, 1);
  assert.match(failureOf(snapshot).hint!, /--size/);
  const file = await shell('cat a.raw | volseal encrypt - a.vol --json');
  assert.match(failureOf(file).message, /--size/);
});

/** As a program has them. */
const chunks = (bytes: Buffer): AsyncIterable<Uint8Array> => Readable.from(chunksOf(bytes));
