import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { describe, test } from 'vitest';
import { attach, createVolume, decryptImage, describeVolume, encryptImage } from '../../src/index.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** More than any file system here needs to know where a few pieces of data lie. */
const OVERHEAD_BYTES = 256 * 1024;

const allocatedBytes = (path: string): number => statSync(path).blocks * 512;
const isZeros = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** An image of `sizeBytes` with random bytes at the given places, holes elsewhere. */
function sparseImage(box: Sandbox, name: string, sizeBytes: number, places: readonly { offsetBytes: number; lengthBytes: number }[]) {
  const fd = openSync(box.path(name), 'w+');
  ftruncateSync(fd, sizeBytes);
  const pieces = places.map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, bytes: randomBytes(lengthBytes) }));
  for (const { offsetBytes, bytes } of pieces) writeSync(fd, bytes, 0, bytes.length, offsetBytes);
  closeSync(fd);
  return pieces;
}

function readFile(path: string, offsetBytes: number, lengthBytes: number): Buffer {
  const fd = openSync(path, 'r');
  const bytes = Buffer.alloc(lengthBytes);
  assert.equal(readSync(fd, bytes, 0, lengthBytes, offsetBytes), lengthBytes);
  closeSync(fd);
  return bytes;
}

describe('sparse volumes', () => {
  for (const header of [undefined, 'header'] as const) {
    test(`create makes one unless told otherwise; its sectors come with their use; header ${header ?? 'embedded'}`, async () => {
      const box = sandbox();
      const at = { kms: box.kms, ...(header === undefined ? {} : { header: box.path(header) }) };
      const info = await createVolume(box.path('a.vol'), { sizeBytes: GIB, ...at });
      assert.equal(info.allocation, 'sparse');
      assert.ok(allocatedBytes(box.path('a.vol')) <= OVERHEAD_BYTES);
      assert.equal(statSync(box.path('a.vol')).size, GIB + (header === undefined ? MIB : 0));
      const bytes = randomBytes(MIB + 11);
      {
        await using volume = await attach(box.path('a.vol'), at);
        assert.equal(volume.allocation, 'sparse');
        assert.ok(isZeros(await volume.read(GIB - 4096, 4096)));
        await volume.write(300 * MIB + 5, bytes);
        await volume.flush();
        assert.deepEqual(
          (await volume.extents(0, GIB)).map(({ zero }) => zero),
          [true, false, true],
        );
        assert.ok(bytes.equals(await volume.read(300 * MIB + 5, bytes.length)));
        assert.ok(isZeros(await volume.read(300 * MIB - 1000, 1005)));
      }
      const after = await describeVolume(box.path('a.vol'), { header: at.header });
      assert.ok(after.allocatedBytes! > MIB && after.allocatedBytes! <= MIB + OVERHEAD_BYTES);
    });
  }

  test('a full one is as large as it says; encrypt makes that unless told otherwise', async () => {
    const box = sandbox();
    sparseImage(box, 'a.raw', 8 * MIB, []);
    const made = await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    const created = await createVolume(box.path('b.vol'), { sizeBytes: 8 * MIB, kms: box.kms, allocation: 'full' });
    for (const { allocation, allocatedBytes } of [made, created]) {
      assert.equal(allocation, 'full');
      assert.ok(allocatedBytes! >= 8 * MIB);
    }
  });

  for (const sectorBytes of [512, 4096]) {
    test(`holes and zeros of an image stay holes there and back: ${sectorBytes}-byte sectors, an odd length`, async () => {
      const box = sandbox();
      const sizeBytes = 24 * MIB + 777;
      sparseImage(box, 'a.raw', sizeBytes, [
        { offsetBytes: 5000, lengthBytes: 1000 },
        { offsetBytes: 8 * MIB - 1, lengthBytes: 2 },
        { offsetBytes: sizeBytes - 1, lengthBytes: 1 },
      ]);
      const fd = openSync(box.path('a.raw'), 'r+');
      writeSync(fd, Buffer.alloc(4 * MIB), 0, 4 * MIB, 12 * MIB);
      closeSync(fd);
      const options = { kms: box.kms, allocation: 'sparse', sectorBytes, pad: true } as const;
      const info = await encryptImage(box.path('a.raw'), box.path('a.vol'), options);
      assert.deepEqual([info.allocation, info.imageBytes], ['sparse', sizeBytes]);
      assert.ok(info.allocatedBytes! <= OVERHEAD_BYTES);
      await decryptImage(box.path('a.vol'), box.path('b.raw'), { kms: box.kms });
      assert.ok(box.contents('b.raw').equals(box.contents('a.raw')));
      assert.ok(allocatedBytes(box.path('b.raw')) <= OVERHEAD_BYTES);
    });
  }

  test('decrypt leaves holes for zeros of a full volume where asked', async () => {
    const box = sandbox();
    sparseImage(box, 'a.raw', 8 * MIB, [{ offsetBytes: MIB, lengthBytes: 4096 }]);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    await decryptImage(box.path('a.vol'), box.path('full.raw'), { kms: box.kms });
    await decryptImage(box.path('a.vol'), box.path('holes.raw'), { kms: box.kms, sparse: true });
    for (const name of ['full.raw', 'holes.raw']) assert.ok(box.contents(name).equals(box.contents('a.raw')));
    assert.ok(allocatedBytes(box.path('full.raw')) >= 8 * MIB);
    assert.ok(allocatedBytes(box.path('holes.raw')) <= OVERHEAD_BYTES);
  });

  test('trim and zero give room back, also of ranges larger than a task; side by side with writes no byte is lost', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 3 * GIB, sectorBytes: 4096, kms: box.kms });
    await using volume = await attach(box.path('a.vol'), { kms: box.kms });
    await volume.write(GIB - 8 * MIB, randomBytes(16 * MIB));
    await volume.write(2 * GIB, randomBytes(MIB));
    await volume.flush();
    const before = allocatedBytes(box.path('a.vol'));
    await volume.trim(100, 3 * GIB - 100);
    assert.ok(allocatedBytes(box.path('a.vol')) <= before - 17 * MIB);
    assert.deepEqual(await volume.extents(0, 3 * GIB), [{ offsetBytes: 0, lengthBytes: 3 * GIB, zero: true }]);

    const expected = randomBytes(256 * 1024);
    await volume.write(0, expected);
    const pieces = Array.from({ length: 256 }, (_, i) => i * 1000);
    const changes = pieces.map((offset, i) => {
      if (i % 2 === 0) return volume.write(offset, expected.subarray(offset, offset + 1000));
      expected.fill(0, offset, offset + 1000);
      return volume.zero(offset, 1000);
    });
    await Promise.all(changes);
    assert.ok(expected.equals(await volume.read(0, expected.length)));
  });

  test('zero of a full volume writes ciphertext', async () => {
    const box = sandbox();
    const image = box.image('a.raw', 20 * MIB);
    const { dataOffsetBytes } = await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    {
      await using volume = await attach(box.path('a.vol'), { kms: box.kms });
      await volume.zero(333, 18 * MIB);
    }
    image.fill(0, 333, 333 + 18 * MIB);
    const ciphertext = box.contents('a.vol').subarray(dataOffsetBytes);
    for (let at = 0; at < ciphertext.length; at += 512) assert.ok(!isZeros(ciphertext.subarray(at, at + 512)));
    await decryptImage(box.path('a.vol'), box.path('b.raw'), { kms: box.kms });
    assert.ok(box.contents('b.raw').equals(image));
  });

  test('who can write the file can make zeros of a sparse sector, and noise of a full one', async () => {
    const box = sandbox();
    box.image('a.raw', MIB);
    for (const allocation of ['sparse', 'full'] as const) {
      const info = await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, allocation, force: true });
      const fd = openSync(box.path('a.vol'), 'r+');
      writeSync(fd, Buffer.alloc(512), 0, 512, info.dataOffsetBytes + 1024);
      closeSync(fd);
      await using volume = await attach(box.path('a.vol'), { kms: box.kms, readOnly: true });
      assert.equal(isZeros(await volume.read(1024, 512)), allocation === 'sparse');
    }
  });

  test('100 GiB with 64 MiB of data stay that small, and are done in seconds', async () => {
    const box = sandbox();
    const sizeBytes = 100 * GIB;
    const places = Array.from({ length: 64 }, (_, i) => ({ offsetBytes: i * 1600 * MIB + 4096 * i, lengthBytes: MIB }));
    const pieces = sparseImage(box, 'a.raw', sizeBytes, places);
    const small = 64 * MIB + 4 * OVERHEAD_BYTES;
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, allocation: 'sparse' });
    assert.ok(allocatedBytes(box.path('a.vol')) <= small);
    {
      await using volume = await attach(box.path('a.vol'), { kms: box.kms, readOnly: true });
      for (const { offsetBytes, bytes } of pieces) assert.ok(bytes.equals(await volume.read(offsetBytes, bytes.length)));
      assert.equal((await volume.extents(0, sizeBytes)).filter(({ zero }) => !zero).length, pieces.length);
    }
    await decryptImage(box.path('a.vol'), box.path('b.raw'), { kms: box.kms });
    assert.equal(statSync(box.path('b.raw')).size, sizeBytes);
    assert.ok(allocatedBytes(box.path('b.raw')) <= small);
    for (const { offsetBytes, bytes } of pieces) assert.ok(bytes.equals(readFile(box.path('b.raw'), offsetBytes, bytes.length)));
    assert.ok(isZeros(readFile(box.path('b.raw'), MIB, MIB)));
  });

  test('an allocation that does not exist is refused', async () => {
    const box = sandbox();
    for (const allocation of ['thin', '', null] as unknown as 'full'[])
      await assert.rejects(createVolume(box.path('a.vol'), { sizeBytes: 512, kms: box.kms, allocation }), { code: 'ERR_ARGUMENT' });
  });
});
