import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { describe, onTestFinished, test } from 'vitest';
import { attach, createVolume, type Volume } from '../../src/index.js';
import { built } from '../built.js';
import { sandbox } from './sandbox.js';

const SIZE_BYTES = 3 * 1024 * 1024;

/** An attached volume with random contents. */
async function filled(): Promise<{ volume: Volume; contents: Buffer }> {
  const box = sandbox();
  await createVolume(box.path('a.vol'), { sizeBytes: SIZE_BYTES, kms: box.kms });
  const volume = await attach(box.path('a.vol'), { kms: box.kms });
  onTestFinished(() => volume.detach());
  const contents = randomBytes(SIZE_BYTES);
  await volume.write(0, contents);
  return { volume, contents };
}

describe('reading into memory of the caller', () => {
  test('of an ArrayBuffer, of a SharedArrayBuffer, of a part of either, of no bytes', async () => {
    const { volume, contents } = await filled();
    for (const memory of [new ArrayBuffer(2_000_000), new SharedArrayBuffer(2_000_000)]) {
      for (const [start, length] of [
        [0, 2_000_000],
        [700, 5],
        [4096, 4096],
        [2_000_000, 0],
      ] as const) {
        const target = new Uint8Array(memory, start, length);
        await volume.readInto(1234, target);
        assert.ok(contents.subarray(1234, 1234 + length).equals(target));
      }
    }
  });

  test('memory that goes away meanwhile is not written to', async () => {
    const { volume } = await filled();
    const target = new Uint8Array(1_000_000);
    const reading = volume.readInto(0, target);
    const moved = structuredClone(target.buffer, { transfer: [target.buffer] });
    await assert.rejects(reading, { code: 'ERR_ARGUMENT', message: /detached/ });
    assert.ok(new Uint8Array(moved).every((byte) => byte === 0));
  });

  test('several pieces at a time, one behind the other', async () => {
    const { volume, contents } = await filled();
    const targets = [1, 4096, 0, 511, 1_500_000].map((length) => new Uint8Array(length));
    await volume.readv(100, targets);
    assert.ok(Buffer.concat(targets).equals(contents.subarray(100, 100 + 1_504_608)));
    await assert.rejects(volume.readv(SIZE_BYTES - 1, [new Uint8Array(1), new Uint8Array(1)]), { code: 'ERR_ARGUMENT' });
  });
});

test('pieces are written as one write of all of them, and copied at once', async () => {
  const { volume, contents } = await filled();
  const sources = [3, 0, 4096, 1_100_000].map((length) => randomBytes(length));
  const expected = Buffer.concat(sources);
  const writing = volume.writev(77, sources);
  for (const source of sources) source.fill(0);
  await writing;
  expected.copy(contents, 77);
  assert.ok(contents.equals(await volume.read(0, SIZE_BYTES)));
  await assert.rejects(volume.writev(SIZE_BYTES - 1, [Buffer.alloc(1), Buffer.alloc(1)]), { code: 'ERR_ARGUMENT' });
  await assert.rejects(volume.writev(0, [null as never]), TypeError);
});

test('many flushes and requests at once all end', async () => {
  const { volume } = await filled();
  const requests = Array.from({ length: 300 }, (_, index) =>
    index % 3 === 0 ? volume.flush() : index % 3 === 1 ? volume.write(index * 5000, Buffer.alloc(300, 1)) : volume.read(index * 5000, 7000),
  );
  assert.equal((await Promise.all(requests)).length, 300);
});

test('a thread that is ended in the middle of its requests takes nothing along but itself', async () => {
  const box = sandbox();
  await createVolume(box.path('a.vol'), { sizeBytes: SIZE_BYTES, kms: box.kms });
  const words = [built('test/volume/end-thread.ts'), box.path('a.vol'), box.kms];
  const { stdout, stderr, status } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  assert.deepEqual({ stdout, status }, { stdout: 'ended\n'.repeat(5), status: 0 }, stderr);
  // Its device is closed, and what it promised to nobody left the file whole.
  await using volume = await attach(box.path('a.vol'), { kms: box.kms });
  assert.equal((await volume.read(0, SIZE_BYTES)).length, SIZE_BYTES);
});

describe('streams', () => {
  test('read all, or a range whose end is its last byte', async () => {
    const { volume, contents } = await filled();
    assert.ok(contents.equals(await buffer(volume.createReadStream())));
    assert.ok(contents.subarray(5, 700_001).equals(await buffer(volume.createReadStream({ start: 5, end: 700_000 }))));
    assert.equal((await buffer(volume.createReadStream({ start: SIZE_BYTES }))).length, 0);
    assert.ok(contents.subarray(9).equals(await buffer(volume.readableWebStream({ start: 9, highWaterMark: 10_000 }))));
    for (const options of [{ start: -1 }, { start: SIZE_BYTES + 1 }, { end: SIZE_BYTES }, { start: 5, end: 3 }, { highWaterMark: 0 }])
      assert.throws(() => volume.createReadStream(options), { code: 'ERR_ARGUMENT' });
  });

  test('write what comes, in whatever chunks, and wait for the slower side', async () => {
    const { volume, contents } = await filled();
    const source = randomBytes(2_000_000);
    const chunks = function* (): Generator<Buffer> {
      for (let at = 0; at < source.length; at += 70_001) yield source.subarray(at, at + 70_001);
    };
    await pipeline(chunks, volume.createWriteStream({ start: 333 }));
    source.copy(contents, 333);
    assert.ok(contents.equals(await volume.read(0, SIZE_BYTES)));
    await pipeline(volume.createReadStream({ end: 999_999 }), volume.createWriteStream({ start: 1_000_000 }));
    assert.ok(contents.subarray(0, 1_000_000).equals(await volume.read(1_000_000, 1_000_000)));
  });

  test('tell what goes wrong: behind the end, after detaching, of a reader', async () => {
    const { volume } = await filled();
    const behind = volume.createWriteStream({ start: SIZE_BYTES - 1 });
    await assert.rejects(
      pipeline(function* () {
        yield Buffer.alloc(2);
      }, behind),
      { code: 'ERR_ARGUMENT' },
    );
    const reading = volume.createReadStream({ highWaterMark: 1000 });
    const web = volume.readableWebStream({ highWaterMark: 1000 });
    await volume.detach();
    await assert.rejects(buffer(reading), { code: 'ERR_STATE_DETACHED' });
    await assert.rejects(buffer(web), { code: 'ERR_STATE_DETACHED' });
    assert.throws(() => volume.createWriteStream(), { code: 'ERR_STATE_DETACHED' });
  });
});
