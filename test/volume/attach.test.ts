import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { shuffled } from '../../src/bench/sampling.js';
import { attach, createVolume, decryptImage, encryptImage, VolsealError } from '../../src/index.js';
import { native } from '../../src/native.js';
import { poolIsUsed } from '../../src/workers/pool.js';
import { built } from '../built.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { sandbox } from './sandbox.js';

describe('reading and writing', () => {
  for (const sectorBytes of [512, 4096]) {
    test(`any offset, any length, ${sectorBytes}-byte sectors: the volume behaves as an array of bytes`, async () => {
      const box = sandbox();
      const sizeBytes = 64 * 1024;
      await createVolume(box.path('a.vol'), { sizeBytes, sectorBytes, allocation: 'full', kms: box.kms });
      const model = Buffer.alloc(sizeBytes);
      const range = fc
        .tuple(fc.nat(sizeBytes), fc.oneof(fc.nat(3), fc.nat(5 * 4096), fc.constant(4096)))
        .map(([offset, length]) => ({ offset, length: Math.min(length, sizeBytes - offset) }));
      await using volume = await attach(box.path('a.vol'), { kms: box.kms });
      await fc.assert(
        fc.asyncProperty(range, range, fc.nat(255), async (write, read, fill) => {
          const bytes = Buffer.alloc(write.length, fill);
          await volume.write(write.offset, bytes);
          model.set(bytes, write.offset);
          assert.ok(model.subarray(read.offset, read.offset + read.length).equals(await volume.read(read.offset, read.length)));
        }),
        { numRuns: 300 },
      );
      await volume.detach();
      await decryptImage(box.path('a.vol'), box.path('a.raw'), { kms: box.kms });
      assert.ok(box.contents('a.raw').equals(model));
    });
  }

  test('writes side by side that share sectors lose no byte', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 64 * 1024, sectorBytes: 4096, kms: box.kms });
    await using volume = await attach(box.path('a.vol'), { kms: box.kms });
    for (let round = 0; round < 20; round++) {
      // 100 bytes each: about 40 writers share every sector.
      const expected = Buffer.from(Array.from({ length: 60_000 }, (_, i) => (round + Math.floor(i / 100)) % 256));
      const offsets = shuffled(600).map((index) => index * 100);
      await Promise.all(offsets.map((offset) => volume.write(offset, expected.subarray(offset, offset + 100))));
      assert.ok(expected.equals(await volume.read(0, expected.length)));
    }
  });

  test('requests larger than one task, and the caller may reuse its buffer at once', async () => {
    const box = sandbox();
    const sizeBytes = 40 * 1024 * 1024;
    await createVolume(box.path('a.vol'), { sizeBytes, kms: box.kms });
    await using volume = await attach(box.path('a.vol'), { kms: box.kms });
    const bytes = Buffer.alloc(sizeBytes - 1000, 0x5a);
    const writing = volume.write(777, bytes);
    bytes.fill(0);
    await writing;
    const back = Buffer.from(await volume.read(0, sizeBytes));
    assert.ok(back.subarray(777, 777 + bytes.length).equals(Buffer.alloc(bytes.length, 0x5a)));
    assert.ok(back.subarray(0, 777).equals(Buffer.alloc(777)));
  });

  test('outside the volume is refused, the edge is not', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
    await using volume = await attach(box.path('a.vol'), { kms: box.kms });
    assert.equal((await volume.read(4096, 0)).length, 0);
    assert.equal((await volume.read(4095, 1)).length, 1);
    const outside: [number, number][] = [
      [4096, 1],
      [4095, 2],
      [-1, 1],
      [0, -1],
      [0.5, 1],
      [Number.NaN, 1],
      [2 ** 53, 1],
      [0, Number.POSITIVE_INFINITY],
    ];
    for (const [offset, length] of outside)
      await assert.rejects(volume.read(offset, length), { code: 'ERR_ARGUMENT' }, `${offset}, ${length}`);
    await assert.rejects(volume.write(4090, Buffer.alloc(7)), { code: 'ERR_ARGUMENT' });
    for (const name of ['trim', 'zero', 'extents'] as const) await assert.rejects(volume[name](4000, 97), { code: 'ERR_ARGUMENT' });
  });

  test('trim of a full volume changes nothing and frees nothing: nobody sees which sectors are in use', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 1024 * 1024, kms: box.kms, allocation: 'full' });
    await using volume = await attach(box.path('a.vol'), { kms: box.kms });
    await volume.write(0, Buffer.from('still here'));
    const before = statSync(box.path('a.vol')).blocks;
    await volume.trim(0, 1024 * 1024);
    assert.equal(Buffer.from(await volume.read(0, 10)).toString(), 'still here');
    await volume.flush();
    assert.equal(statSync(box.path('a.vol')).blocks, before);
  });
});

describe('attach and detach', () => {
  test('the facts of a volume; several volumes share one pool; the last detach ends it and leaves no key', async () => {
    const box = sandbox();
    const image = box.image('a.raw', 8192);
    const info = await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, sectorBytes: 4096 });
    await createVolume(box.path('b.vol'), { sizeBytes: 512, kms: box.kms });
    const a = await attach(box.path('a.vol'), { kms: box.kms });
    const b = await attach(box.path('b.vol'), { kms: box.kms });
    assert.deepEqual([a.volumeId, a.sizeBytes, a.sectorBytes], [info.volumeId, 8192, 4096]);
    assert.equal(native.vaultInfo().liveKeys, 2);
    await a.detach();
    assert.equal(native.vaultInfo().liveKeys, 1);
    assert.equal(poolIsUsed(), true);
    await b.detach();
    assert.equal(native.vaultInfo().liveKeys, 0);
    assert.equal(poolIsUsed(), false);
    const again = await attach(box.path('a.vol'), { kms: box.kms });
    assert.ok(image.equals(await again.read(0, 8192)));
    await again.detach();
  });

  test('after detach every call says so, and detach itself may be called again', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
    const volume = await attach(box.path('a.vol'), { kms: box.kms });
    const early = volume.read(0, 4096);
    const detached = volume.detach();
    for (const call of [
      () => volume.read(0, 1),
      () => volume.write(0, Buffer.alloc(1)),
      () => volume.flush(),
      () => volume.trim(0, 1),
      () => volume.zero(0, 1),
      () => volume.extents(0, 1),
    ]) {
      await assert.rejects(call, { code: 'ERR_STATE_DETACHED' });
    }
    assert.equal((await early).length, 4096);
    await detached;
    await volume.detach();
  });

  test('await using detaches', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
    {
      await using volume = await attach(box.path('a.vol'), { kms: box.kms });
      await volume.write(0, Buffer.from('x'));
    }
    assert.equal(native.vaultInfo().liveKeys, 0);
  });

  test('one writer or many readers, in this process and among processes', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
    const busy = { code: 'ERR_STATE_BUSY', details: { path: box.path('a.vol') } };
    const tryElsewhere = async (readOnly: boolean): Promise<string> => {
      const child = spawn(process.execPath, [built('test/volume/attach-once.ts'), box.path('a.vol'), box.kms, String(readOnly)]);
      let output = '';
      child.stdout.on('data', (chunk) => {
        output += chunk;
      });
      await once(child, 'close');
      return output.trim();
    };
    {
      await using _writer = await attach(box.path('a.vol'), { kms: box.kms });
      await assert.rejects(attach(box.path('a.vol'), { kms: box.kms }), busy);
      await assert.rejects(attach(box.path('a.vol'), { kms: box.kms, readOnly: true }), busy);
      await assert.rejects(decryptImage(box.path('a.vol'), box.path('a.raw'), { kms: box.kms }), busy);
      await assert.rejects(createVolume(box.path('a.vol'), { sizeBytes: 512, kms: box.kms, force: true }), busy);
      assert.equal(await tryElsewhere(false), 'ERR_STATE_BUSY');
      assert.equal(await tryElsewhere(true), 'ERR_STATE_BUSY');
    }
    {
      await using _one = await attach(box.path('a.vol'), { kms: box.kms, readOnly: true });
      await using _two = await attach(box.path('a.vol'), { kms: box.kms, readOnly: true });
      await assert.rejects(attach(box.path('a.vol'), { kms: box.kms }), busy);
      assert.equal(await tryElsewhere(true), 'attached');
      assert.equal(await tryElsewhere(false), 'ERR_STATE_BUSY');
    }
    assert.equal(await tryElsewhere(false), 'attached');
  });

  test('a reader cannot write', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
    await using volume = await attach(box.path('a.vol'), { kms: box.kms, readOnly: true });
    for (const call of [() => volume.write(0, Buffer.alloc(1)), () => volume.flush(), () => volume.trim(0, 1)]) {
      await assert.rejects(call, { code: 'ERR_STATE_READ_ONLY' });
    }
  });

  test('errors are VolsealErrors with their file, also when they come from another thread', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
    const failure = await attach(box.path('a.vol'), { kms: `embedded:${box.path('another home')}` }).catch((error) => error);
    assert.ok(failure instanceof VolsealError);
    assert.match(failure.code, /^ERR_KMS_/);
    assert.equal(failure.details.path, box.path('a.vol'));
    assert.equal(poolIsUsed(), false);
  });
});

testUnless(skipWithout('taskset', 'mkfifo', 'timeout'))(
  'a pipe that stalls keeps no attached volume waiting, on one processor either',
  async () => {
    const box = sandbox();
    box.image('a.raw', 4096);
    const image = readFileSync(box.path('a.raw'));
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    const script = built('test/volume/beside-a-stalled-pipe.ts');
    runTool('mkfifo', [box.path('pipe')]);
    const words = [process.execPath, script, box.path('a.vol'), box.kms, box.path('b.vol'), box.path('pipe')];
    assert.equal(runTool('timeout', ['60', 'taskset', '-c', '0', ...words]), `${image[0]}\nERR_ABORTED\n`);
  },
);
