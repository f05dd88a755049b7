import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { built } from '../built.js';

/** Runs an example; its standard output. */
function runExample(name: string, ...args: string[]): string {
  const script = built(`examples/${name}.ts`);
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout;
}

describe('examples', () => {
  test('round-trip: image, volume, image', () => {
    const said = runExample('round-trip');
    assert.match(said, /^3\. attached: 268435456 bytes; ext4 magic 0xef53/m);
    assert.match(said, /wrote and read back "written through the volume"/);
    assert.match(said, /^5\. decrypted: identical to the original/m);
  });

  test('user-volume: the right user and the wrong one', () => {
    const directory = mkdtempSync(join(tmpdir(), 'volseal example '));
    try {
      assert.match(
        runExample('user-volume', directory),
        /^vol-[0-9a-f]{17} is attached for alice\nmallory cannot attach it: ERR_CONTEXT_MISMATCH\n$/,
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
