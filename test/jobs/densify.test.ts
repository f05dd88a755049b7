import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, statfsSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'vitest';
import { attach, createVolume, decryptImage, densifyVolume, describeVolume, encryptImage, type Progress } from '../../src/index.js';
import { readHeader, writeHeader } from '../../src/luks2/store.js';
import { findToken, withToken } from '../../src/luks2/token.js';
import { native } from '../../src/native.js';
import { poolIsUsed } from '../../src/workers/pool.js';
import { runTool } from '../interop/tools.js';
import { skipWithoutMount, smallDisk } from '../mount.js';
import { testUnless } from '../requirements.js';
import { dataKeyOf, type Sandbox, sandbox } from '../volume/sandbox.js';
import { referenceTransform } from '../xts/reference.js';

const MIB = 1024 * 1024;
const SIZE_BYTES = 20 * MIB;

/** A sparse volume with some bytes in it. @returns what it reads as */
async function sparseVolume(box: Sandbox, sectorBytes: number, header?: string): Promise<Buffer> {
  await createVolume(box.path('a.vol'), { sizeBytes: SIZE_BYTES, sectorBytes, kms: box.kms, header });
  const plaintext = Buffer.alloc(SIZE_BYTES);
  await using volume = await attach(box.path('a.vol'), { kms: box.kms, header });
  for (const [offset, length] of [
    [10, 100],
    [5 * MIB - 1, 2],
    [9 * MIB, MIB],
    [SIZE_BYTES - 512, 512],
  ] as const) {
    const bytes = randomBytes(length);
    await volume.write(offset, bytes);
    plaintext.set(bytes, offset);
  }
  return plaintext;
}

async function sequenceOf(path: string): Promise<bigint> {
  await using file = await open(path, 'r');
  return (await readHeader(file, path)).header.sequence;
}

async function requirementsOf(path: string): Promise<string[] | undefined> {
  await using file = await open(path, 'r');
  return (await readHeader(file, path)).header.metadata.config.requirements?.mandatory;
}

describe('densify', () => {
  for (const sectorBytes of [512, 1024, 2048, 4096]) {
    for (const placement of ['embedded', 'detached'] as const) {
      test(`every sector is ciphertext of what it was: ${sectorBytes}-byte sectors, header ${placement}`, async () => {
        const box = sandbox();
        const header = placement === 'detached' ? box.path('header') : undefined;
        const plaintext = await sparseVolume(box, sectorBytes, header);
        const headerPath = header ?? box.path('a.vol');
        const before = await describeVolume(box.path('a.vol'), { header });
        const sequence = await sequenceOf(headerPath);
        assert.deepEqual(await requirementsOf(headerPath), ['volseal-sparse'], 'stock tools must refuse it');
        const seen: Progress[] = [];
        const full = await densifyVolume(box.path('a.vol'), { kms: box.kms, header, onProgress: (progress) => seen.push(progress) });
        assert.deepEqual([full.wasSparse, full.allocation], [true, 'full']);
        assert.ok(full.allocatedBytes! >= SIZE_BYTES);
        assert.deepEqual(seen.at(-1), { doneBytes: SIZE_BYTES, totalBytes: SIZE_BYTES });

        const after = await describeVolume(box.path('a.vol'), { header });
        assert.deepEqual(after, { ...before, allocation: 'full', allocatedBytes: after.allocatedBytes, hasHoles: false });
        assert.deepEqual(after.headerCopies, { primary: 'good', secondary: 'good' });
        assert.equal(await sequenceOf(headerPath), sequence + 1n);
        assert.equal(await requirementsOf(headerPath), undefined);

        const key = await dataKeyOf(box.path('a.vol'), box.kms, header);
        const ciphertext = readFileSync(box.path('a.vol')).subarray(after.dataOffsetBytes);
        assert.ok(referenceTransform(key, false, ciphertext, sectorBytes, 0).equals(plaintext));
        await decryptImage(box.path('a.vol'), box.path('a.raw'), { kms: box.kms, header });
        assert.ok(box.contents('a.raw').equals(plaintext));
        assert.deepEqual([native.vaultInfo().liveKeys, poolIsUsed()], [0, false]);
      });
    }
  }

  test('a full volume is proved and left as it is', async () => {
    const box = sandbox();
    box.image('a.raw', MIB);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    const before = box.contents('a.vol');
    const { wasSparse } = await densifyVolume(box.path('a.vol'), { kms: box.kms });
    assert.equal(wasSparse, false);
    assert.ok(box.contents('a.vol').equals(before));
  });

  test('a full volume that something else has trimmed: info shows it, the holes are filled, the data stays', async () => {
    const box = sandbox();
    const image = box.image('a.raw', 4 * MIB);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    assert.equal((await describeVolume(box.path('a.vol'))).hasHoles, false);
    const { dataOffsetBytes } = await describeVolume(box.path('a.vol'));
    runTool('fallocate', ['--punch-hole', '--offset', `${dataOffsetBytes + MIB}`, '--length', `${MIB}`, box.path('a.vol')]);
    assert.equal((await describeVolume(box.path('a.vol'))).hasHoles, true);
    const filled = await densifyVolume(box.path('a.vol'), { kms: box.kms });
    assert.deepEqual([filled.wasSparse, filled.hadHoles, filled.hasHoles, filled.allocation], [false, true, false, 'full']);
    image.fill(0, MIB, 2 * MIB);
    await decryptImage(box.path('a.vol'), box.path('b.raw'), { kms: box.kms });
    assert.ok(box.contents('b.raw').equals(image));
    assert.ok(!box.contents('a.vol').subarray(dataOffsetBytes).includes(Buffer.alloc(512)));
    const again = await densifyVolume(box.path('a.vol'), { kms: box.kms });
    assert.deepEqual([again.wasSparse, again.hadHoles], [false, false]);
  });

  testUnless(skipWithoutMount())('a disk that is too small for all of it is not filled', async () => {
    const box = sandbox();
    smallDisk(box.path('small'), 8 * MIB);
    const volume = box.path('small/a.vol');
    await createVolume(volume, { sizeBytes: SIZE_BYTES, kms: box.kms });
    const { bfree } = statfsSync(box.path('small'));
    const details = { path: volume, errno: 'ENOSPC', syscall: 'statvfs' };
    await assert.rejects(densifyVolume(volume, { kms: box.kms }), { code: 'ERR_IO', details });
    assert.equal(statfsSync(box.path('small')).bfree, bfree);
    assert.equal((await describeVolume(volume)).allocation, 'sparse');
  });

  test('not while somebody has the volume attached; not for somebody else', async () => {
    const box = sandbox();
    await sparseVolume(box, 512);
    {
      await using _ = await attach(box.path('a.vol'), { kms: box.kms, readOnly: true });
      await assert.rejects(densifyVolume(box.path('a.vol'), { kms: box.kms }), { code: 'ERR_STATE_BUSY' });
    }
    const options = { kms: box.kms, encryptionContext: { user: 'alice' } };
    await assert.rejects(densifyVolume(box.path('a.vol'), options), { code: 'ERR_CONTEXT_MISMATCH' });
    assert.equal((await describeVolume(box.path('a.vol'))).allocation, 'sparse');
  });

  test('a header that says full or sparse without the key is refused', async () => {
    const box = sandbox();
    await sparseVolume(box, 512);
    for (const allocation of ['full', 'sparse'] as const) {
      if (allocation === 'sparse') await densifyVolume(box.path('a.vol'), { kms: box.kms });
      const before = box.contents('a.vol');
      await using file = await open(box.path('a.vol'), 'r+');
      const { header } = await readHeader(file, 'a.vol');
      const metadata = withToken(header.metadata, { ...findToken(header.metadata, 'a.vol'), allocation });
      await writeHeader(file, { ...header, sequence: header.sequence + 1n, metadata }, 'a.vol');
      await assert.rejects(attach(box.path('a.vol'), { kms: box.kms }), { code: 'ERR_HEADER_MAC' });
      await assert.rejects(densifyVolume(box.path('a.vol'), { kms: box.kms }), { code: 'ERR_HEADER_MAC' });
      await file.write(before, 0, 32768, 0);
    }
  });

  test('a signal ends it: the volume is sparse and intact, and the next run resumes', async () => {
    const box = sandbox();
    const plaintext = await sparseVolume(box, 4096);
    const controller = new AbortController();
    const options = { kms: box.kms, signal: controller.signal, onProgress: () => controller.abort() };
    await assert.rejects(densifyVolume(box.path('a.vol'), options), { code: 'ERR_ABORTED', message: /sparse as before/ });
    const stopped = await describeVolume(box.path('a.vol'));
    assert.equal(stopped.allocation, 'sparse');
    assert.ok(stopped.allocatedBytes! > 5 * MIB && stopped.allocatedBytes! < SIZE_BYTES);
    await decryptImage(box.path('a.vol'), box.path('a.raw'), { kms: box.kms });
    assert.ok(box.contents('a.raw').equals(plaintext));
    assert.equal((await densifyVolume(box.path('a.vol'), { kms: box.kms })).allocation, 'full');
    await decryptImage(box.path('a.vol'), box.path('a.raw'), { kms: box.kms, force: true });
    assert.ok(box.contents('a.raw').equals(plaintext));
    assert.ok(statSync(box.path('a.vol')).blocks * 512 >= SIZE_BYTES);
  });
});
