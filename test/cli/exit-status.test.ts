import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { EXIT, EXIT_STATUS_HELP, exitStatusOf } from '../../src/cli/exit-status.js';
import { hintFor } from '../../src/cli/hints/hints.js';

const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

const numbersIn = (text: string): number[] => (text.match(/\d+/g) ?? []).map(Number);

describe('exit statuses', () => {
  test('the README explains each one, and no other', () => {
    const [, section = ''] = /\n## Exit statuses\n([\s\S]*?)\n## /.exec(README) ?? [];
    const listed = [...section.matchAll(/^\| (\d[^|]*)\|/gm)].flatMap(([, numbers]) => numbersIn(numbers!));
    // 129 and 143 are for SIGHUP and SIGTERM, 130 is for SIGINT.
    assert.deepEqual(new Set(listed), new Set([...Object.values(EXIT), 129, 143]));
  });

  test('so does help, but for the end of a pipe', () => {
    const listed = EXIT_STATUS_HELP.flatMap((line) => numbersIn(line.split(' ')[0]!));
    assert.deepEqual(
      listed,
      Object.values(EXIT).filter((status) => status !== EXIT.outputClosed),
    );
  });

  test('a cipher that fails its self-test has one of its own, and a hint', () => {
    assert.equal(exitStatusOf('ERR_SELF_TEST'), EXIT.selfTest);
    assert.match(hintFor({ code: 'ERR_SELF_TEST', details: {}, command: 'encrypt' }) ?? '', /npm rebuild volseal/);
  });
});
