import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { ftruncateSync, writeSync } from 'node:fs';
import { describe, test } from 'vitest';
import { native, type TransformOptions } from '../../src/native.js';
import { referenceTransform } from '../xts/reference.js';
import { FOLDERS, MIB, PLAIN, runTransform, workbench } from './transforms.js';

const SECTOR_SIZES = [512, 1024, 2048, 4096];

for (const folder of FOLDERS) {
  describe(`whole images on ${folder}`, () => {
    for (const sectorBytes of SECTOR_SIZES) {
      test(`${sectorBytes}-byte sectors: what node:crypto gives, at every odd end, with a hash, and back`, () => {
        const bench = workbench(folder);
        for (const imageBytes of [1, 511, sectorBytes, MIB - 1, MIB, MIB + 1, 3 * MIB + 4096 + 513]) {
          const image = randomBytes(imageBytes);
          const volumeBytes = Math.ceil(imageBytes / sectorBytes) * sectorBytes;
          const padded = Buffer.concat([image, Buffer.alloc(volumeBytes - imageBytes)]);
          const source = bench.file(`image ${imageBytes}`, image);
          const volume = bench.file(`volume ${imageBytes}`, 0);
          const sides = { sectorBytes, key: bench.key, digest: true };
          const sha256 = createHash('sha256').update(image).digest('hex');
          const encrypt: TransformOptions = {
            ...{ ...PLAIN, ...sides, mode: 'encrypt' },
            ...{ sourceFd: source, sourceBytes: imageBytes, targetFd: volume, targetOffsetBytes: MIB, targetBytes: volumeBytes },
          };
          runTransform(encrypt, (transform) => {
            assert.equal(native.transformDigest(transform).toString('hex'), sha256);
            assert.deepEqual(native.transformProgress(transform), { doneBytes: volumeBytes, safeBytes: volumeBytes });
          });
          const ciphertext = bench.contents(`volume ${imageBytes}`);
          assert.deepEqual(ciphertext.subarray(MIB), referenceTransform(bench.keyBytes, true, padded, sectorBytes, 0));
          const decrypt: TransformOptions = {
            ...{ ...PLAIN, ...sides, mode: 'decrypt' },
            ...{
              sourceFd: volume,
              sourceOffsetBytes: MIB,
              sourceBytes: volumeBytes,
              targetFd: bench.file('back', 0),
              targetBytes: imageBytes,
            },
          };
          runTransform(decrypt, (transform) => assert.equal(native.transformDigest(transform).toString('hex'), sha256));
          assert.deepEqual(bench.contents('back'), image);
        }
      });
    }

    test('a transform that begins in the middle leaves what lies before as it is', () => {
      const bench = workbench(folder);
      const image = randomBytes(4 * MIB);
      const sides = {
        sourceFd: bench.file('image', image),
        sourceBytes: image.length,
        targetFd: bench.file('volume', 2 * MIB),
        targetBytes: image.length,
      };
      runTransform({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 512, startByte: 2 * MIB }, () => {});
      const expected = referenceTransform(bench.keyBytes, true, image, 512, 0);
      assert.deepEqual(bench.contents('volume'), Buffer.concat([Buffer.alloc(2 * MIB), expected.subarray(2 * MIB)]));
    });

    test('several threads of lanes side by side do each piece once', async () => {
      const bench = workbench(folder);
      const image = randomBytes(9 * MIB);
      const sides = {
        sourceFd: bench.file('image', image),
        sourceBytes: image.length,
        targetFd: bench.file('volume', 0),
        targetBytes: image.length,
      };
      const transform = native.transformOpen({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 4096 });
      let runs = 0;
      while (native.transformRun(transform, 16, 1)) runs++;
      assert.equal(native.transformProgress(transform).safeBytes, image.length, `after ${runs} runs`);
      assert.equal(native.transformRun(transform, 1, 1), false);
      native.transformClose(transform);
      assert.deepEqual(bench.contents('volume'), referenceTransform(bench.keyBytes, true, image, 4096, 0));
    });
  });

  describe(`sparse images on ${folder}`, () => {
    for (const sectorBytes of SECTOR_SIZES) {
      test(`${sectorBytes}-byte sectors: zeros and holes stay holes, and data between them is what it was`, () => {
        const bench = workbench(folder);
        const image = Buffer.alloc(40 * MIB + 512 * 8);
        for (const [at, length] of [
          [0, 4096],
          [MIB + 4096 * 3, 8192],
          [20 * MIB - 512, 1024],
          [40 * MIB, 8 * 512],
        ] as const)
          randomBytes(length).copy(image, at);
        const holey = bench.file('holey', image.length);
        for (let at = 0; at < image.length; at += 4096) {
          const block = image.subarray(at, at + 4096);
          if (!block.every((byte) => byte === 0)) writeSync(holey, block, 0, block.length, at);
        }
        for (const sourceFd of [holey, bench.file('written', image)]) {
          const volume = bench.file('volume', 0);
          const sizes = { sourceBytes: image.length, targetBytes: image.length };
          const encrypt: TransformOptions = {
            ...PLAIN,
            ...sizes,
            key: bench.key,
            mode: 'encrypt',
            sectorBytes,
            sourceFd,
            targetFd: volume,
            sparseTarget: true,
          };
          runTransform(encrypt, (transform) => assert.equal(native.transformProgress(transform).doneBytes, image.length));
          assert.equal(bench.contents('volume').length, image.length);
          assert.ok(bench.allocatedBytes('volume') < 256 * 1024, `${bench.allocatedBytes('volume')} bytes allocated`);
          const full = referenceTransform(bench.keyBytes, true, image.subarray(0, 4096), sectorBytes, 0);
          assert.deepEqual(bench.contents('volume').subarray(0, 4096), full);
          const back = bench.file('back', 0);
          const decrypt: TransformOptions = {
            ...PLAIN,
            ...sizes,
            key: bench.key,
            mode: 'decrypt',
            sectorBytes,
            sourceFd: volume,
            targetFd: back,
            sparseSource: true,
            sparseTarget: true,
          };
          runTransform(decrypt, () => {});
          assert.deepEqual(bench.contents('back'), image);
          assert.ok(bench.allocatedBytes('back') < 256 * 1024, `${bench.allocatedBytes('back')} bytes allocated`);
          const compare: TransformOptions = {
            ...PLAIN,
            ...sizes,
            key: bench.key,
            mode: 'compare',
            sectorBytes,
            sourceFd: volume,
            targetFd: sourceFd,
            sparseSource: true,
          };
          runTransform(compare, (transform) => assert.equal(native.transformDifference(transform), undefined));
        }
      });
    }

    test('a sparse hash covers the holes', () => {
      const bench = workbench(folder);
      const sizes = { sourceBytes: 5 * MIB + 512, targetBytes: 5 * MIB + 512 };
      const options: TransformOptions = {
        ...PLAIN,
        ...sizes,
        key: bench.key,
        mode: 'encrypt',
        sectorBytes: 512,
        sourceFd: bench.file('image', sizes.sourceBytes),
        targetFd: bench.file('volume', 0),
        sparseTarget: true,
        digest: true,
      };
      const expected = createHash('sha256').update(Buffer.alloc(sizes.sourceBytes)).digest('hex');
      runTransform(options, (transform) => assert.equal(native.transformDigest(transform).toString('hex'), expected));
      assert.equal(bench.allocatedBytes('volume'), 0);
    });

    test('a new sparse volume of zeros takes no room, whatever its size', () => {
      const bench = workbench(folder);
      const sizes = { sourceBytes: 2 ** 40, targetBytes: 2 ** 40 };
      runTransform(
        {
          ...PLAIN,
          ...sizes,
          key: bench.key,
          mode: 'encrypt',
          sectorBytes: 512,
          sourceFd: -1,
          targetFd: bench.file('volume', 0),
          sparseTarget: true,
        },
        () => {},
      );
      assert.equal(bench.allocatedBytes('volume'), 0);
    });
  });
}

describe('comparing', () => {
  test('finds the first difference, wherever others lie', () => {
    const bench = workbench(FOLDERS[0]!);
    const image = randomBytes(12 * MIB);
    const volume = bench.file('volume', referenceTransform(bench.keyBytes, true, image, 512, 0));
    const sides = { sourceFd: volume, sourceBytes: image.length, targetBytes: image.length };
    const difference = (other: Buffer): number | undefined =>
      runTransform(
        { ...PLAIN, ...sides, key: bench.key, mode: 'compare', sectorBytes: 512, targetFd: bench.file('other', other) },
        (transform) => native.transformDifference(transform),
      );
    assert.equal(difference(image), undefined);
    for (const first of [0, 511, MIB - 1, MIB, 5 * MIB + 7, image.length - 1]) {
      const other = Buffer.from(image);
      for (const at of [first, Math.min(first + 3 * MIB, image.length - 1)]) other[at]! ^= 1;
      other[first] = image[first]! ^ 2;
      assert.equal(difference(other), first);
    }
  });
});

describe('what is refused', () => {
  const refusals: [what: string, change: Partial<TransformOptions>][] = [
    ['an unknown mode', { mode: 'reencrypt' as never }],
    ['a beginning inside a MiB', { startByte: 512 }],
    ['a beginning behind the end', { startByte: 2 * MIB }],
    ['a hash of a part', { startByte: MIB, digest: true }],
    ['an encrypted image as a stream', { mode: 'decrypt', sourceOffsetBytes: -1 }],
    ['a volume to a stream', { targetOffsetBytes: -1 }],
    ['comparing with a stream', { mode: 'compare', targetOffsetBytes: -1 }],
    ['a sparse plaintext source', { sparseSource: true }],
    ['a comparison that is sparse', { mode: 'compare', sparseTarget: true }],
    ['a source that is too short', { sourceBytes: 2 * MIB, targetBytes: 2 * MIB }],
    ['a target of another size', { targetBytes: MIB + 512 }],
    ['sectors of 8192 bytes', { sectorBytes: 8192 }],
    ['an image of nothing', { sourceBytes: 0, targetBytes: 0 }],
  ];
  for (const [what, change] of refusals) {
    test(what, () => {
      const bench = workbench(FOLDERS[0]!);
      const options: TransformOptions = {
        ...{ ...PLAIN, key: bench.key, mode: 'encrypt', sectorBytes: 512 },
        ...{ sourceFd: bench.file('image', MIB), sourceBytes: MIB, targetFd: bench.file('volume', MIB), targetBytes: MIB },
      };
      native.transformClose(native.transformOpen(options));
      assert.throws(() => native.transformOpen({ ...options, ...change }), { code: 'ERR_ARGUMENT' });
    });
  }

  test('a digest that is not complete, and one that was not asked for', () => {
    const bench = workbench(FOLDERS[0]!);
    const sides = { sourceFd: -1, sourceBytes: MIB, targetFd: bench.file('volume', 0), targetBytes: MIB };
    const transform = native.transformOpen({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 512, digest: true });
    assert.throws(() => native.transformDigest(transform), { code: 'ERR_ARGUMENT' });
    native.transformClose(transform);
    assert.throws(() => native.transformRun(transform, 1, 1), { code: 'ERR_STATE_DETACHED' });
    runTransform({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 512 }, (without) => {
      assert.throws(() => native.transformDigest(without), { code: 'ERR_ARGUMENT' });
    });
  });

  test('a source that has become shorter: where it ends, and no further', () => {
    const bench = workbench(FOLDERS[0]!);
    const image = bench.file('image', randomBytes(3 * MIB));
    const sides = { sourceFd: image, sourceBytes: 3 * MIB, targetFd: bench.file('volume', 0), targetBytes: 3 * MIB };
    const transform = native.transformOpen({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 512 });
    ftruncateSync(image, MIB + 4096);
    assert.throws(() => native.transformRun(transform, 4, 1000), {
      code: 'ERR_IO',
      details: { errno: 'EIO', syscall: 'pread', offsetBytes: MIB + 4096 },
    });
    assert.equal(native.transformRun(transform, 1, 1), false, 'nothing more is taken after a failure');
    assert.ok(native.transformProgress(transform).safeBytes <= MIB);
    native.transformClose(transform);
  });
});
