/** The lock that keeps other processes from destroying a store's mutexes: who closes a store ends only his own part. */
import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'vitest';
import { native } from '../../src/native.js';
import { temporaryHome } from '../kms/harness.js';

/** Whether somebody has a lock on a file; `-1` is the process of a lock that belongs to an open file. */
function isLocked(path: string): boolean {
  const { ino } = statSync(path);
  return readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .some((line) => line.includes('OFDLCK') && line.includes(`:${ino} `));
}

test('it lasts until each opening is closed, whatever other numbers are given', () => {
  const path = join(temporaryHome(), 'lock');
  writeFileSync(path, '');
  const first = native.openStore(path, () => {});
  const second = native.openStore(path, () => {});
  assert.notEqual(first, second);
  assert.ok(isLocked(path));
  for (const wrong of [0, 1, 2, 3, second + 1, first + 2 ** 20, 2 ** 52 - 1]) {
    assert.throws(() => native.storeClosed(wrong), { code: 'ERR_ARGUMENT' });
  }
  native.storeClosed(first);
  assert.throws(() => native.storeClosed(first), { code: 'ERR_ARGUMENT' });
  assert.ok(isLocked(path));
  native.storeClosed(second);
  assert.ok(!isLocked(path));
  // Opened again, the old numbers mean nothing.
  const third = native.openStore(path, () => {});
  for (const old of [first, second]) assert.throws(() => native.storeClosed(old), { code: 'ERR_ARGUMENT' });
  assert.ok(isLocked(path));
  native.storeClosed(third);
});

test('a store whose lock file is not there is open all the same, and the error says so', () => {
  let opened = 0;
  assert.throws(
    () =>
      native.openStore(join(temporaryHome(), 'none'), () => {
        opened += 1;
      }),
    { code: 'ERR_IO' },
  );
  assert.equal(opened, 1);
});
