/** An image cut into ranges: they meet, cover it, and begin where the engine can begin. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cutIntoRanges } from '../../src/transfer/image-ranges.js';
import { SEED } from '../seed.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

describe('cutting an image into ranges', () => {
  test.each([
    [5 * MIB, 2 * MIB, [2 * MIB, 4 * MIB, 5 * MIB]],
    [4 * MIB, 2 * MIB, [2 * MIB, 4 * MIB]],
    [2 * MIB + 512, 2 * MIB, [2 * MIB, 2 * MIB + 512]],
    [512, 2 * MIB, [512]],
  ])('%i bytes in ranges of %i', (imageBytes, rangeBytes, ends) => {
    expect(cutIntoRanges(imageBytes, rangeBytes, 'a').map(({ endByte }) => endByte)).toEqual(ends);
  });

  test('any image: every byte is in one range, and each range begins at a whole MiB', () => {
    const sizes = fc.tuple(fc.integer({ min: 1, max: 400 * MIB }), fc.integer({ min: 1, max: 64 }));
    fc.assert(
      fc.property(sizes, ([imageBytes, mebibytes]) => {
        const ranges = cutIntoRanges(imageBytes, mebibytes * MIB, 'a');
        let at = 0;
        for (const [index, range] of ranges.entries()) {
          expect(range).toMatchObject({ index, startByte: at });
          expect(range.startByte % MIB).toBe(0);
          expect(range.endByte).toBeGreaterThan(at);
          at = range.endByte;
        }
        expect(at).toBe(imageBytes);
      }),
      { seed: SEED },
    );
  });

  test('64 TiB in the longest ranges are as many as there may be; one more is refused', () => {
    expect(cutIntoRanges(65_536 * GIB, 4 * GIB, 'a')).toHaveLength(16_384);
    expect(() => cutIntoRanges(65_536 * GIB + 512, 4 * GIB, 'a.raw')).toThrow(/^a\.raw: .* 16385 ranges; there are at most 16384/);
  });
});
