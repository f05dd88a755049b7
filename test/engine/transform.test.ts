import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { ftruncateSync, statfsSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, onTestFinished, test } from 'vitest';
import { native, type TransformFile, type TransformOptions } from '../../src/native.js';
import { ADDON_FILE } from '../../src/package-files.js';
import { referenceTransform } from '../xts/reference.js';
import { DIRECTORIES, fileSide, MIB, PLAIN, runTransform, workbench } from './transforms.js';

const SECTOR_SIZES = [512, 1024, 2048, 4096];

for (const directory of DIRECTORIES) {
  describe(`whole images on ${directory}`, () => {
    for (const sectorBytes of SECTOR_SIZES) {
      test(`${sectorBytes}-byte sectors: what node:crypto gives, at every odd end, with a hash, and back`, () => {
        const bench = workbench(directory);
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
            source: fileSide(source, imageBytes),
            target: fileSide(volume, volumeBytes, { offsetBytes: MIB }),
          };
          runTransform(encrypt, (transform) => {
            assert.equal(native.transformDigest(transform).toString('hex'), sha256);
            assert.deepEqual(native.transformProgress(transform), { doneBytes: volumeBytes, safeBytes: volumeBytes });
          });
          const ciphertext = bench.contents(`volume ${imageBytes}`);
          assert.deepEqual(ciphertext.subarray(MIB), referenceTransform(bench.keyBytes, true, padded, sectorBytes, 0));
          const decrypt: TransformOptions = {
            ...{ ...PLAIN, ...sides, mode: 'decrypt' },
            source: fileSide(volume, volumeBytes, { offsetBytes: MIB }),
            target: fileSide(bench.file('back', 0), imageBytes),
          };
          runTransform(decrypt, (transform) => assert.equal(native.transformDigest(transform).toString('hex'), sha256));
          assert.deepEqual(bench.contents('back'), image);
        }
      });
    }

    test('a transform that begins in the middle leaves what lies before as it is', () => {
      const bench = workbench(directory);
      const image = randomBytes(4 * MIB);
      const sides = {
        source: fileSide(bench.file('image', image), image.length),
        target: fileSide(bench.file('volume', 2 * MIB), image.length),
      };
      runTransform({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 512, startByte: 2 * MIB }, () => {});
      const expected = referenceTransform(bench.keyBytes, true, image, 512, 0);
      assert.deepEqual(bench.contents('volume'), Buffer.concat([Buffer.alloc(2 * MIB), expected.subarray(2 * MIB)]));
    });

    test('several threads side by side do each piece once', async () => {
      const bench = workbench(directory);
      const image = randomBytes(9 * MIB);
      const sides = {
        source: fileSide(bench.file('image', image), image.length),
        target: fileSide(bench.file('volume', 0), image.length),
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

  describe(`sparse images on ${directory}`, () => {
    for (const sectorBytes of SECTOR_SIZES) {
      test(`${sectorBytes}-byte sectors: zeros and holes stay holes, and data between them is what it was`, () => {
        const bench = workbench(directory);
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
          const encrypt: TransformOptions = {
            ...PLAIN,
            key: bench.key,
            mode: 'encrypt',
            sectorBytes,
            source: fileSide(sourceFd, image.length),
            target: fileSide(volume, image.length, { sparse: true }),
          };
          runTransform(encrypt, (transform) => assert.equal(native.transformProgress(transform).doneBytes, image.length));
          assert.equal(bench.contents('volume').length, image.length);
          assert.ok(bench.allocatedBytes('volume') < 256 * 1024, `${bench.allocatedBytes('volume')} bytes allocated`);
          const full = referenceTransform(bench.keyBytes, true, image.subarray(0, 4096), sectorBytes, 0);
          assert.deepEqual(bench.contents('volume').subarray(0, 4096), full);
          const back = bench.file('back', 0);
          const decrypt: TransformOptions = {
            ...PLAIN,
            key: bench.key,
            mode: 'decrypt',
            sectorBytes,
            source: fileSide(volume, image.length, { sparse: true }),
            target: fileSide(back, image.length, { sparse: true }),
          };
          runTransform(decrypt, () => {});
          assert.deepEqual(bench.contents('back'), image);
          assert.ok(bench.allocatedBytes('back') < 256 * 1024, `${bench.allocatedBytes('back')} bytes allocated`);
          const compare: TransformOptions = {
            ...PLAIN,
            key: bench.key,
            mode: 'compare',
            sectorBytes,
            source: fileSide(volume, image.length, { sparse: true }),
            target: fileSide(sourceFd, image.length),
          };
          runTransform(compare, (transform) => assert.equal(native.transformDifference(transform), undefined));
        }
      });
    }

    test('a sparse hash covers the holes', () => {
      const bench = workbench(directory);
      const sizeBytes = 5 * MIB + 512;
      const options: TransformOptions = {
        ...PLAIN,
        key: bench.key,
        mode: 'encrypt',
        sectorBytes: 512,
        source: fileSide(bench.file('image', sizeBytes), sizeBytes),
        target: fileSide(bench.file('volume', 0), sizeBytes, { sparse: true }),
        digest: true,
      };
      const expected = createHash('sha256').update(Buffer.alloc(sizeBytes)).digest('hex');
      runTransform(options, (transform) => assert.equal(native.transformDigest(transform).toString('hex'), expected));
      assert.equal(bench.allocatedBytes('volume'), 0);
    });

    test('a target that is longer than all that is free takes nothing from others', () => {
      const bench = workbench(directory);
      const { bfree, bsize } = statfsSync(directory);
      const tooLong = 2 * bfree * bsize;
      const options = { ...PLAIN, key: bench.key, mode: 'encrypt', sectorBytes: 512 } as const;
      const target = fileSide(bench.file('volume', 0), tooLong);
      const failure = { code: 'ERR_IO', details: { errno: 'ENOSPC', syscall: 'fallocate', offsetBytes: 0 } };
      assert.throws(() => native.transformOpen({ ...options, source: { kind: 'zeros', sizeBytes: tooLong }, target }), failure);
      // One byte shows that there can be room set aside.
      assert.ok(bench.allocatedBytes('volume') <= bsize);
      assert.deepEqual(
        [tooLong, 0].map((bytes) => native.fileHasRoom(target.fd, bytes)),
        [false, true],
      );
    });

    test('a new sparse volume of zeros takes no room, whatever its size', () => {
      const bench = workbench(directory);
      runTransform(
        {
          ...PLAIN,
          key: bench.key,
          mode: 'encrypt',
          sectorBytes: 512,
          source: { kind: 'zeros', sizeBytes: 2 ** 40 },
          target: fileSide(bench.file('volume', 0), 2 ** 40, { sparse: true }),
        },
        () => {},
      );
      assert.equal(bench.allocatedBytes('volume'), 0);
    });
  });
}

describe('comparing', () => {
  test('finds the first difference, wherever others lie', () => {
    const bench = workbench(DIRECTORIES[0]!);
    const image = randomBytes(12 * MIB);
    const volume = bench.file('volume', referenceTransform(bench.keyBytes, true, image, 512, 0));
    const source = fileSide(volume, image.length);
    const difference = (other: Buffer): number | undefined =>
      runTransform(
        { ...PLAIN, source, key: bench.key, mode: 'compare', sectorBytes: 512, target: fileSide(bench.file('other', other), image.length) },
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

describe('a volume of several regions', () => {
  // The borders are inside pieces of 1 MiB, and inside pages.
  for (const sectorBytes of [512, 4096])
    for (const sparse of [false, true]) {
      test(`is decrypted, compared and encrypted anew, each sector by its own key: ${sectorBytes}, ${sparse ? 'sparse' : 'full'}`, () => {
        const bench = workbench(DIRECTORIES[0]!);
        const otherBytes = randomBytes(64);
        const other = native.keyImportBase64(Buffer.from(otherBytes.toString('base64')));
        native.xtsPrepare(other);
        onTestFinished(() => void native.keyWipe(other));
        const image = randomBytes(5 * MIB + 3 * 4096 - 100);
        const zeros = 64 * 4096;
        for (const at of [0, 8 * 4096, 2 * MIB, 4 * MIB + 4096]) image.fill(0, at, at + zeros);
        const padded = Buffer.concat([image, Buffer.alloc(100)]);
        const ends = [0, 301 * 4096, 302 * 4096, 3 * MIB + 4096, padded.length];
        const keys = [
          undefined,
          { key: bench.key, bytes: bench.keyBytes },
          { key: other, bytes: otherBytes },
          { key: bench.key, bytes: bench.keyBytes },
        ];
        const isZero = (at: number): boolean => padded.subarray(at, at + sectorBytes).every((byte) => byte === 0);
        const regions = keys.map((used, index) => {
          const [begin, end] = [ends[index]!, ends[index + 1]!];
          const plain = padded.subarray(begin, end);
          const stored = used === undefined ? Buffer.from(plain) : referenceTransform(used.bytes, true, plain, sectorBytes, begin / 512);
          for (let at = begin; sparse && at < end; at += sectorBytes) if (isZero(at)) stored.fill(0, at - begin, at - begin + sectorBytes);
          // At another offset of each file.
          const offsetBytes = 512 * (index + 1);
          const fd = bench.file(`region ${index}`, Buffer.concat([Buffer.alloc(offsetBytes, 0xff), stored, Buffer.alloc(9, 0xff)]));
          return { fd, key: used?.key, offsetBytes, sizeBytes: end - begin };
        });
        const source = { kind: 'volume' as const, regions, sectorBytes, sizeBytes: padded.length, sparse };
        const options = { ...PLAIN, key: bench.key, mode: 'decrypt' as const, sectorBytes, source };
        const plainSide = (contents: Buffer | number, name: string, more = {}) => fileSide(bench.file(name, contents), image.length, more);

        const digest = runTransform({ ...options, target: plainSide(0, 'out'), digest: true }, (transform) =>
          native.transformDigest(transform),
        );
        assert.ok(bench.contents('out').equals(image));
        assert.equal(digest.toString('hex'), createHash('sha256').update(image).digest('hex'));
        runTransform({ ...options, target: plainSide(0, 'sparse out', { sparse: true }) }, () => {});
        assert.ok(bench.contents('sparse out').equals(image));

        const difference = (contents: Buffer, startByte = 0): number | undefined =>
          runTransform({ ...options, mode: 'compare', target: plainSide(contents, 'other'), startByte }, (transform) =>
            native.transformDifference(transform),
          );
        assert.equal(difference(image), undefined);
        for (const at of [0, ends[1]! - 1, ends[2]!, ends[3]! + 5, image.length - 1]) {
          const changed = Buffer.from(image);
          changed[at]! ^= 1;
          assert.equal(difference(changed), at);
          assert.equal(difference(changed, MIB), at < MIB ? undefined : at);
        }

        // Under a key and a sector size of its own.
        const bytes = Math.ceil(image.length / 1024) * 1024;
        const target = fileSide(bench.file('new', 0), bytes);
        runTransform(
          { ...PLAIN, key: other, mode: 'encrypt', sectorBytes: 1024, source: { ...source, sizeBytes: image.length }, target },
          () => {},
        );
        const expected = Buffer.concat([image, Buffer.alloc(bytes - image.length)]);
        // Behind the image the source has what was padded: zeros.
        assert.ok(bench.contents('new').equals(referenceTransform(otherBytes, true, expected, 1024, 0)));
      });
    }
});

describe('what is refused', () => {
  const regionOf = ({ source, key }: TransformOptions) => ({ fd: (source as TransformFile).fd, key, offsetBytes: 0, sizeBytes: MIB });
  const volume = (valid: TransformOptions, change: object) => {
    const source = { kind: 'volume', regions: [regionOf(valid)], sectorBytes: 512, sizeBytes: MIB, sparse: false, ...change };
    return { mode: 'decrypt', source } as never;
  };
  const stream = { kind: 'stream' as const, fd: 0, sizeBytes: MIB };
  type Change = Partial<TransformOptions> | ((valid: TransformOptions) => Partial<TransformOptions>);
  const refusals: [what: string, change: Change][] = [
    ['an unknown mode', { mode: 'reencrypt' as never }],
    ['a beginning inside a MiB', { startByte: 512 }],
    ['a beginning behind the end', { startByte: 2 * MIB }],
    ['a hash of a part', { startByte: MIB, digest: true }],
    ['an encrypted image as a stream', { mode: 'decrypt', source: stream }],
    ['a preamble that is no bytes', { target: { ...stream, preamble: 'header' as never } }],
    ['comparing with a stream', { mode: 'compare', target: stream }],
    ['a volume without regions', (valid) => volume(valid, { regions: [] })],
    ['a volume whose regions are no list', (valid) => volume(valid, { regions: {} })],
    ['a volume of 17 regions', (valid) => volume(valid, { regions: Array(17).fill({ fd: 0, offsetBytes: 0, sizeBytes: 512 }) })],
    ['a region that its file does not hold', (valid) => volume(valid, { regions: [{ ...regionOf(valid), offsetBytes: 512 }] })],
    ['a region of part sectors', (valid) => volume(valid, { regions: [{ ...regionOf(valid), sizeBytes: MIB - 1 }] })],
    ['a region of nothing', (valid) => volume(valid, { regions: [regionOf(valid), { ...regionOf(valid), sizeBytes: 0 }] })],
    ['a volume with fewer bytes than its image', (valid) => volume(valid, { regions: [{ ...regionOf(valid), sizeBytes: 512 }] })],
    ['a volume with other sectors than the transform', (valid) => volume(valid, { sectorBytes: 4096 })],
    ['zeros that are to be decrypted', { mode: 'decrypt', source: { kind: 'zeros', sizeBytes: MIB } }],
    ['zeros that are to be compared', { mode: 'compare', source: { kind: 'zeros', sizeBytes: MIB } }],
    ['a source of no known kind', { source: { ...stream, kind: 'pipe' as never } }],
    ['zeros as a target', { target: { kind: 'zeros' as never, fd: 0, sizeBytes: MIB } }],
    ['a source that is not an object', { source: -1 as never }],
    ['a file with the descriptor -1', ({ source }) => ({ source: { ...source, fd: -1 } as never })],
    ['a file with the offset -1', ({ target }) => ({ target: { ...target, offsetBytes: -1 } as never })],
    ['a sparse plaintext source', ({ source }) => ({ source: { ...source, sparse: true } as never })],
    ['a comparison that is sparse', ({ target }) => ({ mode: 'compare', target: { ...target, sparse: true } as never })],
    [
      'a source that is too short',
      ({ source, target }) => ({ source: { ...source, sizeBytes: 2 * MIB }, target: { ...target, sizeBytes: 2 * MIB } }),
    ],
    ['a target of another size', ({ target }) => ({ target: { ...target, sizeBytes: MIB + 512 } })],
    ['sectors of 8192 bytes', { sectorBytes: 8192 }],
    ['an image of nothing', ({ source, target }) => ({ source: { ...source, sizeBytes: 0 }, target: { ...target, sizeBytes: 0 } })],
  ];
  for (const [what, change] of refusals) {
    test(what, () => {
      const bench = workbench(DIRECTORIES[0]!);
      const options: TransformOptions = {
        ...{ ...PLAIN, key: bench.key, mode: 'encrypt', sectorBytes: 512 },
        ...{ source: fileSide(bench.file('image', MIB), MIB), target: fileSide(bench.file('volume', MIB), MIB) },
      };
      native.transformClose(native.transformOpen(options));
      assert.throws(() => native.transformOpen({ ...options, ...(typeof change === 'function' ? change(options) : change) }), {
        code: 'ERR_ARGUMENT',
      });
    });
  }

  test('a digest that is not complete, and one that was not asked for', () => {
    const bench = workbench(DIRECTORIES[0]!);
    const sides = { source: { kind: 'zeros' as const, sizeBytes: MIB }, target: fileSide(bench.file('volume', 0), MIB) };
    const transform = native.transformOpen({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 512, digest: true });
    assert.throws(() => native.transformDigest(transform), { code: 'ERR_ARGUMENT' });
    native.transformClose(transform);
    assert.throws(() => native.transformRun(transform, 1, 1), { code: 'ERR_ARGUMENT', message: /no open transform/ });
    runTransform({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 512 }, (without) => {
      assert.throws(() => native.transformDigest(without), { code: 'ERR_ARGUMENT' });
    });
  });

  test('a stopped transform: an abort, not a detached volume', () => {
    const bench = workbench(DIRECTORIES[0]!);
    const sides = { source: { kind: 'zeros' as const, sizeBytes: MIB }, target: fileSide(bench.file('volume', 0), MIB) };
    const transform = native.transformOpen({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 512 });
    native.transformStop(transform);
    assert.throws(() => native.transformRun(transform, 2, 1000), { code: 'ERR_ABORTED', message: 'the transform was stopped' });
    native.transformClose(transform);
  });

  test('a digest taken by several threads at once is the same digest in each', async () => {
    const bench = workbench(DIRECTORIES[0]!);
    const image = randomBytes(MIB);
    const sides = { source: fileSide(bench.file('image', image), MIB), target: fileSide(bench.file('volume', 0), MIB) };
    const transform = native.transformOpen({ ...PLAIN, ...sides, key: bench.key, mode: 'encrypt', sectorBytes: 512, digest: true });
    while (native.transformRun(transform, 2, 1000));
    const waiting = new Int32Array(new SharedArrayBuffer(4));
    const script = `
      const { parentPort, workerData: { addon, transform, waiting } } = require('node:worker_threads');
      const native = require(addon);
      Atomics.add(waiting, 0, 1);
      while (Atomics.load(waiting, 0) < 4);
      parentPort.postMessage(native.transformDigest(transform).toString('hex'));`;
    const digests = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const worker = new Worker(script, { eval: true, workerData: { addon: ADDON_FILE, transform, waiting } });
        const [digest] = await once(worker, 'message');
        return digest as string;
      }),
    );
    const expected = createHash('sha256').update(image).digest('hex');
    assert.deepEqual(digests, Array(4).fill(expected));
    native.transformClose(transform);
  });

  test('a source that has become shorter: where it ends, and no further', () => {
    const bench = workbench(DIRECTORIES[0]!);
    const image = bench.file('image', randomBytes(3 * MIB));
    const sides = { source: fileSide(image, 3 * MIB), target: fileSide(bench.file('volume', 0), 3 * MIB) };
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
