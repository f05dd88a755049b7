/**
 * File systems without locks (some NFS, Lustre): reading goes on with a warning, writing only where its risk is taken
 * by name.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished, test } from 'vitest';
import { lab } from '../cli/program.js';
import { requireTool } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { faulty, skipInjection } from './injected.js';

const ERRNOS = ['ENOLCK', 'ENOSYS', 'EPERM', 'EOPNOTSUPP'];

describeUnless(skipInjection())('a file system without locks', () => {
  for (const errno of ERRNOS)
    test(`${errno}: readers go on with a warning, writers need --allow-no-lock`, () => {
      const at = lab();
      const image = at.image('a.raw', 8192);
      at.ok(['encrypt', 'a.raw', 'a.vol']);
      const without = (args: string[]) => faulty(at, `flock:error=${errno}`, args, 'a.vol');

      const read = without(['read', 'a.vol', '--length', '512']);
      assert.equal(read.status, 0, read.stderr);
      assert.deepEqual(read.stdout, image.subarray(0, 512));
      assert.match(read.stderr, /a\.vol: its file system has no locks \(flock\): what is read while another process writes may be neither/);
      const verified = without(['verify', 'a.vol']);
      assert.equal(verified.status, 0, verified.stderr);

      const before = at.contents('a.vol');
      const refused = without(['write', 'a.vol']);
      assert.equal(refused.status, 4, refused.stderr);
      assert.match(refused.stderr, /two that write destroy each other's data\nhint: .*--allow-no-lock$/m);
      assert.deepEqual(at.contents('a.vol'), before);
      const written = without(['write', 'a.vol', '--allow-no-lock']);
      assert.equal(written.status, 0, written.stderr);
      assert.match(written.stderr, /no other process may use it meanwhile/);
    });

  test('new files, with their headers and over old ones, need no lock; a job that is resumed does', () => {
    const at = lab();
    at.image('a.raw', 8192);
    const elsewhere = lab('/dev/shm');
    const env = withoutLocksIn(elsewhere.directory);
    const without = (...args: string[]) => at.run(args, { env });
    const [volume, header] = [elsewhere.path('a.vol'), elsewhere.path('a.hdr')];
    for (const options of [[], ['--force'], ['--header', header, '--force'], ['--header', header, '--force']]) {
      const outcome = without('encrypt', 'a.raw', volume, ...options);
      assert.equal(outcome.status, 0, outcome.stderr);
      if (options.length === 1) assert.match(outcome.stderr, /whether somebody has it attached cannot be told/);
    }
    const resumed = without('encrypt', 'a.raw', elsewhere.path('b.vol'), '--resume');
    assert.equal(resumed.status, 4, resumed.stderr);
    assert.match(resumed.stderr, /hint: Run it without --resume/);
    at.ok(['verify', volume, '--header', header, '--against', 'a.raw']);
    assert.deepEqual(elsewhere.names().sort(), ['.b.vol.resume', 'a.hdr', 'a.vol']);
  });

  test('a home without locks: the audit log is named, and what to do', () => {
    const at = lab();
    at.image('a.raw', 8192);
    const elsewhere = lab('/dev/shm');
    const env = { ...withoutLocksIn(elsewhere.directory), VOLSEAL_HOME: elsewhere.path('home') };
    const outcome = at.run(['encrypt', 'a.raw', 'a.vol'], { env });
    assert.equal(outcome.status, 4, outcome.stderr);
    assert.match(outcome.stderr, /audit[\s\S]*flock failed[\s\S]*hint: .*VOLSEAL_HOME=DIRECTORY/);
    assert.equal(existsSync(at.path('a.vol')), false);
  });
});

/** An environment in which the file system of `directory` has no locks. */
function withoutLocksIn(directory: string): Record<string, string> {
  // LD_PRELOAD takes no path with a space.
  const place = mkdtempSync(join(tmpdir(), 'volseal-no-locks-'));
  onTestFinished(() => rmSync(place, { recursive: true }));
  const library = join(place, 'no-locks.so');
  const source = `
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
int flock(int fd, int operation) {
  struct stat info;
  if (fstat(fd, &info) == 0 && info.st_dev == strtoull(getenv("NO_LOCKS_ON"), 0, 10)) {
    errno = ENOLCK;
    return -1;
  }
  return syscall(SYS_flock, fd, operation);
}`;
  const words = ['-x', 'c', '-shared', '-fPIC', '-o', library, '-'];
  const compiled = spawnSync(requireTool('gcc'), words, { input: source, encoding: 'utf8' });
  assert.equal(compiled.status, 0, compiled.stderr);
  return { LD_PRELOAD: library, NO_LOCKS_ON: String(statSync(directory).dev) };
}
