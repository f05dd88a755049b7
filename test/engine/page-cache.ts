/** What of a file lies in the page cache, by util-linux's fincore. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';

/** In bytes. */
export function cachedBytes(path: string): number {
  const { stdout, status } = spawnSync('fincore', ['--noheadings', '--bytes', '--output', 'RES', path], { encoding: 'utf8' });
  assert.equal(status, 0, 'fincore');
  return Number(stdout);
}

/** The kernel drops what it likes to drop; it takes more than one request at times. */
export function dropFromCache(path: string): void {
  for (let tries = 0; tries < 100; tries++) {
    spawnSync('sync', [path]);
    spawnSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0']);
    if (cachedBytes(path) === 0) return;
  }
  assert.fail(`${path} stays in the page cache`);
}
