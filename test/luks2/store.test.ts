import assert from 'node:assert/strict';
import { type FileHandle, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { LUKS2_HEADER_SIZES } from '../../src/limits.js';
import { encodeHeader, encodeHeaderCopy, type Luks2Header } from '../../src/luks2/header.js';
import { readHeader, repairHeader, writeHeader } from '../../src/luks2/store.js';
import { flipBit, sampleHeader } from './sample-headers.js';

const COPY_BYTES = 16384;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'volseal-store-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function withFile<T>(name: string, content: Buffer, use: (file: FileHandle, path: string) => Promise<T>): Promise<T> {
  const path = join(directory, name);
  await writeFile(path, content);
  const file = await open(path, 'r+');
  try {
    return await use(file, path);
  } finally {
    await file.close();
  }
}

/**
 * A file in memory that records its calls, moves at most `stepBytes` at a time, and may fail at the nth write or sync.
 */
function recordingFile(content: Buffer, options: { stepBytes?: number; failAt?: number; fail?: () => number } = {}) {
  const calls: string[] = [];
  const data = Buffer.from(content);
  let changes = 0;
  const step = (length: number): number => Math.min(length, options.stepBytes ?? length);
  const changing = (): number | undefined => {
    changes += 1;
    return changes === options.failAt ? options.fail?.() : undefined;
  };
  const file = {
    async read(target: Buffer, targetAt: number, length: number, position: number) {
      const bytesRead = data.copy(target, targetAt, position, position + step(length));
      calls.push(`read ${position}`);
      return { bytesRead };
    },
    async write(source: Buffer, sourceAt: number, length: number, position: number) {
      const taken = changing() ?? step(length);
      source.copy(data, position, sourceAt, sourceAt + taken);
      calls.push(`write ${position}`);
      return { bytesWritten: taken };
    },
    async sync() {
      changing();
      calls.push('sync');
    },
  };
  return { file: file as unknown as FileHandle, calls, data };
}

const failing = (code: string, syscall: string) => (): never => {
  throw Object.assign(new Error(`${code}: injected, ${syscall}`), { code, syscall });
};

const older: Luks2Header = { ...sampleHeader(), sequence: 3n };
const newer: Luks2Header = { ...older, sequence: 4n, label: 'newer' };

describe('the header in its file', () => {
  test('is read back as it was written', async () => {
    await withFile('plain.img', Buffer.alloc(2 * 1024 * 1024, 0x5a), async (file, path) => {
      await writeHeader(file, newer, path);
      const found = await readHeader(file, path);
      assert.deepEqual(found.header, newer);
      assert.deepEqual(found.copies, { primary: 'good', secondary: 'good' });
      const content = await readFile(path);
      assert.equal(content.length, 2 * 1024 * 1024);
      assert.ok(content.subarray(2 * COPY_BYTES).equals(Buffer.alloc(content.length - 2 * COPY_BYTES, 0x5a)));
    });
  });

  test('is read whatever the pieces that the system returns', async () => {
    const { file, calls } = recordingFile(encodeHeader(newer), { stepBytes: 5000 });
    assert.deepEqual((await readHeader(file, 'a.img')).header, newer);
    const offsets = calls.map((call) => Number(call.slice('read '.length)));
    assert.deepEqual(offsets, [...new Set(offsets)], 'no byte is read twice');
  });

  test('no more of the file is read than two good copies of the smallest size take', async () => {
    const { file, calls } = recordingFile(Buffer.concat([encodeHeader(newer), Buffer.alloc(16 * 1024 * 1024, 0x5a)]));
    assert.equal((await readHeader(file, 'a.img')).stale, undefined);
    assert.deepEqual(calls, ['read 0']);
  });

  for (const copyBytes of LUKS2_HEADER_SIZES) {
    test(`copies of ${copyBytes} bytes are found, each without the other too`, async () => {
      const header = sampleHeader({ copyBytes });
      const area = Buffer.concat([encodeHeader(header), Buffer.alloc(16 * 1024 * 1024 - 2 * copyBytes, 0x5a)]);
      for (const [damagedAt, stale] of [
        [undefined, undefined],
        [0, 'primary'],
        [copyBytes, 'secondary'],
      ] as const) {
        const content = damagedAt === undefined ? area : flipBit(area, (damagedAt + 5000) * 8);
        const found = await readHeader(recordingFile(content, { stepBytes: 20_000 }).file, 'a.img');
        assert.deepEqual([found.header, found.stale], [header, stale]);
      }
    });
  }

  test('is written whatever the pieces that the system takes', async () => {
    const { file, data } = recordingFile(Buffer.alloc(2 * COPY_BYTES), { stepBytes: 777 });
    await writeHeader(file, newer, 'a.img');
    assert.deepEqual((await readHeader(recordingFile(data).file, 'a.img')).copies, { primary: 'good', secondary: 'good' });
  });

  test('is written one copy at a time, with a flush behind each, the last good one last', async () => {
    const first = recordingFile(encodeHeader(older));
    await writeHeader(first.file, newer, 'a.img');
    assert.deepEqual(first.calls, ['write 16384', 'sync', 'write 0', 'sync']);
    const second = recordingFile(encodeHeader(older));
    await writeHeader(second.file, newer, 'a.img', 'secondary');
    assert.deepEqual(second.calls, ['write 0', 'sync', 'write 16384', 'sync']);
  });

  for (const lastGood of ['primary', 'secondary'] as const) {
    test(`survives a crash at any write when the ${lastGood} was the last good copy`, async () => {
      const before = flipBit(encodeHeader(older), (lastGood === 'primary' ? COPY_BYTES + 100 : 100) * 8);
      // Pieces of 1000 bytes: 17 writes and a sync for each copy. Every prefix of them is a possible crash.
      for (let failAt = 1; failAt <= 36; failAt += 1) {
        const { file, data } = recordingFile(before, { stepBytes: 1000, failAt, fail: failing('EIO', 'write') });
        await assert.rejects(writeHeader(file, newer, 'a.img', lastGood), { code: 'ERR_IO' });
        const { header } = await readHeader(recordingFile(data).file, 'a.img');
        assert.deepEqual(header, header.sequence === 3n ? older : newer, `failed at ${failAt}`);
        if (failAt <= 1) assert.equal(header.sequence, 3n);
        // The first copy is whole and flushed: the update has happened.
        if (failAt > 18) assert.equal(header.sequence, 4n, `failed at ${failAt}`);
      }
    });
  }

  test('names file, offset and system error where a write fails', async () => {
    const { file } = recordingFile(encodeHeader(older), { stepBytes: 1000, failAt: 3, fail: failing('ENOSPC', 'write') });
    await assert.rejects(writeHeader(file, newer, '/data/a.img'), {
      code: 'ERR_IO',
      message: /^\/data\/a\.img: writing the secondary header at offset 18384 failed: ENOSPC/,
      details: { errno: 'ENOSPC', syscall: 'write', path: '/data/a.img', offsetBytes: 18384 },
    });
  });

  test('a write of 0 bytes is an error, not a loop', async () => {
    const { file } = recordingFile(encodeHeader(older), { failAt: 1, fail: () => 0 });
    await assert.rejects(writeHeader(file, newer, 'a.img'), { code: 'ERR_IO', message: /offset 16384: no byte was taken/ });
  });

  test('a flush that fails is an error', async () => {
    const { file } = recordingFile(encodeHeader(older), { failAt: 2, fail: failing('EIO', 'fsync') });
    await assert.rejects(writeHeader(file, newer, 'a.img'), { code: 'ERR_IO', message: /flushing the secondary header/ });
  });

  test('nothing is written of a header that does not fit', async () => {
    const { file, calls } = recordingFile(encodeHeader(older));
    await assert.rejects(writeHeader(file, { ...newer, label: 'x'.repeat(60) }, 'a.img'), { code: 'ERR_ARGUMENT' });
    assert.deepEqual(calls, []);
  });

  test('a directory and a closed file are typed errors', async () => {
    const opened = await open(directory, 'r');
    await assert.rejects(readHeader(opened, directory), { code: 'ERR_IO', message: /reading the header at offset 0 failed: EISDIR/ });
    await opened.close();
  });

  test('an empty file is no volume', async () => {
    await withFile('empty.img', Buffer.alloc(0), async (file, path) => {
      await assert.rejects(readHeader(file, path), { code: 'ERR_NOT_A_VOLUME', message: /empty/ });
    });
  });
});

describe('repair', () => {
  const damages: [string, Buffer, 'primary' | 'secondary'][] = [
    ['a damaged primary', flipBit(encodeHeader(newer), 500), 'primary'],
    ['a wiped primary', Buffer.from(encodeHeader(newer)).fill(0, 0, COPY_BYTES), 'primary'],
    ['a damaged secondary', flipBit(encodeHeader(newer), (COPY_BYTES + 4200) * 8), 'secondary'],
    ['an older secondary', Buffer.concat([encodeHeaderCopy(newer, 'primary'), encodeHeaderCopy(older, 'secondary')]), 'secondary'],
    ['an older primary', Buffer.concat([encodeHeaderCopy(older, 'primary'), encodeHeaderCopy(newer, 'secondary')]), 'primary'],
  ];
  for (const [what, content, stale] of damages) {
    test(`of ${what} writes that copy alone`, async () => {
      await withFile('damaged.img', content, async (file, path) => {
        const found = await readHeader(file, path);
        assert.equal(found.stale, stale);
        assert.equal(await repairHeader(file, found, path), stale);
        const repaired = await readHeader(file, path);
        assert.deepEqual(repaired.header, newer);
        assert.deepEqual(repaired.copies, { primary: 'good', secondary: 'good' });
        assert.equal(repaired.stale, undefined);
        const bytes = await readFile(path);
        const [keptFrom, keptTo] = stale === 'primary' ? [COPY_BYTES, 2 * COPY_BYTES] : [0, COPY_BYTES];
        assert.ok(bytes.subarray(keptFrom, keptTo).equals(content.subarray(keptFrom, keptTo)), 'the good copy is untouched');
        assert.ok(!bytes.subarray(104, 168).equals(bytes.subarray(COPY_BYTES + 104, COPY_BYTES + 168)), 'salts differ');
      });
    });
  }

  test('of two good copies writes nothing', async () => {
    const { file, calls } = recordingFile(encodeHeader(newer));
    assert.equal(await repairHeader(file, await readHeader(file, 'a.img'), 'a.img'), undefined);
    assert.ok(!calls.some((call) => call.startsWith('write')));
  });
});
