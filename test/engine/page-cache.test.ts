/**
 * Where the bytes of a source come from: what the page cache holds is not fetched from the disk again, and the rest
 * stays out of it.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync } from 'node:fs';
import { describe, test } from 'vitest';
import { decryptImage, encryptImage } from '../../src/index.js';
import { sandbox } from '../volume/sandbox.js';
import { cachedBytes, dropFromCache } from './page-cache.js';

const MIB = 1024 * 1024;
const SIZE_BYTES = 160 * MIB;

/** How much of the work came from the disk, in bytes. */
async function bytesFromDisk(work: () => Promise<unknown>): Promise<number> {
  const before = process.resourceUsage().fsRead;
  await work();
  return (process.resourceUsage().fsRead - before) * 512;
}

/** Reads through the page cache, which fetches more behind it. */
function readThere(path: string, start: number, bytes: number): void {
  const fd = openSync(path, 'r');
  readSync(fd, Buffer.alloc(bytes), 0, bytes, start);
  closeSync(fd);
}

describe('the page cache', () => {
  test('a cached source is read from there; one that is not is read past it, and so is what lies behind a cached part', async () => {
    const box = sandbox();
    const image = box.image('a.raw', SIZE_BYTES);
    const encrypt = () => encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, force: true });
    const decrypt = () => decryptImage(box.path('a.vol'), box.path('b.raw'), { kms: box.kms, force: true });
    assert.ok((await bytesFromDisk(encrypt)) < SIZE_BYTES / 4);

    dropFromCache(box.path('a.raw'));
    assert.ok((await bytesFromDisk(encrypt)) >= SIZE_BYTES);
    assert.ok(cachedBytes(box.path('a.raw')) < SIZE_BYTES / 4);

    // How far the system fetches ahead of such a read, and when, differs from time to time.
    for (let tries = 0; tries < 4; tries++) {
      dropFromCache(box.path('a.vol'));
      readThere(box.path('a.vol'), 0, 8 * MIB);
      await decrypt();
      const cached = cachedBytes(box.path('a.vol'));
      assert.ok(cached >= 4 * MIB && cached < 64 * MIB, `${cached} bytes are cached`);
    }
    assert.ok(box.contents('b.raw').equals(image));
  });
});
