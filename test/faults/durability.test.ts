/** What reaches the disk and when: directories whose flush fails, runs without fsync, a device whose run is killed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { test } from 'vitest';
import { MAIN } from '../built.js';
import { failureOf, type Lab, lab, type Outcome } from '../cli/program.js';
import { requireTool } from '../interop/tools.js';
import { loopDevice, skipWithoutLoop } from '../output/loop-device.js';
import { describeUnless } from '../requirements.js';
import { skipInjection } from './injected.js';

/** Runs `volseal` under strace, all of Node's own file calls in one thread. */
function straced(at: Lab, options: string[], args: string[]): Outcome {
  const { status, stdout, stderr } = spawnSync(requireTool('strace'), ['-D', '-f', '-qq', ...options, process.execPath, MAIN, ...args], {
    cwd: at.directory,
    env: { ...at.env, UV_THREADPOOL_SIZE: '1' },
  });
  return { status, stdout, text: stdout.toString(), stderr: stderr.toString() };
}

/** ... with an fsync that fails, of this file or directory alone. */
const withoutFlush = (at: Lab, path: string, args: string[]): Outcome =>
  straced(at, ['-o', '/dev/null', '-P', path, '-e', 'trace=fsync', '-e', 'inject=fsync:error=EIO'], args);

describeUnless(skipInjection())('a directory that cannot be flushed', () => {
  test('after the rename: the failure says that the new file is in its place', () => {
    const at = lab();
    const image = at.image('a.raw', 100_000 * 512);
    mkdirSync(at.path('to'));
    const failure = failureOf(withoutFlush(at, at.path('to'), ['encrypt', 'a.raw', 'to/a.vol', '--json']));
    assert.equal(failure.code, 'ERR_IO');
    assert.match(
      failure.message,
      /^to\/a\.vol: is complete and at its path, but its directory could not be flushed: a power cut may bring back/,
    );
    assert.deepEqual([failure.details.errno, failure.details.published], ['EIO', true]);
    assert.match(failure.hint ?? '', /^Run sync\(1\)/);
    at.ok(['decrypt', 'to/a.vol', 'b.raw']);
    assert.ok(at.contents('b.raw').equals(image));
  });

  test("a pair: the volume's directory fails: both are new; the header's: both are old", () => {
    const at = lab();
    const first = at.image('a.raw', 512 * 1000);
    const second = at.image('b.raw', 512 * 1000);
    for (const name of ['data', 'headers']) mkdirSync(at.path(name));
    const pair = ['data/a.vol', '--header', 'headers/a.header', '--force', '--json'];
    at.ok(['encrypt', 'a.raw', ...pair]);
    const decrypted = (): Buffer => {
      at.ok(['decrypt', 'data/a.vol', 'c.raw', '--header', 'headers/a.header', '--force']);
      return at.contents('c.raw');
    };
    const headerFailed = failureOf(withoutFlush(at, at.path('headers'), ['encrypt', 'b.raw', ...pair]));
    assert.equal(headerFailed.code, 'ERR_IO');
    assert.equal(headerFailed.details.published, undefined);
    assert.ok(decrypted().equals(first));
    const volumeFailed = failureOf(withoutFlush(at, at.path('data'), ['encrypt', 'b.raw', ...pair]));
    assert.equal(volumeFailed.details.published, true);
    assert.ok(decrypted().equals(second));
    assert.deepEqual(spawnSync('ls', ['-A', 'data', 'headers'], { cwd: at.directory, encoding: 'utf8' }).stdout.split('\n').sort(), [
      '',
      '',
      'a.header',
      'a.vol',
      'data:',
      'headers:',
    ]);
  });
});

describeUnless(skipInjection())('--no-fsync', () => {
  test('nothing of the targets or their directories is flushed; without it everything is', () => {
    const at = lab();
    const image = at.image('a.raw', 512 * 1000);
    mkdirSync(at.path('to'));
    at.ok(['create', 'first.vol', '--size', '64K']);
    const flushes = (args: string[]): string[] => {
      const trace = ['-y', '-o', at.path('trace'), '-e', 'trace=fsync,fdatasync,sync_file_range'];
      const outcome = straced(at, trace, args);
      assert.equal(outcome.status, 0, outcome.stderr);
      const lines = readFileSync(at.path('trace'), 'utf8').split('\n');
      return lines.filter((line) => /fsync|fdatasync/.test(line) && line.includes(`<${at.path('to')}`));
    };
    const made = ['encrypt', 'a.raw', 'to/a.vol', '--header', 'to/a.header', '--force'];
    assert.ok(flushes(made).length >= 4);
    assert.deepEqual(flushes([...made, '--no-fsync']), []);
    assert.deepEqual(flushes(['create', 'to/b.vol', '--size', '1M', '--full', '--no-fsync']), []);
    const back = ['decrypt', 'to/a.vol', 'to/b.raw', '--header', 'to/a.header', '--force'];
    assert.ok(flushes(back).length >= 2);
    assert.deepEqual(flushes([...back, '--no-fsync']), []);
    assert.ok(at.contents('to/b.raw').equals(image));
  });
});

describeUnless(skipInjection() || skipWithoutLoop())('a device whose run is killed', () => {
  test('at any step: no header is valid, unless all of the data is there', () => {
    const at = lab();
    const image = at.image('a.raw', 8 * 1024 * 1024);
    at.ok(['create', 'first.vol', '--size', '64K']);
    const device = loopDevice(at.path('disk'), 16 * 1024 * 1024);
    let killed = 0;
    for (const step of [
      'pwrite64:signal=KILL:when=1',
      'pwrite64:signal=KILL:when=2',
      ...[1, 2, 3, 4].map((when) => `fsync:signal=KILL:when=${when}`),
    ]) {
      at.ok(['create', device, '--size', '10M', '--force']);
      const { status } = straced(
        at,
        ['-o', '/dev/null', '-P', device, '-e', `trace=${step.split(':')[0]}`, '-e', `inject=${step}`],
        ['encrypt', 'a.raw', device, '--force'],
      );
      if (status === null) killed += 1;
      const found = at.run(['info', device, '--json']);
      if (step === 'pwrite64:signal=KILL:when=1') continue; // Before the first byte: the old volume may still be there.
      if (found.status !== 0) {
        assert.equal(failureOf(found).code, 'ERR_NOT_A_VOLUME', step);
      } else {
        at.ok(['decrypt', device, 'b.raw', '--force']);
        assert.ok(at.contents('b.raw').equals(image), step);
      }
    }
    assert.ok(killed >= 4, `only ${killed} runs were killed`);
  });
});
