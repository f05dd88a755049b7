import assert from 'node:assert/strict';
import { statSync, truncateSync } from 'node:fs';
import { describe, test } from 'vitest';
import { ended, failureOf, firstLine, lab, parsed } from './program.js';

const MIB = 1024 * 1024;

describe('sparse volumes', () => {
  test('create makes one, --full does not; info says which, and what it takes on the disk', () => {
    const { ok, path } = lab();
    assert.match(
      ok(['create', 'a.vol', '--size', '100G']).text,
      /\nallocation +sparse: only sectors in use are written, and only volseal opens it .*; .* on disk\n/,
    );
    assert.match(ok(['create', 'b.vol', '--size', '1M', '--full']).text, /\nallocation +full: every sector is written; .* on disk\n/);
    for (const [name, allocation] of [
      ['a.vol', 'sparse'],
      ['b.vol', 'full'],
    ] as const) {
      const info = parsed(ok(['info', name, '--json']).text);
      assert.deepEqual([info.allocation, info.allocatedBytes], [allocation, statSync(path(name)).blocks * 512]);
      assert.match(ok(['info', name]).text, new RegExp(`\nallocation +${allocation}: `));
    }
    assert.ok(statSync(path('a.vol')).blocks * 512 < MIB);
  });

  test('encrypt --sparse leaves zeros out, decrypt brings them back as holes, --sparse does so for a full volume too', () => {
    const { ok, path, image, contents } = lab();
    const bytes = image('a.raw', 1000 * 512);
    truncateSync(path('a.raw'), 64 * MIB);
    assert.equal(parsed(ok(['encrypt', 'a.raw', 'a.vol', '--sparse', '--json']).text).allocation, 'sparse');
    assert.equal(parsed(ok(['encrypt', 'a.raw', 'b.vol', '--json']).text).allocation, 'full');
    ok(['decrypt', 'a.vol', 'a2.raw']);
    ok(['decrypt', 'b.vol', 'b2.raw', '--sparse']);
    for (const name of ['a2.raw', 'b2.raw', 'a.vol']) assert.ok(statSync(path(name)).blocks * 512 < 2 * MIB, name);
    for (const name of ['a2.raw', 'b2.raw']) {
      const back = contents(name);
      assert.equal(back.length, 64 * MIB);
      assert.ok(back.subarray(0, bytes.length).equals(bytes) && back.subarray(bytes.length).every((byte) => byte === 0));
    }
  });

  test('densify fills one in place; again it has nothing to do', () => {
    const { ok, path } = lab();
    ok(['create', 'a.vol', '--size', '8M']);
    ok(['write', 'a.vol', '--offset', '1M'], { input: 'hello' });
    assert.match(ok(['densify', 'a.vol']).text, /^a\.vol \(vol-[0-9a-f]{17}\) is full now: every sector is written, 8388608 bytes/);
    assert.ok(statSync(path('a.vol')).blocks * 512 >= 8 * MIB);
    assert.equal(ok(['read', 'a.vol', '--offset', '1M', '--length', '6']).text, 'hello\0');
    assert.match(ok(['densify', 'a.vol']).text, /was full already: nothing was changed/);
    assert.equal(parsed(ok(['densify', 'a.vol', '--json']).text).wasSparse, false);
  });

  test('Ctrl-C in densify leaves a sparse volume, and the next run resumes', async () => {
    const { ok, start } = lab();
    ok(['create', 'a.vol', '--size', '2G']);
    ok(['write', 'a.vol'], { input: 'hello' });
    const child = start(['densify', 'a.vol', '--json', '--progress']);
    const end = ended(child);
    await firstLine(child, 'stderr');
    child.kill('SIGINT');
    const { status, stderr } = await end;
    assert.equal(status, 130, stderr);
    assert.match(stderr, /ERR_ABORTED.*the volume is sparse as before/);
    assert.equal(parsed(ok(['info', 'a.vol', '--json']).text).allocation, 'sparse');
    assert.equal(ok(['read', 'a.vol', '--length', '6']).text, 'hello\0');
    assert.equal(parsed(ok(['densify', 'a.vol', '--json']).text).allocation, 'full');
    assert.equal(ok(['read', 'a.vol', '--length', '6']).text, 'hello\0');
  });

  test('--full and --sparse together are refused', () => {
    const { run } = lab();
    const outcome = run(['create', 'a.vol', '--size', '1M', '--full', '--sparse', '--json']);
    assert.equal(outcome.status, 1);
    assert.match(failureOf(outcome).message, /--full.*cannot be used with.*--sparse/);
  });
});
