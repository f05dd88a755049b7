import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { fstatSync, writeSync } from 'node:fs';
import fc from 'fast-check';
import { describe, onTestFinished, test } from 'vitest';
import { type DeviceHandle, native } from '../../src/native.js';
import { referenceTransform } from '../xts/reference.js';
import { DIRECTORIES, MIB, type Workbench, workbench } from './transforms.js';

const SECTOR_SIZES = [512, 1024, 2048, 4096];
const BLOCK_BYTES = 4096;

interface Bench extends Workbench {
  fd: number;
  device: DeviceHandle;
  read(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
  /** The file's ciphertext without what lies before the data. */
  ciphertext(): Buffer;
  /** What stock tools see, which know nothing of sparse volumes. */
  stockView(): Buffer;
}

interface BenchOptions {
  parent?: string;
  sizeBytes: number;
  sectorBytes: number;
  dataOffsetBytes?: number;
  sparse?: boolean;
  writable?: boolean;
  contents?: Buffer;
}

/** A device on a file that is one hole, or holds `contents` as ciphertext. */
function bench(options: BenchOptions): Bench {
  const { parent = DIRECTORIES[0]!, sizeBytes, sectorBytes, dataOffsetBytes = 0, sparse = true, writable = true, contents } = options;
  const work = workbench(parent);
  const fd = work.file('data', contents ?? dataOffsetBytes + sizeBytes);
  const device = native.deviceOpen({
    regions: [{ fd, key: work.key, offsetBytes: dataOffsetBytes, sizeBytes }],
    sectorBytes,
    writable,
    sparse,
  });
  onTestFinished(() => void native.deviceClose(device));
  const ciphertext = (): Buffer => work.contents('data').subarray(dataOffsetBytes);
  return {
    ...work,
    fd,
    device,
    ciphertext,
    stockView: () => referenceTransform(work.keyBytes, false, ciphertext(), sectorBytes, 0),
    read: async (offsetBytes, lengthBytes) => Buffer.from(await native.deviceRead(device, offsetBytes, lengthBytes)),
  };
}

const isZeros = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

/**
 * Whether the stock view is the plaintext, but for the sectors that were never written: those are zeros and read as
 * zeros.
 */
function assertSectors(at: Bench, plaintext: Buffer, sectorBytes: number): void {
  const ciphertext = at.ciphertext();
  const stock = at.stockView();
  for (let start = 0; start < plaintext.length; start += sectorBytes) {
    const expected = plaintext.subarray(start, start + sectorBytes);
    if (isZeros(ciphertext.subarray(start, start + sectorBytes))) assert.ok(isZeros(expected), `sector at ${start} is lost`);
    else assert.ok(stock.subarray(start, start + sectorBytes).equals(expected), `sector at ${start} is other ciphertext`);
  }
}

/** That the pieces cover the range, alternate, and name as zeros only what is. */
async function assertExtents(at: Bench, plaintext: Buffer, offsetBytes: number, lengthBytes: number): Promise<void> {
  let next = offsetBytes;
  let last: boolean | undefined;
  for (const extent of await native.deviceExtents(at.device, offsetBytes, lengthBytes, 1000)) {
    assert.equal(extent.offsetBytes, next);
    assert.ok(extent.lengthBytes > 0);
    assert.notEqual(extent.zero, last);
    next += extent.lengthBytes;
    last = extent.zero;
    if (extent.zero) assert.ok(isZeros(plaintext.subarray(extent.offsetBytes, next)));
  }
  assert.equal(next, offsetBytes + lengthBytes);
}

describe('a sparse device', () => {
  for (const parent of DIRECTORIES) {
    for (const sectorBytes of SECTOR_SIZES) {
      test(`is an array of bytes under reads, writes, zeroing and trimming: ${sectorBytes}-byte sectors in ${parent}`, async () => {
        const sizeBytes = 16 * BLOCK_BYTES;
        const at = bench({ parent, sizeBytes, sectorBytes, dataOffsetBytes: MIB });
        const plaintext = Buffer.alloc(sizeBytes);
        const range = fc
          .tuple(fc.nat(sizeBytes), fc.oneof(fc.nat(3), fc.nat(4 * BLOCK_BYTES), fc.constantFrom(sectorBytes, BLOCK_BYTES)), fc.boolean())
          .map(([offset, length, aligned]) => {
            const offsetBytes = aligned ? Math.floor(offset / BLOCK_BYTES) * BLOCK_BYTES : offset;
            return { offsetBytes, lengthBytes: Math.min(length, sizeBytes - offsetBytes) };
          });
        const change = fc.constantFrom('write', 'zero', 'trim');
        await fc.assert(
          fc.asyncProperty(
            change,
            range,
            range,
            fc.integer({ min: 1, max: 255 }),
            async (kind, { offsetBytes, lengthBytes }, seen, fill) => {
              const end = offsetBytes + lengthBytes;
              if (kind === 'write') {
                await native.deviceWrite(at.device, offsetBytes, Buffer.alloc(lengthBytes, fill));
                plaintext.fill(fill, offsetBytes, end);
              } else if (kind === 'zero') {
                await native.deviceZero(at.device, offsetBytes, lengthBytes);
                plaintext.fill(0, offsetBytes, end);
              } else {
                await native.deviceTrim(at.device, offsetBytes, lengthBytes);
                const first = Math.ceil(offsetBytes / sectorBytes) * sectorBytes;
                plaintext.fill(0, first, Math.max(first, Math.floor(end / sectorBytes) * sectorBytes));
              }
              assert.ok(
                (await at.read(seen.offsetBytes, seen.lengthBytes)).equals(
                  plaintext.subarray(seen.offsetBytes, seen.offsetBytes + seen.lengthBytes),
                ),
              );
              await assertExtents(at, plaintext, seen.offsetBytes, seen.lengthBytes);
            },
          ),
          { numRuns: 200 },
        );
        assert.ok((await at.read(0, sizeBytes)).equals(plaintext));
        assertSectors(at, plaintext, sectorBytes);
      });
    }
  }

  for (const sectorBytes of SECTOR_SIZES) {
    test(`a part of a sector is written into a hole, and the rest reads as zeros: ${sectorBytes}-byte sectors`, async () => {
      const at = bench({ sizeBytes: MIB, sectorBytes });
      assert.equal(at.allocatedBytes('data'), 0);
      assert.ok(isZeros(await at.read(0, MIB)));
      await native.deviceWrite(at.device, 3 * sectorBytes + 7, Buffer.from('here'));
      const plaintext = Buffer.alloc(MIB);
      plaintext.write('here', 3 * sectorBytes + 7);
      assert.ok((await at.read(0, MIB)).equals(plaintext));
      const written = at.stockView().subarray(3 * sectorBytes, 4 * sectorBytes);
      assert.ok(written.equals(plaintext.subarray(3 * sectorBytes, 4 * sectorBytes)));
      const rest = at.ciphertext();
      assert.ok(isZeros(rest.subarray(0, 3 * sectorBytes)) && isZeros(rest.subarray(4 * sectorBytes)));
      assert.ok(at.allocatedBytes('data') <= 2 * BLOCK_BYTES);
    });

    test(`zeroing and trimming free space; partial sectors at the ends follow their own rules: ${sectorBytes}-byte sectors`, async () => {
      const at = bench({ sizeBytes: 2 * MIB, sectorBytes });
      const part = sectorBytes / 2;
      for (const [kind, first] of [
        ['zero', 0],
        ['trim', MIB],
      ] as const) {
        await native.deviceWrite(at.device, first, Buffer.alloc(MIB, 0x77));
        const full = at.allocatedBytes('data');
        const call = kind === 'zero' ? native.deviceZero : native.deviceTrim;
        await call(at.device, first + part, MIB - 2 * part);
        assert.ok(at.allocatedBytes('data') <= full - MIB + 2 * BLOCK_BYTES);
        const edge = Buffer.alloc(sectorBytes, 0x77);
        if (kind === 'zero') edge.fill(0, part);
        assert.ok((await at.read(first, sectorBytes)).equals(edge), kind);
        assert.ok(isZeros(await at.read(first + sectorBytes, MIB - 2 * sectorBytes)));
      }
    });
  }

  test('a sector without data becomes a hole, and one that was a hole stays one', async () => {
    const at = bench({ sizeBytes: MIB, sectorBytes: 4096 });
    await native.deviceWrite(at.device, 4096, Buffer.alloc(4096, 1));
    await native.deviceZero(at.device, 4096, 4000);
    assert.ok(at.allocatedBytes('data') > 0);
    await native.deviceZero(at.device, 4096 + 4000, 96 + 100);
    assert.equal(at.allocatedBytes('data'), 0);
  });

  test('block status: holes by whole sectors, clipped to the range, a few pieces at a time', async () => {
    const at = bench({ sizeBytes: 64 * MIB, sectorBytes: 4096 });
    await native.deviceWrite(at.device, 8 * MIB, Buffer.alloc(MIB, 1));
    await native.deviceWrite(at.device, 40 * MIB + 5, Buffer.alloc(10, 1));
    const pieces = [
      { offsetBytes: 0, lengthBytes: 8 * MIB, zero: true },
      { offsetBytes: 8 * MIB, lengthBytes: MIB, zero: false },
      { offsetBytes: 9 * MIB, lengthBytes: 31 * MIB, zero: true },
      { offsetBytes: 40 * MIB, lengthBytes: 4096, zero: false },
      { offsetBytes: 40 * MIB + 4096, lengthBytes: 24 * MIB - 4096, zero: true },
    ];
    assert.deepEqual(await native.deviceExtents(at.device, 0, 64 * MIB, 100), pieces);
    assert.deepEqual(await native.deviceExtents(at.device, 0, 64 * MIB, 5), pieces);
    assert.deepEqual(await native.deviceExtents(at.device, 0, 64 * MIB, 3), pieces.slice(0, 3));
    assert.deepEqual(await native.deviceExtents(at.device, 9 * MIB - 1, 3, 9), [
      { offsetBytes: 9 * MIB - 1, lengthBytes: 1, zero: false },
      { offsetBytes: 9 * MIB, lengthBytes: 2, zero: true },
    ]);
    assert.deepEqual(await native.deviceExtents(at.device, 64 * MIB, 0, 1), []);
  });

  for (const parent of DIRECTORIES) {
    for (const sectorBytes of SECTOR_SIZES) {
      test(`filled, every sector is ciphertext and reads the same: ${sectorBytes}-byte sectors in ${parent}`, async () => {
        const sizeBytes = 3 * MIB + 5 * sectorBytes;
        for (const dataOffsetBytes of [0, 512, MIB]) {
          const at = bench({ parent, sizeBytes, sectorBytes, dataOffsetBytes });
          const plaintext = Buffer.alloc(sizeBytes);
          for (const [start, end] of [
            [sectorBytes, 2 * sectorBytes],
            [MIB - sectorBytes, MIB + sectorBytes],
            [2 * MIB + 17, 2 * MIB + 18],
            [sizeBytes - 1, sizeBytes],
          ] as const) {
            await native.deviceWrite(at.device, start, Buffer.alloc(end - start, 0x31));
            plaintext.fill(0x31, start, end);
          }
          // Zeros that a file system holds as data are filled as holes are.
          writeSync(at.fd, Buffer.alloc(64 * 1024), 0, 64 * 1024, dataOffsetBytes + 1024 * 1024 + 64 * 1024);
          await native.deviceFill(at.device, 0, sizeBytes);
          assert.ok(at.stockView().equals(plaintext));
          assert.ok((await at.read(0, sizeBytes)).equals(plaintext));
          assert.ok(at.allocatedBytes('data') >= sizeBytes);
          assert.deepEqual(await native.deviceExtents(at.device, 0, sizeBytes, 2), [
            { offsetBytes: 0, lengthBytes: sizeBytes, zero: false },
          ]);
          assert.ok(isZeros(at.contents('data').subarray(0, dataOffsetBytes)));
          const filled = at.ciphertext();
          await native.deviceFill(at.device, 0, sizeBytes);
          assert.ok(at.ciphertext().equals(filled));
        }
      });
    }
  }

  test('fills its range, and nothing outside it', async () => {
    const at = bench({ sizeBytes: 4 * MIB, sectorBytes: 1024 });
    await native.deviceFill(at.device, MIB, 3072);
    const ciphertext = at.ciphertext();
    assert.ok(isZeros(ciphertext.subarray(0, MIB)) && isZeros(ciphertext.subarray(MIB + 3072)));
    assert.ok(isZeros(at.stockView().subarray(MIB, MIB + 3072)));
    for (const [offset, length] of [
      [512, 1024],
      [1024, 512],
    ] as const)
      await assert.rejects(native.deviceFill(at.device, offset, length), { code: 'ERR_ARGUMENT' });
  });
});

describe('a device that is not sparse', () => {
  for (const sectorBytes of SECTOR_SIZES) {
    test(`reads a sector of zeros as the ciphertext it is, encrypts zeros, keeps what is trimmed: ${sectorBytes}-byte sectors`, async () => {
      const sizeBytes = 3 * MIB;
      const at = bench({ sizeBytes, sectorBytes, sparse: false });
      assert.ok((await at.read(0, sizeBytes)).equals(at.stockView()));
      assert.ok(!isZeros(await at.read(0, sectorBytes)));
      await native.deviceWrite(at.device, 0, randomBytes(sizeBytes));
      const plaintext = await at.read(0, sizeBytes);
      await native.deviceZero(at.device, 100, 2 * MIB);
      plaintext.fill(0, 100, 100 + 2 * MIB);
      await native.deviceTrim(at.device, 0, sizeBytes);
      await native.deviceFill(at.device, 0, sizeBytes);
      assert.ok((await at.read(0, sizeBytes)).equals(plaintext));
      assert.ok(at.stockView().equals(plaintext));
      assert.deepEqual(await native.deviceExtents(at.device, 7, MIB, 9), [{ offsetBytes: 7, lengthBytes: MIB, zero: false }]);
    });
  }
});

describe('what is refused', () => {
  const calls = {
    zero: native.deviceZero,
    trim: native.deviceTrim,
    fill: native.deviceFill,
    extents: (device: DeviceHandle, offset: number, length: number) => native.deviceExtents(device, offset, length, 10),
  };
  for (const [name, call] of Object.entries(calls)) {
    test(`${name} outside the device, with arguments that are no numbers, after closing`, async () => {
      const at = bench({ sizeBytes: 8192, sectorBytes: 4096 });
      await call(at.device, 8192, 0);
      for (const [offset, length] of [
        [8192, 4096],
        [4096, 8192],
        [0, 2 ** 53],
        [-1, 1],
        [0, Number.NaN],
        ['0', 1],
        [0, undefined],
      ] as [number, number][])
        await assert.rejects(call(at.device, offset, length), { code: 'ERR_ARGUMENT' }, `${offset}, ${length}`);
      native.deviceClose(at.device);
      await assert.rejects(call(at.device, 0, 4096), { code: 'ERR_STATE_DETACHED' });
    });
  }

  test('changes of a device that is open for reading', async () => {
    const at = bench({ sizeBytes: 8192, sectorBytes: 512, writable: false });
    for (const call of [native.deviceZero, native.deviceTrim, native.deviceFill])
      await assert.rejects(call(at.device, 0, 512), { code: 'ERR_STATE_READ_ONLY' });
    assert.equal((await native.deviceExtents(at.device, 0, 8192, 1))[0]?.zero, true);
  });

  test('a key that is gone, and too many pieces', async () => {
    const at = bench({ sizeBytes: 8192, sectorBytes: 512 });
    for (const countMax of [0, 65537, 1.5])
      await assert.rejects(native.deviceExtents(at.device, 0, 512, countMax), { code: 'ERR_ARGUMENT' });
    const before = fstatSync(at.fd).mtimeMs;
    native.keyWipe(at.key);
    for (const call of [native.deviceZero, native.deviceFill]) await assert.rejects(call(at.device, 0, 512), { code: 'ERR_KEY_GONE' });
    assert.equal(fstatSync(at.fd).mtimeMs, before);
  });
});
