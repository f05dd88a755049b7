/** One volume in S3 in ranges: parts of one upload, against the strict fake. */
import assert from 'node:assert/strict';
import { utimesSync } from 'node:fs';
import { describe, test } from 'vitest';
import { decryptImage, verifyVolume } from '../../src/index.js';
import { encryptRange, type RangedOptions, stepRanges } from '../../src/jobs/encrypt-ranges.js';
import { removeRangedUpload } from '../../src/jobs/stored/stored-ranges.js';
import type { RangesLeft } from '../../src/jobs/volume-ranges.js';
import { native } from '../../src/native.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { type StrictS3, strictS3 } from './strict-s3.js';

Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' });

const MIB = 1024 * 1024;
/** With the header five parts of 16 MiB, the last one short; so three ranges. */
const IMAGE_BYTES = 66 * MIB + 512;
const RANGE_BYTES = 35 * MIB;
const TARGET = 's3://images/a.vol';
const RECORD = 'images/a.vol.volseal-resume';

interface Fleet {
  box: Sandbox;
  s3: StrictS3;
  image: Buffer;
  options: RangedOptions;
  step(source?: string): ReturnType<typeof stepRanges>;
  left(source?: string): Promise<RangesLeft>;
  range(ranges: RangesLeft, index: number, source?: string): Promise<void>;
}

async function fleet(): Promise<Fleet> {
  const box = sandbox();
  const s3 = await strictS3('images');
  s3.partsPerPage = 2;
  const image = box.image('a.raw', IMAGE_BYTES);
  const options: RangedOptions = { kms: box.kms, volumeId: 'vol-0123456789abcdef0', store: { endpointUrl: s3.url } };
  const step: Fleet['step'] = (source = box.path('a.raw')) => stepRanges(source, TARGET, RANGE_BYTES, options);
  return {
    ...{ box, s3, image, options, step },
    async left(source) {
      const taken = await step(source);
      return 'ranges' in taken ? taken.ranges : assert.fail('nothing is left');
    },
    range: (ranges, index, source = box.path('a.raw')) =>
      encryptRange(source, TARGET, ranges.left.find((one) => one.index === index)!, ranges.uuid, options),
  };
}

const indexes = ({ left }: RangesLeft): number[] => left.map(({ index }) => index);
const sentParts = (s3: StrictS3): number => s3.requests.filter((name) => name === 'UploadPart').length;

describe('a volume in S3 in ranges', () => {
  test('in any order and twice: one upload, each part once, and the image comes back', async () => {
    const { box, s3, image, options, step, left, range } = await fleet();
    const ranges = await left();
    assert.deepEqual([ranges.count, indexes(ranges)], [3, [0, 1, 2]]);
    assert.equal(sentParts(s3), 0);
    await range(ranges, 2);
    await range(ranges, 0);
    await range(ranges, 2);
    assert.equal(sentParts(s3), 3);
    const rest = await left();
    assert.deepEqual([rest.uuid, indexes(rest)], [ranges.uuid, [1]]);
    // Two workers at one range: they send the same bytes.
    await Promise.all([range(rest, 1), range(rest, 1)]);
    assert.equal(s3.uploads.size, 1);
    const done = await step();
    assert.ok('volume' in done);
    assert.equal(done.volume.volumeId, options.volumeId);
    assert.ok(!s3.objects.has(RECORD));
    await verifyVolume(TARGET, { ...options, against: box.path('a.raw') });
    await decryptImage(TARGET, box.path('b.raw'), options);
    assert.ok(box.contents('b.raw').equals(image));
    // A late worker finds the object, and sends nothing.
    const before = sentParts(s3);
    await assert.rejects(range(ranges, 1), { code: 'ERR_TARGET_EXISTS' });
    assert.equal(sentParts(s3), before);
    assert.equal(native.vaultInfo().liveKeys, 0);
  });

  test('a late worker whose upload is completed meanwhile: S3 refuses its part', async () => {
    const { box, s3, options, left, range, step } = await fleet();
    const ranges = await left();
    for (const index of [1, 2]) await range(ranges, index);
    let isLate = true;
    s3.onRequest = async (operation) => {
      if (operation !== 'UploadPart' || !isLate) return undefined;
      isLate = false;
      // Another worker does the same range, and the job is published.
      await range(ranges, 0);
      assert.ok('volume' in (await step()));
      return undefined;
    };
    await assert.rejects(range(ranges, 0), { code: 'ERR_STATE_BUSY', message: /another run has completed this upload/ });
    await verifyVolume(TARGET, { ...options, against: box.path('a.raw') });
  });

  test('a source that has changed, and an upload that was begun anew: nothing is sent', async () => {
    const { box, s3, left, range, step } = await fleet();
    const ranges = await left();
    await range(ranges, 0);
    utimesSync(box.path('a.raw'), 1, 1);
    const before = sentParts(s3);
    await assert.rejects(range(ranges, 1), { code: 'ERR_RESUME', message: /the source is not as it was/ });
    await assert.rejects(step(), { code: 'ERR_RESUME' });
    s3.objects.delete(RECORD);
    await assert.rejects(range(ranges, 1), { code: 'ERR_RESUME', message: /it has no record/ });
    const anew = await left();
    await assert.rejects(range(ranges, 1), { code: 'ERR_RESUME', message: /it was begun anew, under another key/ });
    assert.equal(sentParts(s3), before);
    assert.deepEqual(indexes(anew), [0, 1, 2]);
  });

  test('a volume that cannot be finished is given up, and another one is not', async () => {
    const { box, s3, options, left, range } = await fleet();
    const ranges = await left();
    await range(ranges, 0);
    const remove = (volumeId: string) => removeRangedUpload(TARGET, volumeId, options.store, undefined);
    await remove('vol-00000000000000000');
    assert.equal(s3.uploads.size, 1);
    await range(ranges, 1);
    utimesSync(box.path('a.raw'), 1, 1);
    await remove(options.volumeId);
    assert.deepEqual([s3.uploads.size, s3.objects.size], [0, 0]);
    await assert.rejects(range(ranges, 2), { code: 'ERR_RESUME', message: /it has no record/ });
    await remove(options.volumeId);
    const anew = await left();
    assert.deepEqual(indexes(anew), [0, 1, 2]);
    assert.notEqual(anew.uuid, ranges.uuid);
  });

  test('an object as the source, of a volume in a file and in S3', async () => {
    const { box, s3, image, options, left, range, step } = await fleet();
    s3.put('images/a.raw', image);
    const stored = await left('s3://images/a.raw');
    for (const { index } of stored.left) await range(stored, index, 's3://images/a.raw');
    assert.ok('volume' in (await step('s3://images/a.raw')));
    await verifyVolume(TARGET, { ...options, against: box.path('a.raw') });

    const target = box.path('a.vol');
    const taken = await stepRanges('s3://images/a.raw', target, RANGE_BYTES, options);
    const { ranges } = 'ranges' in taken ? taken : assert.fail();
    assert.equal(ranges.count, 2);
    for (const one of [...ranges.left].reverse()) await encryptRange('s3://images/a.raw', target, one, ranges.uuid, options);
    assert.ok('volume' in (await stepRanges('s3://images/a.raw', target, RANGE_BYTES, options)));
    await verifyVolume(target, { ...options, against: box.path('a.raw') });
  });
});
