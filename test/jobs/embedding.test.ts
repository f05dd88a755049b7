/** What programs that embed volseal have beside paths and callbacks: streams, progress, lists, keys. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { describe, test } from 'vitest';
import { attach, decryptImage, encryptImage, kmsKeys, listVolumes, type Progress, VolsealError, watchProgress } from '../../src/index.js';
import { sandbox } from '../volume/sandbox.js';

const SIZE = 8 * 1024 * 1024;

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

/** The bytes in pieces of odd lengths. */
function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0, length = 1; at < bytes.length; at += length, length = ((length * 7 + 13) % 200_000) + 1) {
    yield bytes.subarray(at, at + length);
  }
}

describe('an image that is a stream of the program', () => {
  test('of Node, of the web, or a generator: the volume has its bytes', async () => {
    const { kms, path, image, contents } = sandbox();
    const bytes = image('disk.raw', SIZE);
    const file = await open(path('disk.raw'));
    const streams = {
      node: Readable.from(pieces(bytes)),
      web: Readable.toWeb(Readable.from(pieces(bytes))) as AsyncIterable<Uint8Array>,
      file: file.createReadStream(),
    };
    for (const [name, chunks] of Object.entries(streams)) {
      await encryptImage({ chunks, sizeBytes: SIZE }, path(name), { kms });
      await decryptImage(path(name), path(`${name}.raw`), { kms });
      assert.ok(contents(`${name}.raw`).equals(bytes), name);
    }
  });

  test('that fails, ends early or is too long: no volume, and its own error as the cause', async () => {
    const { kms, path, image } = sandbox();
    const bytes = image('disk.raw', SIZE);
    const cause = new Error('the download broke');
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 100_000);
      throw cause;
    }
    await assert.rejects(
      encryptImage({ chunks: broken(), sizeBytes: SIZE, name: 'the download' }, path('a'), { kms }),
      (error) => failsWith('ERR_IO', /^the download: .*the download broke/)(error) && (error as Error).cause === cause,
    );
    const short = (chunks: AsyncIterable<Uint8Array>, sizeBytes: number) => encryptImage({ chunks, sizeBytes }, path('a'), { kms });
    await assert.rejects(short(Readable.from(pieces(bytes.subarray(0, 4096))), SIZE), failsWith('ERR_IO', /the stream/));
    await assert.rejects(short(Readable.from(pieces(bytes)), 4096), failsWith('ERR_IO', /the stream/));
    assert.deepEqual(await listVolumes(path('.')), []);
  });

  test('that nobody ends: the signal does, and the stream is told', async () => {
    const { kms, path } = sandbox();
    let isEnded = false;
    const stop = new AbortController();
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (let count = 0; ; count += 1) {
          if (count === 20) stop.abort();
          yield new Uint8Array(65_536);
        }
      } finally {
        isEnded = true;
      }
    }
    const job = encryptImage({ chunks: endless(), sizeBytes: 2 ** 40 }, path('a'), { kms, allocation: 'sparse', signal: stop.signal });
    await assert.rejects(job, { code: 'ERR_ABORTED' });
    assert.ok(isEnded);
  });
});

describe('progress as an iterable', () => {
  test('comes to its end with the job, and gives the result', async () => {
    const { kms, path, image } = sandbox();
    image('disk.raw', SIZE);
    const job = watchProgress((progress) => encryptImage(path('disk.raw'), path('disk.vol'), { kms, ...progress }));
    const seen: Progress[] = [];
    for await (const progress of job) seen.push(progress);
    assert.deepEqual(seen.at(-1), { doneBytes: SIZE, totalBytes: SIZE });
    assert.equal((await job.result).sizeBytes, SIZE);
  });

  test('throws what the job throws', async () => {
    const { kms, path } = sandbox();
    const job = watchProgress((progress) => encryptImage(path('missing'), path('disk.vol'), { kms, ...progress }));
    await assert.rejects(
      async () => {
        for await (const _ of job);
      },
      failsWith('ERR_IO', /missing/),
    );
    await assert.rejects(job.result, failsWith('ERR_IO', /missing/));
  });

  test('gives a slow reader the newest, and stops with the loop while the job goes on', async () => {
    const totalBytes = 10;
    let onProgress: (progress: Progress) => void = () => {};
    const end = deferred<string>();
    const job = watchProgress((options) => {
      onProgress = options.onProgress ?? assert.fail();
      return end.promise;
    });
    for (let doneBytes = 1; doneBytes <= 5; doneBytes += 1) onProgress({ doneBytes, totalBytes });
    for await (const { doneBytes } of job) {
      assert.equal(doneBytes, 5);
      break;
    }
    end.resolve('made');
    assert.equal(await job.result, 'made');
  });
});

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

describe('listing volumes', () => {
  test('names volumes by their headers, and says why one cannot be described', async () => {
    const { kms, path, image } = sandbox();
    image('disk.raw', SIZE);
    mkdirSync(path('volumes/inner'), { recursive: true });
    const made = await encryptImage(path('disk.raw'), path('volumes/b.vol'), { kms });
    copyFileSync(path('volumes/b.vol'), path('volumes/inner/deeper.vol'));
    writeFileSync(path('volumes/notes.txt'), 'no volume');
    writeFileSync(path('volumes/a.damaged'), Buffer.concat([Buffer.from('LUKS\xba\xbe\0\x02', 'latin1'), Buffer.alloc(2 * 1024 * 1024)]));
    const listed = await listVolumes(path('volumes'));
    assert.deepEqual(
      listed.map((volume) => [volume.path, volume.info?.volumeId]),
      [
        [path('volumes/a.damaged'), undefined],
        [path('volumes/b.vol'), made.volumeId],
      ],
    );
    assert.match(listed[0]!.error!.code, /^ERR_HEADER_/);
    await assert.rejects(listVolumes(path('nowhere')), failsWith('ERR_IO', /nowhere/));
  });
});

describe('keys of a KMS', () => {
  test('are made, named, disabled and enabled; a volume opens accordingly', async () => {
    const { kms, path, image } = sandbox();
    image('disk.raw', SIZE);
    const keys = kmsKeys({ kms });
    const { keyArn, keyId } = await keys.createKey({ description: 'disks' });
    await keys.createAlias({ aliasName: 'alias/disks', keyId });
    const { keyId: made } = await encryptImage(path('disk.raw'), path('disk.vol'), { kms, key: 'alias/disks' });
    assert.equal(made, keyArn);

    await keys.disableKey({ keyId });
    assert.equal((await keys.describeKey({ keyId })).state, 'Disabled');
    await assert.rejects(attach(path('disk.vol'), { kms }), failsWith('ERR_KMS_KEY_STATE', /disabled/i));
    await keys.enableKey({ keyId });
    await (await attach(path('disk.vol'), { kms })).detach();

    const other = await keys.createKey();
    await keys.updateAlias({ aliasName: 'alias/disks', keyId: other.keyId });
    const named = (await keys.listAliases()).filter(({ aliasName }) => aliasName === 'alias/disks');
    assert.deepEqual(
      named.map((alias) => alias.keyId),
      [other.keyId],
    );
    await keys.deleteAlias({ aliasName: 'alias/disks' });
    assert.deepEqual((await keys.listAliases({ keyId: other.keyId })).length, 0);
    assert.ok((await keys.listKeys()).some((key) => key.keyArn === keyArn));
    await assert.rejects(keys.enableKey({ keyId: 'no-such-key' }), failsWith('ERR_KMS_NOT_FOUND', /no-such-key/));
  });
});
