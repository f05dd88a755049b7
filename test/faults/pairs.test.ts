/**
 * A volume and its detached header, replaced by runs that are killed or fail between the two: old with old, new with
 * new, or a refusal.
 */
import assert from 'node:assert/strict';
import { renameSync, rmSync, symlinkSync } from 'node:fs';
import { onTestFinished, test } from 'vitest';
import { ended, failureOf, type Lab, lab, type Outcome } from '../cli/program.js';
import { describeUnless } from '../requirements.js';
import { until } from '../until.js';
import { faulty, skipInjection, startFaulty } from './injected.js';

const MIB = 1024 * 1024;
const RENAMES = 'rename,renameat,renameat2';

describeUnless(skipInjection())('a pair of volume and header that can be resumed', () => {
  const PAIR = ['encrypt', 'a.raw', 'a.vol', '--header', 'a.header', '--resume'];

  /** A pair is there, and a.raw is another image by now. */
  function pair(): Lab {
    const at = lab();
    at.image('old.raw', 4 * MIB);
    at.ok(['encrypt', 'old.raw', 'a.vol', '--header', 'a.header']);
    at.image('a.raw', 4 * MIB);
    return at;
  }

  const holds = (at: Lab, image: string): Outcome => at.ok(['verify', 'a.vol', '--header', 'a.header', '--against', image]);

  // The checkpoint's rename, the header's, the volume's.
  for (const when of [1, 2, 3]) {
    test(`killed at its rename ${when}: the next run resumes, and replaces both`, () => {
      const at = pair();
      const { status } = faulty(at, `rename,renameat,renameat2:signal=KILL:when=${when}`, [...PAIR, '--force']);
      assert.equal(status, null);
      if (when < 3) {
        holds(at, 'old.raw');
      } else {
        // The header is new and the volume old: together they would give noise.
        const failure = failureOf(at.run(['decrypt', 'a.vol', 'b.raw', '--header', 'a.header', '--json']));
        assert.equal(failure.code, 'ERR_STATE_INTERRUPTED');
        assert.match(failure.hint ?? '', /run the same command again/);
      }
      at.ok([...PAIR, '--force']);
      holds(at, 'a.raw');
      assert.deepEqual(at.names(), ['a.header', 'a.raw', 'a.vol', 'old.raw', 'trace']);
    });
  }

  test('killed before the old files are removed: a later run starts anew, and does not restore them', () => {
    const at = pair();
    // The first unlink of the run is of the header's backup.
    const { status } = faulty(at, 'unlink,unlinkat:signal=KILL', [...PAIR, '--force']);
    assert.equal(status, null);
    holds(at, 'a.raw');
    assert.ok(at.names().includes('.a.header.resume.old'));
    at.ok([...PAIR, '--force']);
    holds(at, 'a.raw');
    assert.deepEqual(at.names(), ['a.header', 'a.raw', 'a.vol', 'old.raw', 'trace']);
  });

  test('whose volume cannot be published: the header is rolled back, and the next run resumes', () => {
    const at = lab();
    at.image('a.raw', 4 * MIB);
    at.ok(['create', 'first.vol', '--size', '64K']);
    const outcome = faulty(at, 'link,linkat:error=EIO:when=2', PAIR);
    assert.match(outcome.stderr, /what was done is kept in .*\.a\.vol\.resume/);
    assert.deepEqual(at.names(), ['.a.header.resume', '.a.vol.resume', '.a.vol.resume.json', 'a.raw', 'first.vol', 'trace']);
    assert.match(at.ok(PAIR).stderr, /resuming/);
    holds(at, 'a.raw');
    assert.deepEqual(at.names(), ['a.header', 'a.raw', 'a.vol', 'first.vol', 'trace']);
  });

  test('a header that was replaced by another one meanwhile is not taken for its own', () => {
    const at = pair();
    faulty(at, 'rename,renameat,renameat2:signal=KILL:when=3', [...PAIR, '--force']);
    at.ok(['encrypt', 'old.raw', 'other.vol', '--header', 'other.header']);
    renameSync(at.path('other.vol'), at.path('a.vol'));
    renameSync(at.path('other.header'), at.path('a.header'));
    assert.equal(failureOf(at.run([...PAIR, '--force', '--json'])).code, 'ERR_RESUME');
    holds(at, 'old.raw');
  });
});

describeUnless(skipInjection())('a pair of volume and header, replaced by a run that is killed in between', () => {
  const PAIR = ['encrypt', 'a.raw', 'a.vol', '--header', 'a.header', '--force'];
  const DECRYPT = ['decrypt', 'a.vol', 'b.raw', '--header', 'a.header', '--force'];
  const gives = (at: Lab, image: string): void => {
    at.ok(DECRYPT);
    assert.ok(at.contents('b.raw').equals(at.contents(image)));
  };
  const isRefused = (at: Lab, args = DECRYPT): ReturnType<typeof failureOf> => {
    const outcome = at.run([...args, '--json']);
    const failure = failureOf(outcome);
    assert.deepEqual([outcome.status, failure.code], [4, 'ERR_STATE_INTERRUPTED'], outcome.stderr);
    return failure;
  };
  /** Does what the line of the hint that begins with `what` says. */
  const follow = (at: Lab, { hint }: { hint: string | null }, what: string): void => {
    const command = hint
      ?.split('\n')
      .find((line) => line.trim().startsWith(what))
      ?.split(': ')[1];
    assert.ok(command, `${hint}`);
    assert.equal(at.shell(command).status, 0, command);
  };

  /** Killed at the rename `when`: a pair is there, or what `before` makes, and a.raw is another image. */
  function killed(when: number, before?: (at: Lab) => void): Lab {
    const at = lab();
    at.image('old.raw', 4 * MIB);
    at.ok(['encrypt', 'old.raw', 'a.vol', '--header', 'a.header']);
    before?.(at);
    at.image('a.raw', 4 * MIB);
    assert.equal(faulty(at, `${RENAMES}:signal=KILL:when=${when}`, PAIR).status, null);
    return at;
  }

  test('before either: both are old', () => gives(killed(1), 'old.raw'));

  for (const [what, image] of [
    ['To roll back to what was there before', 'old.raw'],
    ['To complete the replacement', 'a.raw'],
  ] as const) {
    test(`after the header: nothing reads the volume. ${what}: as the hint says`, () => {
      const at = killed(2);
      for (const command of ['info', 'write', 'verify']) isRefused(at, [command, 'a.vol', '--header', 'a.header']);
      follow(at, isRefused(at), what);
      gives(at, image);
    });
  }

  test('by way of links: what the hint says leaves them links', () => {
    const at = killed(2, ({ path }) => {
      for (const name of ['a.vol', 'a.header']) {
        renameSync(path(name), path(`real ${name}`));
        symlinkSync(`real ${name}`, path(name));
      }
    });
    follow(at, isRefused(at), 'To roll back to what was there before');
    gives(at, 'old.raw');
    at.ok(['verify', 'real a.vol', '--header', 'real a.header', '--against', 'old.raw']);
  });

  test('and the backup of the old header is gone: nobody is told to remove the only header of the new volume', () => {
    const at = killed(2);
    const backups = at.names().filter((name) => name.startsWith('.a.header.') && !name.endsWith('.pair'));
    assert.ok(backups.length > 0, `${at.names()}`);
    for (const name of backups) rmSync(at.path(name));
    const failure = isRefused(at);
    assert.doesNotMatch(`${failure.hint}`, /\brm /);
    assert.match(`${failure.hint}`, /Keep .*a\.header'?: it is the new volume's only header/);
    follow(at, failure, 'To complete the replacement');
    gives(at, 'a.raw');
  });

  test('after the header: the same command again replaces both', () => {
    const at = killed(2);
    at.ok(PAIR);
    gives(at, 'a.raw');
  });

  test('after the header, and the next run fails: the old ones are back', () => {
    const at = killed(2);
    assert.equal(at.run([...PAIR, '--key', 'alias/none']).status, 6);
    gives(at, 'old.raw');
  });

  test('a header where none was, beside a volume that has its own', () => {
    const at = lab();
    at.image('old.raw', 4 * MIB);
    at.ok(['encrypt', 'old.raw', 'a.vol']);
    at.image('a.raw', 4 * MIB);
    assert.equal(faulty(at, `${RENAMES}:signal=KILL:when=2`, PAIR).status, null);
    follow(at, isRefused(at), 'To roll back to what was there before');
    assert.ok(!at.names().includes('a.header'));
    at.ok(['verify', 'a.vol', '--against', 'old.raw']);
  });

  test('a new pair: the next run makes it, without --force', () => {
    const at = lab();
    at.image('a.raw', 4 * MIB);
    // The KMS links files of its own where it is new.
    at.ok(['create', 'first.vol', '--size', '64K']);
    // The volume gets its name after its header.
    assert.equal(faulty(at, 'link,linkat:signal=KILL:when=2', PAIR.slice(0, -1)).status, null);
    assert.ok(at.names().includes('a.header'));
    at.ok(PAIR.slice(0, -1));
    gives(at, 'a.raw');
  });

  test('after both: the pair is read, and so is a copy of its volume', () => {
    const at = lab();
    at.image('a.raw', 4 * MIB);
    at.ok(PAIR);
    // The first unlink is of the header's backup.
    assert.equal(faulty(at, 'unlink,unlinkat:signal=KILL:when=2', PAIR).status, null);
    assert.ok(at.names().includes('.a.header.pair'));
    gives(at, 'a.raw');
    assert.equal(at.shell('cp a.vol c.vol').status, 0);
    at.ok(['verify', 'c.vol', '--header', 'a.header', '--against', 'a.raw']);
    at.ok(PAIR);
    assert.ok(!at.names().includes('.a.header.pair'));
  });

  test('while the run is at work: busy, and then new', async () => {
    const at = lab();
    at.image('a.raw', 4 * MIB);
    at.ok(PAIR);
    at.image('a.raw', 4 * MIB);
    // It stops itself between the rename of the header and that of the volume.
    const child = startFaulty(at, `${RENAMES}:signal=STOP:when=1`, PAIR);
    onTestFinished(() => void child.kill('SIGKILL'));
    const end = ended(child);
    await until(() => at.names().includes('trace') && at.contents('trace').includes('stopped by SIGSTOP'));
    assert.ok(at.names().includes('.a.header.pair'));
    const outcome = at.run([...DECRYPT, '--json']);
    assert.deepEqual([outcome.status, failureOf(outcome).code], [5, 'ERR_STATE_BUSY'], outcome.stderr);
    assert.equal(at.run(PAIR).status, 5);
    child.kill('SIGCONT');
    assert.equal((await end).status, 0);
    gives(at, 'a.raw');
  });

  test('a mark that somebody else left, or that says nothing, stops nobody', () => {
    const at = lab();
    at.image('a.raw', 4 * MIB);
    at.ok(PAIR);
    for (const text of ['', '{', '{"header":{},"volume":{}}']) {
      assert.equal(at.shell(`umask 077; printf '%s' '${text}' > .a.header.pair`).status, 0);
      gives(at, 'a.raw');
    }
    at.ok(PAIR);
    gives(at, 'a.raw');
  });
});
