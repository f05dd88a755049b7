/**
 * What can go wrong with a disk, a source or a user: the old target stays, the message names file and offset, what was
 * begun is ended or gone.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, test } from 'vitest';
import { ended, failureOf, lab } from '../cli/program.js';
import { skipWithoutMount, smallDisk } from '../mount.js';
import { describeUnless, testUnless } from '../requirements.js';
import { faulty, skipInjection } from './injected.js';
import { interrupted, SLOW_IMAGE_BYTES, startSlowly } from './interrupted.js';

const MIB = 1024 * 1024;

describeUnless(skipInjection())('faults of the disk', () => {
  for (const [syscall, args, named, on] of [
    ['pread64', ['encrypt', 'a.raw', 'old', '--force'], 'a.raw', 'a.raw'],
    ['pwrite64', ['encrypt', 'a.raw', 'old', '--force'], 'old', undefined],
    ['pread64', ['decrypt', 'a.vol', 'old', '--force'], 'a.vol', 'a.vol'],
    ['pwrite64', ['decrypt', 'a.vol', 'old', '--force'], 'old', undefined],
  ] as const) {
    test(`${args[0]}, EIO of ${syscall}: names file and offset, and the old target stays`, () => {
      const at = lab();
      at.image('a.raw', 32 * MIB);
      at.ok(['encrypt', 'a.raw', 'a.vol']);
      const old = at.image('old', 1000);
      const outcome = faulty(at, `${syscall}:error=EIO:when=2+`, [...args, '--json'], on);
      assert.equal(outcome.status, 4, outcome.stderr);
      const { code, details } = failureOf(outcome);
      assert.deepEqual([code, details.errno, details.path], ['ERR_IO', 'EIO', named]);
      assert.equal(typeof details.offsetBytes, 'number');
      assert.ok(at.contents('old').equals(old));
      assert.deepEqual(at.names(), ['a.raw', 'a.vol', 'old', 'trace']);
    });
  }

  for (const [syscall, bytes] of [
    ['pwrite64', 512],
    ['pwrite64', 100],
    ['pread64', 512],
    ['pread64', 100],
  ] as const) {
    test(`${syscall} that takes ${bytes} bytes: the rest follows from there`, () => {
      const at = lab();
      at.image('a.raw', 16 * MIB);
      at.ok(['create', 'first.vol', '--size', '64K']);
      const on = syscall === 'pread64' ? 'a.raw' : undefined;
      const outcome = faulty(at, `${syscall}:retval=${bytes}:when=2`, ['encrypt', 'a.raw', 'a.vol'], on);
      assert.equal(outcome.status, 0, outcome.stderr);
      // Calls of all threads are mixed in the trace, and some are in two parts: each has its length and offset in the
      // line where it begins.
      const trace = readFileSync(at.path('trace'), 'utf8');
      const short = [...trace.matchAll(/^\d+ +\w+64\(.*, (\d+), (\d+)\) += \d+ \(INJECTED\)$/gm)];
      for (const [, length, offset] of short) {
        // All that was asked for.
        if (Number(length) <= bytes) continue;
        const rest = `, ${Number(length) - bytes}, ${Number(offset) + bytes}`;
        assert.ok(trace.includes(rest), `nothing was asked for at ${Number(offset) + bytes}`);
      }
      assert.match(trace, /INJECTED/);
    });
  }

  test('a write of 0 bytes is an error, not a loop', () => {
    const at = lab();
    at.image('a.raw', 16 * MIB);
    at.ok(['create', 'first.vol', '--size', '64K']);
    const outcome = faulty(at, 'pwrite64:retval=0:when=2', ['encrypt', 'a.raw', 'a.vol', '--json']);
    assert.equal(failureOf(outcome).code, 'ERR_IO');
    assert.deepEqual(at.names(), ['a.raw', 'first.vol', 'trace']);
  });

  test('a comparison that cannot read names both files', () => {
    const at = lab();
    at.image('a.raw', 4 * MIB);
    at.ok(['encrypt', 'a.raw', 'a.vol']);
    const failure = failureOf(faulty(at, 'pread64:error=EIO:when=1', ['verify', 'a.vol', '--against', 'a.raw', '--json'], 'a.raw'));
    assert.equal(failure.code, 'ERR_IO');
    assert.match(failure.message, /^comparing a\.vol with a\.raw: pread failed at byte \d+/);
    assert.deepEqual(failure.details.paths, ['a.vol', 'a.raw']);
  });

  test('a second name that cannot be removed is a warning: the volume is published', () => {
    const at = lab();
    at.image('a.raw', 4096);
    at.ok(['create', 'first.vol', '--size', '64K']);
    const outcome = faulty(at, 'unlink,unlinkat:error=EIO:when=1', ['encrypt', 'a.raw', 'a.vol']);
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.match(outcome.stderr, /\.partial: could not be removed: it is a second name of a\.vol/);
    at.ok(['verify', 'a.vol', '--against', 'a.raw']);
  });
});

describe('a disk that is too small', () => {
  test('a limit on the size of files: says so, and leaves nothing', () => {
    const at = lab();
    at.image('a.raw', 8 * MIB);
    at.ok(['encrypt', 'a.raw', 'a.vol']);
    for (const args of [
      ['encrypt', 'a.raw', 'b'],
      ['encrypt', 'a.raw', 'b', '--sparse', '--resume'],
      ['decrypt', 'a.vol', 'b'],
    ]) {
      const through = ['sh', '-c', 'ulimit -f 8192; exec "$@"', 'sh'];
      const outcome = at.run([...args, '--json'], { through });
      assert.equal(outcome.status, 4, outcome.stderr);
      const { details, hint } = failureOf(outcome);
      assert.deepEqual([details.errno, details.path], ['EFBIG', 'b']);
      assert.match(hint ?? '', /ulimit -f/);
      assert.deepEqual(at.names(), ['a.raw', 'a.vol']);
    }
  });

  testUnless(skipWithoutMount())('it fills up in the middle of a job that can be resumed: named, and the old target stays', () => {
    const at = lab();
    at.image('a.raw', 24 * MIB);
    const remount = smallDisk(at.path('small'), 12 * MIB);
    const old = at.image('small/a.vol', 1000);
    const encrypt = ['encrypt', 'a.raw', 'small/a.vol', '--sparse', '--resume', '--force'];
    const { details } = failureOf(at.run([...encrypt, '--json']));
    assert.deepEqual([details.errno, details.path], ['ENOSPC', 'small/a.vol']);
    assert.ok(at.contents('small/a.vol').equals(old));
    remount(`size=${64 * MIB}`);
    at.ok(encrypt);
    at.ok(['verify', 'small/a.vol', '--against', 'a.raw']);
    assert.deepEqual(spawnSync('ls', ['-A', 'small'], { cwd: at.directory, encoding: 'utf8' }).stdout, 'a.vol\n');
  });

  testUnless(skipWithoutMount())('densify is told what can help it: room', () => {
    const at = lab();
    smallDisk(at.path('small'), 4 * MIB);
    at.ok(['create', 'small/a.vol', '--size', '16M']);
    const { details, hint } = failureOf(at.run(['densify', 'small/a.vol', '--json']));
    assert.equal(details.errno, 'ENOSPC');
    assert.equal(hint, 'Free some space on that disk, then run the command again.');
    at.ok(['verify', 'small/a.vol']);
  });
});

testUnless(skipWithoutMount())('a source on a read-only file system: encrypted, decrypted, compared', () => {
  const at = lab();
  const image = at.image('a.raw', MIB);
  at.ok(['encrypt', 'a.raw', 'a.vol']);
  const remount = smallDisk(at.path('small'), 8 * MIB);
  for (const name of ['a.raw', 'a.vol']) writeFileSync(at.path(`small/${name}`), at.contents(name));
  remount('ro');
  at.ok(['encrypt', 'small/a.raw', 'b.vol', '--resume']);
  at.ok(['decrypt', 'small/a.vol', 'b.raw', '--resume']);
  at.ok(['verify', 'small/a.vol', '--against', 'small/a.raw']);
  assert.ok(at.contents('b.raw').equals(image));
  const { details, hint } = failureOf(at.run(['encrypt', 'a.raw', 'small/b.vol', '--json']));
  assert.equal(details.errno, 'EROFS');
  assert.match(hint ?? '', /mounted read-only/);
});

testUnless(skipInjection())('Ctrl-C twice: ends at once, the old target is as it was, the next run is not disturbed', async () => {
  const at = lab();
  at.image('a.raw', SLOW_IMAGE_BYTES);
  const old = at.image('a.vol', 1000);
  const child = startSlowly(at, ['encrypt', 'a.raw', 'a.vol', '--force']);
  const end = ended(child);
  while (!at.names().some((name) => name.endsWith('.partial'))) await sleep(20);
  child.kill('SIGINT');
  child.kill('SIGTERM');
  const { status, signal } = await end;
  assert.ok([130, 143].includes(status ?? 0) || signal !== null, `status ${status}`);
  assert.ok(at.contents('a.vol').equals(old));
  at.ok(['encrypt', 'a.raw', 'a.vol', '--force']);
  at.ok(['verify', 'a.vol', '--against', 'a.raw']);
});

testUnless(skipInjection())('a sparse partial file that was cut to its checkpoint is gone on with', async () => {
  const at = lab();
  at.image('a.raw', SLOW_IMAGE_BYTES);
  const encrypt = ['encrypt', 'a.raw', 'a.vol', '--sparse', '--resume'];
  await interrupted(at, encrypt, '.a.vol.resume.json');
  const { safeBytes } = JSON.parse(at.contents('.a.vol.resume.json').toString()) as { safeBytes: number };
  // As a run leaves it that is killed between cutting the file and giving it its length again.
  truncateSync(at.path('.a.vol.resume'), MIB + safeBytes);
  // What it was about to write next to its checkpoint.
  writeFileSync(at.path('..a.vol.resume.json.0123456789ab.partial'), '{');
  assert.match(at.ok(encrypt).stderr, /resuming/);
  at.ok(['verify', 'a.vol', '--against', 'a.raw']);
  assert.deepEqual(at.names(), ['a.raw', 'a.vol']);
});
