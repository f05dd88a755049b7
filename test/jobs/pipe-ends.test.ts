/** The addon's own pipes: which descriptors it closes, and which not. */
import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { test } from 'vitest';
import { native } from '../../src/native.js';

const refused = { code: 'ERR_ARGUMENT', message: /openPipe/ };

test('an end is closed once', () => {
  const { readFd, writeFd } = native.openPipe();
  for (const end of [readFd, writeFd]) {
    native.closePipeEnd(end);
    assert.throws(() => fstatSync(end), { code: 'EBADF' });
    assert.throws(() => native.closePipeEnd(end), refused);
  }
});

test("no other descriptor is closed: the event loop's, a file, one that is not open", () => {
  const file = openSync('/dev/null', 'r');
  const open = Array.from({ length: 64 }, (_, fd) => fd).filter(isOpen);
  assert.ok(open.includes(file));
  for (let fd = 0; fd < 64; fd++) assert.throws(() => native.closePipeEnd(fd), refused, `descriptor ${fd}`);
  assert.deepEqual(open.filter(isOpen), open);
  closeSync(file);
});

test('a number that the system has given to another file since is refused', () => {
  const { readFd, writeFd } = native.openPipe();
  closeSync(readFd);
  const file = openSync('/dev/null', 'r');
  assert.equal(file, readFd, 'the system gives the lowest number');
  assert.throws(() => native.closePipeEnd(file), refused);
  assert.ok(isOpen(file));
  closeSync(file);
  native.closePipeEnd(writeFd);
});

function isOpen(fd: number): boolean {
  try {
    return fstatSync(fd) !== undefined;
  } catch {
    return false;
  }
}
