import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { alignedRows } from '../../src/cli/terminal/output.js';
import { printable } from '../../src/cli/terminal/text.js';

describe('output', () => {
  test('what would steer a terminal is shown as its code', () => {
    assert.equal(printable('a\u001b[2Jb\r\n\u009bc\u202ed\u200be\u2028'), 'a\\u{1b}[2Jb\\u{d}\\u{a}\\u{9b}c\\u{202e}d\\u{200b}e\\u{2028}');
    assert.equal(printable('Größe 10 GiB – 日本'), 'Größe 10 GiB – 日本');
  });

  test('values stand below each other', () => {
    assert.deepEqual(
      alignedRows([
        ['size', '1'],
        ['volume id', '2'],
        ['', '3'],
      ]),
      ['size       1', 'volume id  2', '           3'],
    );
    assert.deepEqual(alignedRows([]), []);
  });
});
