import assert from 'node:assert/strict';
import { truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { type Lab, lab, parsed } from './program.js';

const IMAGE_BYTES = 256 * 1024 * 1024;

function labWithImage(): Lab {
  const at = lab();
  writeFileSync(at.path('a.raw'), '');
  truncateSync(at.path('a.raw'), IMAGE_BYTES);
  return at;
}

describe('progress', () => {
  testUnless(skipWithout('script'))('a terminal gets a bar with percentage, rate and time left', () => {
    const at = labWithImage();
    // script(1) gives the program a terminal, and its output to us.
    const { status, text } = at.shell('script -qec "volseal encrypt a.raw a.vol" /dev/null < /dev/null');
    assert.equal(status, 0, text);
    assert.match(text, /100% [█░]+ 256 MiB of 256 MiB {2}[0-9.]+ [KMG]iB\/s {2}0s left/);
    assert.match(text, /[0-9]% [█░]+ .* of 256 MiB {2}[0-9.]+ .*\/s {2}[0-9]+s left/);
    assert.ok(text.lastIndexOf('\u001b[?25h') > text.lastIndexOf('\u001b[?25l'), 'the cursor is back');
    assert.match(text, /encrypted a\.raw into a\.vol in [0-9.]+ s, [0-9.]+ [KMG]iB\/s\r\n/);
  });

  for (const columns of [30, 40, 50, 79]) {
    testUnless(skipWithout('script'))(`no line is longer than a terminal of ${columns} columns`, () => {
      const at = labWithImage();
      const { status, text } = at.shell(`script -qec "stty cols ${columns}; volseal encrypt a.raw a.vol" /dev/null < /dev/null`);
      assert.equal(status, 0, text);
      // Before the result, which may wrap: what is drawn ends with the cursor's return.
      const drawn = text
        .slice(0, text.lastIndexOf('\u001b[?25h'))
        .split('\u001b[')
        .flatMap((part) => part.replace(/^[0-9?;]*[A-Za-z]/, '').split(/[\r\n]/));
      assert.ok(drawn.some((line) => /100%.*iB\/s/.test(line)));
      assert.deepEqual(
        drawn.filter((line) => line.length > columns),
        [],
      );
    });
  }

  testUnless(skipWithout('script'))('--quiet draws nothing and says the result alone', () => {
    const at = labWithImage();
    const { status, text } = at.shell('script -qec "volseal encrypt a.raw a.vol --quiet" /dev/null < /dev/null');
    assert.equal(status, 0, text);
    assert.match(text, /^encrypted a\.raw into a\.vol/);
  });

  testUnless(skipWithout('script'))('nothing is drawn elsewhere', () => {
    const at = labWithImage();
    assert.equal(at.ok(['encrypt', 'a.raw', 'a.vol', '--json']).stderr, '');
    assert.equal(at.ok(['encrypt', 'a.raw', 'b.vol']).stderr, '');
    const json = at.shell('script -qec "volseal decrypt a.vol b.raw --json 2>&1" /dev/null < /dev/null');
    assert.equal(parsed(json.text).imageBytes, IMAGE_BYTES);
  });

  test('with --json --progress it is lines of JSON up to the end, and the result stands alone', () => {
    const at = labWithImage();
    at.ok(['encrypt', 'a.raw', 'a.vol']);
    for (const args of [
      ['encrypt', 'a.raw', 'b.vol'],
      ['decrypt', 'a.vol', 'b.raw'],
      ['create', 'c.vol', '--size', '256M', '--full'],
    ]) {
      const { text, stderr } = at.ok([...args, '--json', '--progress']);
      assert.equal(typeof parsed(text).volumeId, 'string');
      const events = stderr.trimEnd().split('\n').map(parsed);
      let last = 0;
      for (const { event, doneBytes, totalBytes, bytesPerSecond } of events) {
        assert.equal(event, 'progress');
        assert.equal(totalBytes, IMAGE_BYTES);
        assert.ok(Number.isSafeInteger(bytesPerSecond) && Number(bytesPerSecond) > 0);
        assert.ok(Number(doneBytes) > last);
        last = Number(doneBytes);
      }
      assert.equal(last, IMAGE_BYTES);
    }
  });
});
