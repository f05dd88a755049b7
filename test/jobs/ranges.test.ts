/** One volume in ranges, in one process: the steps in any order and twice; what is forged, late or another's. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { directoryOf } from '../../src/directory-entry.js';
import { describeVolume, encryptImage, verifyVolume } from '../../src/index.js';
import { encryptRange, type RangedOptions, stepRanges } from '../../src/jobs/encrypt-ranges.js';
import { type RangesLeft, removeRangedVolume } from '../../src/jobs/volume-ranges.js';
import { native } from '../../src/native.js';
import { openSharedPartial } from '../../src/output/partial-file.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const MIB = 1024 * 1024;
const RANGE_BYTES = 2 * MIB;
const IMAGE_BYTES = 7 * MIB + 4096;
const VOLUME_ID = 'vol-0123456789abcdef0';
const PARTIAL = '.a.vol.resume';

interface Fleet {
  box: Sandbox;
  /** The image, and more than one range of it. */
  image: Buffer;
  step(more?: Partial<RangedOptions>): ReturnType<typeof stepRanges>;
  range(ranges: RangesLeft, index: number, more?: Partial<RangedOptions>): Promise<void>;
  left(more?: Partial<RangedOptions>): Promise<RangesLeft>;
  names(): string[];
}

function fleet(imageBytes = IMAGE_BYTES): Fleet {
  const box = sandbox();
  const image = box.image('a.raw', imageBytes);
  const options = (more: Partial<RangedOptions> = {}): RangedOptions => ({ kms: box.kms, volumeId: VOLUME_ID, ...more });
  const [source, target] = [box.path('a.raw'), box.path('a.vol')];
  const step: Fleet['step'] = (more) => stepRanges(source, target, RANGE_BYTES, options(more));
  return {
    box,
    image,
    step,
    range: (ranges, index, more) =>
      encryptRange(source, target, ranges.left.find((one) => one.index === index)!, ranges.uuid, options(more)),
    async left(more) {
      const taken = await step(more);
      return 'ranges' in taken ? taken.ranges : assert.fail('nothing is left');
    },
    names: () =>
      readdirSync(box.directory)
        .filter((name) => name !== 'home')
        .sort(),
  };
}

const indexes = ({ left }: RangesLeft): number[] => left.map(({ index }) => index);

describe('a volume in ranges', () => {
  for (const options of [{}, { sectorBytes: 4096 }, { allocation: 'sparse' as const }, { pad: true, sectorBytes: 4096, odd: 100 }]) {
    const { odd = 0, ...more } = options as Partial<RangedOptions> & { odd?: number };
    test(`in any order and twice, ${JSON.stringify(options)}: the volume is what encryptImage makes of it`, async () => {
      const { box, image, step, range, left, names } = fleet(IMAGE_BYTES + odd);
      // A hole in the second range and at its end.
      image.fill(0, 3 * MIB, 4 * MIB + 8192);
      writeFileSync(box.path('a.raw'), image);
      const ranges = await left(more);
      assert.equal(ranges.count, 4);
      assert.deepEqual(indexes(ranges), [0, 1, 2, 3]);
      for (const index of [2, 0, 2]) await range(ranges, index, more);
      const rest = await left(more);
      assert.equal(rest.uuid, ranges.uuid);
      assert.deepEqual(indexes(rest), [1, 3]);
      // Two at once, one of them at both.
      await Promise.all([range(ranges, 3, more), range(ranges, 1, more), range(rest, 1, more)]);
      assert.ok(names().includes(`${PARTIAL}.range-3.json`));
      const done = await step(more);
      assert.ok('volume' in done);
      assert.equal(done.volume.volumeId, VOLUME_ID);
      assert.deepEqual(names(), ['a.raw', 'a.vol']);
      await verifyVolume(box.path('a.vol'), { kms: box.kms, against: box.path('a.raw') });
      const info = await describeVolume(box.path('a.vol'));
      assert.deepEqual([info.uuid, info.imageBytes], [ranges.uuid, image.length]);
      assert.equal(native.vaultInfo().liveKeys, 0);
    });
  }

  test('a record that was changed, moved to another range or copied to another volume counts for nothing', async () => {
    const { box, step, range, left, names } = fleet();
    const ranges = await left();
    for (const index of [0, 1]) await range(ranges, index);
    const record = (index: number): string => box.path(`${PARTIAL}.range-${index}.json`);
    const text = readFileSync(record(0), 'utf8');
    // What it says is for people; its MAC is what holds.
    writeFileSync(record(2), text, { mode: 0o600 });
    writeFileSync(record(3), 'no JSON', { mode: 0o600 });
    writeFileSync(box.path(`${PARTIAL}.range-99.json`), text, { mode: 0o600 });
    assert.deepEqual(indexes(await left()), [2, 3]);
    writeFileSync(record(0), text.replace(/"mac": "./, '"mac": "!'), { mode: 0o600 });
    assert.deepEqual(indexes(await left()), [0, 2, 3]);
    for (const index of [0, 2, 3]) await range(ranges, index);
    assert.ok('volume' in (await step()));
    assert.deepEqual(names(), ['a.raw', 'a.vol']);
  });

  test('while somebody is at a range, nobody publishes or begins anew; later ranges find nothing to write to', async () => {
    const { box, step, range, left, names } = fleet();
    const ranges = await left();
    for (const index of [0, 1, 2, 3]) await range(ranges, index);
    {
      await using directory = await directoryOf(box.path('a.vol'));
      // As a worker has it that was stopped in the middle of a range.
      await using _late = await openSharedPartial(directory, PARTIAL);
      await assert.rejects(step(), { code: 'ERR_STATE_BUSY' });
      await assert.rejects(encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, resume: true }), { code: 'ERR_STATE_BUSY' });
      await assert.rejects(removeRangedVolume(box.path('a.vol'), VOLUME_ID), { code: 'ERR_STATE_BUSY' });
      assert.ok(!names().includes('a.vol'));
    }
    assert.ok('volume' in (await step()));
    await assert.rejects(range(ranges, 1), { code: 'ERR_TARGET_EXISTS' });
    await assert.rejects(range(ranges, 1, { force: true }), { code: 'ERR_RESUME', message: /is not there any more: it is not there/ });
    assert.deepEqual(names(), ['a.raw', 'a.vol']);
    await verifyVolume(box.path('a.vol'), { kms: box.kms, against: box.path('a.raw') });
  });

  test('a volume that was begun anew has another key: ranges of the first one write nothing', async () => {
    const { box, step, range, left } = fleet();
    const first = await left();
    await range(first, 0);
    await removeRangedVolume(box.path('a.vol'), 'vol-00000000000000000');
    assert.deepEqual(indexes(await left()), [1, 2, 3]);
    await removeRangedVolume(box.path('a.vol'), VOLUME_ID);
    const second = await left();
    assert.notEqual(second.uuid, first.uuid);
    assert.deepEqual(indexes(second), [0, 1, 2, 3]);
    const before = readFileSync(box.path(PARTIAL));
    await assert.rejects(range(first, 1), { code: 'ERR_RESUME', message: /it was begun anew, under another key/ });
    assert.ok(readFileSync(box.path(PARTIAL)).equals(before));
    for (const index of [0, 1, 2, 3]) await range(second, index);
    assert.ok('volume' in (await step()));
    await verifyVolume(box.path('a.vol'), { kms: box.kms, against: box.path('a.raw') });
  });

  test('a run that was killed before its header was written left nothing to keep; another volume is not touched', async () => {
    const { box, range, left, step } = fleet();
    writeFileSync(box.path(PARTIAL), Buffer.alloc(8192), { mode: 0o600 });
    const ranges = await left();
    assert.deepEqual(indexes(ranges), [0, 1, 2, 3]);
    await range(ranges, 0);
    await assert.rejects(step({ volumeId: 'vol-00000000000000001' }), { code: 'ERR_RESUME', message: /it is of the volume vol-0123/ });
    assert.deepEqual(indexes(await left()), [1, 2, 3]);
  });

  test('an image that becomes shorter: refused, and not recorded', async () => {
    const { box, range, left, names } = fleet();
    const ranges = await left();
    truncateSync(box.path('a.raw'), 3 * MIB);
    await assert.rejects(range(ranges, 3));
    assert.ok(!names().includes(`${PARTIAL}.range-3.json`));
  });
});
