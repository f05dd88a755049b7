import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import { built } from '../built.js';

/** Runs an example; its standard output. */
function runExample(cwd: string, name: string, ...args: string[]): string {
  const script = built(`examples/${name}.ts`);
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { cwd, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout;
}

describe('examples', () => {
  test('round-trip: image, volume, image', () => {
    const directory = mkdtempSync(join(tmpdir(), 'volseal example '));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const said = runExample(directory, 'round-trip');
    assert.match(said, /^3\. attached: 268435456 bytes; ext4 magic 0xef53/m);
    assert.match(said, /wrote and read back "written through the volume"/);
    assert.match(said, /^5\. decrypted: identical to the original/m);
    // What it leaves, and what it says to do with it; a second time too.
    assert.deepEqual(readdirSync(join(directory, 'demo')).sort(), ['disk.raw', 'disk.vol', 'home']);
    const [, next = ''] = said.split('\n\n  ');
    const script = `shopt -s expand_aliases\n${next.replace(/^.* (attach|detach) .*$/gm, '')}`;
    const { status, stdout, stderr } = spawnSync('bash', ['-e', '-c', script], { cwd: directory, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^volume id +vol-/m);
    runExample(directory, 'round-trip');
  });

  test('user-volume: the right user and the wrong one', () => {
    const directory = mkdtempSync(join(tmpdir(), 'volseal example '));
    try {
      assert.match(
        runExample(directory, 'user-volume', directory),
        /^vol-[0-9a-f]{17} is attached for alice\nmallory cannot attach it: ERR_CONTEXT_MISMATCH\n$/,
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
