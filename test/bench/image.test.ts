import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { skipWithout } from '../interop/tools.js';

test('the image benchmark runs, small, and prints its JSON', { skip: skipWithout('qemu-img', 'dd') }, () => {
  const script = fileURLToPath(new URL('../../bench/main.js', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, 'image', '--size-mib', '4', '--rounds', '1'], {
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  const { results, sizeBytes } = JSON.parse(stdout) as { sizeBytes: number; results: { name: string; megabytesPerSecond: number }[] };
  assert.equal(sizeBytes, 4 * 1024 * 1024);
  assert.equal(results.length, 4);
  assert.ok(results.every(({ megabytesPerSecond }) => megabytesPerSecond > 0));
});
