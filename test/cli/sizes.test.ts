import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { exactSize, humanSize } from '../../src/cli/terminal/sizes.js';
import { parseSize } from '../../src/size-text.js';

const UNITS = { '': 0n, K: 10n, M: 20n, G: 30n, T: 40n } as const;

describe('sizes', () => {
  test('digits and a unit are bytes', () => {
    assert.equal(parseSize('0'), 0);
    assert.equal(parseSize('4096'), 4096);
    assert.equal(parseSize('4k'), 4096);
    assert.equal(parseSize('10G'), 10 * 2 ** 30);
    assert.equal(parseSize('007M'), 7 * 2 ** 20);
    assert.equal(parseSize('8191T'), 8191 * 2 ** 40);
    assert.equal(parseSize('9007199254740991'), Number.MAX_SAFE_INTEGER);
  });

  test('a size is read as it is printed', () => {
    assert.equal(parseSize('8MiB'), 8 * 2 ** 20);
    assert.equal(parseSize('8 MiB'), 8 * 2 ** 20);
    assert.equal(parseSize('10gib'), 10 * 2 ** 30);
    assert.equal(parseSize(humanSize(3 * 2 ** 40)), 3 * 2 ** 40);
  });

  test('any number with any unit is exact, or refused where it is not', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 1n << 60n }), fc.constantFrom('' as const, 'K', 'M', 'G', 'T'), (number, unit) => {
        const bytes = number << UNITS[unit];
        const parse = (): number => parseSize(`${number}${unit}`);
        if (bytes <= BigInt(Number.MAX_SAFE_INTEGER)) assert.equal(BigInt(parse()), bytes);
        else assert.throws(parse, { code: 'ERR_ARGUMENT', message: /too large/ });
      }),
    );
  });

  for (const text of [
    '',
    ' ',
    '-1',
    '+1',
    '1.5G',
    '1e6',
    '0x10',
    '1 K',
    ' 1',
    '1\n',
    'K',
    '1KB',
    '1MB',
    '1K iB',
    '1  KiB',
    '1iB',
    '1KiBs',
    '1P',
    '١',
    'Infinity',
    '1_000',
  ]) {
    test(`${JSON.stringify(text)} is refused by name`, () => {
      assert.throws(
        () => parseSize(text),
        (error: { code: string; message: string }) => error.code === 'ERR_ARGUMENT' && error.message.includes(JSON.stringify(text)),
      );
    });
  }

  test('people read both the exact number and a rounded one', () => {
    assert.equal(humanSize(10 * 2 ** 30), '10 GiB');
    assert.equal(exactSize(10 * 2 ** 30), '10737418240 bytes (10 GiB)');
    assert.equal(exactSize(512), '512 bytes');
  });
});
