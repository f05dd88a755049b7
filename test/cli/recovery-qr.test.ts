import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'vitest';
import { runTool, skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { lab } from './program.js';

/** What qrencode draws of a text that it gets as an argument. */
const drawn = (text: string): string => runTool('qrencode', ['--type', 'UTF8', '--level', 'M', text]);

describeUnless(skipWithout('qrencode'))('recovery add --qr', () => {
  test('draws the text of the key as it is, beside the printed one or the file, and leaves nothing in memory', () => {
    const at = lab();
    at.ok(['create', 'disk.vol', '--size', '64K']);
    const before = readdirSync('/dev/shm');
    const { text } = at.ok(['recovery', 'add', 'disk.vol', '--qr']);
    const [key] = text.split('\n');
    assert.match(key!, /^[a-z]{8}(-[a-z]{8}){8}$/);
    assert.equal(text, `${key}\n${drawn(key!)}`);
    const beside = at.ok(['recovery', 'add', 'disk.vol', '--qr', '--out', 'recovery.key']).text;
    assert.ok(beside.includes(drawn(at.contents('recovery.key').toString().trim())));
    at.ok(['recovery', 'test', 'disk.vol', '--recovery-key-file', 'recovery.key']);
    assert.deepEqual(readdirSync('/dev/shm'), before);
  });

  test('without qrencode it is refused, and no keyslot is added', () => {
    const at = lab();
    at.ok(['create', 'disk.vol', '--size', '64K']);
    const { status, stderr } = at.run(['recovery', 'add', 'disk.vol', '--qr'], { env: { PATH: at.path('empty') } });
    assert.notEqual(status, 0);
    assert.match(stderr, /needs the program qrencode/);
    assert.match(at.ok(['recovery', 'list', 'disk.vol']).text, /has no keyslot/);
  });
});
