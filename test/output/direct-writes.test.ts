/** Pieces that are written around the page cache, and those that cannot be. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { constants, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, test } from 'vitest';
import { native } from '../../src/native.js';
import { DirectWrites, sharedPages } from '../../src/output/direct-writes.js';
import { NamedFile } from '../../src/output/named-file.js';

const directory = mkdtempSync(join(tmpdir(), 'volseal-direct-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Memory that begins so many bytes behind a page. */
function memory(byteCount: number, behindPage: number): Uint8Array {
  const bytes = sharedPages(behindPage + byteCount).subarray(behindPage);
  bytes.set(randomBytes(byteCount));
  return bytes;
}

test('shared memory begins at a page', () => {
  for (const byteCount of [1, 4096, 100_001]) {
    const bytes = sharedPages(byteCount);
    assert.equal(bytes.length, byteCount);
    assert.equal(native.pageOffset(bytes), 0);
  }
});

describe('a piece', () => {
  for (const [what, byteCount, behindPage, offsetBytes] of [
    ['of whole pages', 65_536, 0, 8192],
    ['whose end is no whole page', 65_537, 0, 8192],
    ['shorter than a page', 100, 0, 0],
    ['at no page of the file', 65_536, 0, 512],
    ['at no page of memory', 65_536, 16, 4096],
  ] as const) {
    for (const place of [directory, '/dev/shm'])
      test(`${what}, in ${place === directory ? 'a file' : 'a file in memory'}`, async () => {
        const path = join(place, `volseal-direct-${process.pid}`);
        try {
          const file = await NamedFile.open(path, constants.O_CREAT | constants.O_RDWR | constants.O_TRUNC);
          await using writes = await DirectWrites.open(file);
          const before = memory(200_000, 0);
          await file.write(before, 0);
          const piece = memory(byteCount, behindPage);
          await writes.write(piece, offsetBytes);
          before.set(piece, offsetBytes);
          assert.ok(readFileSync(path).equals(before));
          await file.close();
        } finally {
          rmSync(path, { force: true });
        }
      });
  }
});

test('a failure names the file and the offset', async () => {
  const file = await NamedFile.open('/dev/full', constants.O_WRONLY);
  await using writes = await DirectWrites.open(file);
  await assert.rejects(writes.write(memory(8192, 0), 4096), { code: 'ERR_IO', message: /\/dev\/full/ });
  await file.close();
});
