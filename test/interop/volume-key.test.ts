/** `volseal volume-key`: the key in another program's hands. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { failureOf, lab } from '../cli/program.js';
import { describeUnless } from '../requirements.js';
import { skipWithout } from './tools.js';

describeUnless(skipWithout('cryptsetup', 'bash'))('volume-key', () => {
  test('hands the key to cryptsetup through a pipe, with a warning and a record in the audit log', () => {
    const at = lab();
    at.image('disk.raw', 1024 * 1024);
    at.ok(['encrypt', 'disk.raw', 'disk.vol']);
    const decrypts = (): number => at.ok(['audit', '--event', 'Decrypt', '--json']).text.trim().split('\n').length;
    const before = decrypts();
    const outcome = at.shell(
      `bash -c 'cryptsetup open --test-passphrase --volume-key-file <(volseal volume-key disk.vol --to-fd 3 3>&1 >/dev/null) --key-size 512 disk.vol'`,
    );
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.match(outcome.stderr, /leaves volseal's hands/);
    assert.match(outcome.stderr, /wrote the key of disk\.vol .*64 bytes, to descriptor 3/);
    assert.equal(decrypts(), before + 1);
    const piped = at.run(['volume-key', 'disk.vol', '--to-fd', '1']);
    assert.equal(piped.stdout.length, 64);
  });

  test('refuses a descriptor that is not open, a terminal, a keyslot instead of KMS, and another context', () => {
    const at = lab();
    at.image('disk.raw', 8192);
    at.ok(['encrypt', 'disk.raw', 'disk.vol']);
    // Node has pipes and event descriptors of its own from 3 on, and would read the key.
    for (const fd of [3, 4, 5, 6, 7, 8, 11, 12, 13, 77]) {
      const closed = at.run(['volume-key', 'disk.vol', '--to-fd', String(fd), '--json']);
      assert.deepEqual([closed.status, failureOf(closed).code], [1, 'ERR_ARGUMENT'], `descriptor ${fd}`);
    }
    const opened = at.shell(
      'volseal volume-key disk.vol --to-fd 9 9>key; volseal volume-key disk.vol --to-fd 3 3>&1 >/dev/null | cmp - key',
    );
    assert.equal(opened.status, 0, opened.stderr);
    const terminal = at.shell(`script -qec 'volseal volume-key disk.vol --to-fd 1' /dev/null`);
    assert.notEqual(terminal.status, 0);
    assert.match(terminal.text, /never written to a terminal/);
    assert.equal(at.run(['volume-key', 'disk.vol', '--to-fd', 'x']).status, 1);
    assert.equal(at.run(['volume-key', 'disk.vol', '--to-fd', '1', '--recovery-key-file', 'x']).status, 1);
    const other = at.run(['volume-key', 'disk.vol', '--to-fd', '1', '--context', 'user=bob']);
    assert.equal(other.status, 2);
    assert.equal(other.stdout.length, 0);
  });
});
