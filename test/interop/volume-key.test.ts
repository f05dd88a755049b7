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
    const closed = at.run(['volume-key', 'disk.vol', '--to-fd', '77', '--json']);
    assert.equal(failureOf(closed).code, 'ERR_IO');
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
