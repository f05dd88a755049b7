/**
 * The power is cut at every flush of a command, before it: what is on the disk then is the old state or the new one, or
 * a later run gets there. Every file that volseal writes is written by one of these commands.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'vitest';
import { failureOf, type Lab, lab, labIn } from '../cli/program.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { describeUnless, testUnless } from '../requirements.js';
import { faulty } from './injected.js';
import { LossyDisk, skipPowerCut } from './lossy-disk.js';

const IMAGE_BYTES = 256 * 1024;
/** Room for the template and the directory of one cut. Small: each cut copies it. */
const DISK_BYTES = 32 * 1024 * 1024;

interface Scenario {
  readonly title: string;
  /** What lies on the disk before. */
  readonly prepare: (at: Lab) => void;
  readonly command: readonly string[];
  /** Looks at what the cut has left. @param isDone the command had ended with 0 */
  readonly check: (at: Lab, isDone: boolean) => void;
}

/** Which of two images the volume holds; undefined where it is refused. */
function held(at: Lab, volume: string, ...options: string[]): 'old' | 'new' | undefined {
  if (at.run(['decrypt', volume, 'back.raw', '--force', ...options]).status !== 0) return undefined;
  const found = (['old', 'new'] as const).find((which) => at.contents(`${which}.raw`).equals(at.contents('back.raw')));
  assert.notEqual(found, undefined, `${volume} decrypts to neither image`);
  return found;
}

const opensBy = (at: Lab, key: string): boolean => at.run(['recovery', 'test', 'a.vol', '--recovery-key-file', key]).status === 0;

const HEADER = ['--header', 'a.header'];
const SID = ['--sid', 'S-1-5-21-1-2-3-1001', '--directory', 'd-0123456789'];

const SCENARIOS: readonly Scenario[] = [
  {
    title: 'a new volume, the first in its home',
    prepare: () => {},
    command: ['encrypt', 'new.raw', 'a.vol'],
    check(at, isDone) {
      if (isDone || existsSync(at.path('a.vol'))) assert.equal(held(at, 'a.vol'), 'new');
      at.ok(['encrypt', 'new.raw', 'b.vol']);
    },
  },
  {
    title: 'a volume that is replaced',
    prepare: (at) => at.ok(['encrypt', 'old.raw', 'a.vol']),
    command: ['encrypt', 'new.raw', 'a.vol', '--force'],
    check(at, isDone) {
      const found = held(at, 'a.vol');
      assert.ok(found === 'new' || (found === 'old' && !isDone), String(found));
    },
  },
  {
    title: 'a volume and its detached header',
    prepare: (at) => at.ok(['encrypt', 'old.raw', 'a.vol', ...HEADER]),
    command: ['encrypt', 'new.raw', 'a.vol', ...HEADER, '--force'],
    check(at, isDone) {
      const found = held(at, 'a.vol', ...HEADER);
      if (found === undefined) {
        const failure = failureOf(at.run(['verify', 'a.vol', ...HEADER, '--json']));
        assert.equal(failure.code, 'ERR_STATE_INTERRUPTED', failure.message);
        const back = /roll back.*: (mv .+)/.exec(failure.hint ?? '');
        assert.notEqual(back, null, failure.message);
        assert.equal(at.shell(back![1]!).status, 0);
        assert.notEqual(held(at, 'a.vol', ...HEADER), undefined);
      } else assert.ok(found === 'new' || !isDone, found);
    },
  },
  {
    title: 'a job with checkpoints',
    prepare: (at) => at.ok(['create', 'first.vol', '--size', '64K']),
    command: ['encrypt', 'new.raw', 'a.vol', '--resume'],
    check(at, isDone) {
      if (isDone) assert.equal(held(at, 'a.vol'), 'new');
      at.ok(['encrypt', 'new.raw', 'a.vol', '--resume', '--force']);
      assert.equal(held(at, 'a.vol'), 'new');
    },
  },
  {
    title: 'a header that is wrapped anew',
    prepare(at) {
      at.ok(['encrypt', 'old.raw', 'a.vol']);
      at.ok(['kms', 'create-key']);
      at.ok(['kms', 'create-alias', 'alias/other', at.ok(['kms', 'create-key', '--json']).text.match(/[0-9a-f-]{36}/)![0]]);
    },
    command: ['rewrap', 'a.vol', '--key', 'alias/other'],
    check: (at) => assert.equal(held(at, 'a.vol'), 'old'),
  },
  {
    title: 'a volume under a new data key, in a new file',
    prepare: (at) => at.ok(['encrypt', 'old.raw', 'a.vol']),
    command: ['reencrypt', 'a.vol', '--out', 'b.vol'],
    check(at, isDone) {
      assert.equal(held(at, 'a.vol'), 'old');
      if (isDone || existsSync(at.path('b.vol'))) assert.equal(held(at, 'b.vol'), 'old');
      at.ok(['reencrypt', 'a.vol', '--out', 'b.vol', '--force']);
      assert.equal(held(at, 'b.vol'), 'old');
    },
  },
  {
    title: 'a recovery key that is added',
    prepare: (at) => at.ok(['encrypt', 'old.raw', 'a.vol']),
    command: ['recovery', 'add', 'a.vol', '--out', 'a.key'],
    check(at, isDone) {
      assert.equal(held(at, 'a.vol'), 'old');
      // A key that somebody may have written down opens the volume.
      if (isDone || existsSync(at.path('a.key'))) assert.ok(opensBy(at, 'a.key'));
      at.ok(['recovery', 'add', 'a.vol', '--out', 'again.key']);
      assert.ok(opensBy(at, 'again.key'));
    },
  },
  {
    title: 'a recovery key that is removed',
    prepare(at) {
      at.ok(['encrypt', 'old.raw', 'a.vol']);
      for (const name of ['first.key', 'second.key']) at.ok(['recovery', 'add', 'a.vol', '--out', name]);
    },
    command: ['recovery', 'remove', 'a.vol', '0'],
    check(at, isDone) {
      assert.equal(held(at, 'a.vol'), 'old');
      assert.ok(opensBy(at, 'second.key'));
      if (isDone) assert.ok(!opensBy(at, 'first.key'));
      else if (/^0\b/m.test(at.ok(['recovery', 'list', 'a.vol']).text)) at.ok(['recovery', 'remove', 'a.vol', '0']);
      assert.ok(!opensBy(at, 'first.key'));
      assert.equal(held(at, 'a.vol'), 'old');
    },
  },
  {
    title: 'a header from a backup',
    prepare(at) {
      at.ok(['encrypt', 'old.raw', 'a.vol']);
      at.ok(['recovery', 'add', 'a.vol', '--out', 'first.key']);
      at.ok(['header', 'backup', 'a.vol', 'backup']);
      at.ok(['recovery', 'add', 'a.vol', '--out', 'second.key']);
    },
    command: ['header', 'restore', 'a.vol', 'backup'],
    check(at, isDone) {
      assert.equal(held(at, 'a.vol'), 'old');
      if (!isDone) at.ok(['header', 'restore', 'a.vol', 'backup']);
      assert.ok(opensBy(at, 'first.key'));
      assert.ok(!opensBy(at, 'second.key'));
      assert.equal(held(at, 'a.vol'), 'old');
    },
  },
  {
    title: 'a WorkSpace',
    prepare: (at) => at.ok(['create', 'first.vol', '--size', '64K']),
    command: ['workspace', 'create', ...SID, '--folder', 'desks', '--root-image', 'new.raw', '--user-size', '64K'],
    check(at, isDone) {
      const list = at.ok(['workspace', 'list', '--json']).text;
      if (isDone) assert.match(list, /"state":\s*"ready"/);
    },
  },
];

/** A volume that volseal does not know any more, with a recovery key as its passphrase. */
const ADOPT: Scenario = {
  title: 'a volume that is adopted',
  prepare(at) {
    at.ok(['encrypt', 'old.raw', 'a.vol']);
    at.ok(['recovery', 'add', 'a.vol', '--out', 'a.key']);
    runTool('cryptsetup', ['token', 'remove', '--token-id', '0', at.path('a.vol')]);
    assert.equal(held(at, 'a.vol'), undefined);
  },
  command: ['adopt', 'a.vol', '--passphrase-file', 'a.key'],
  check(at, isDone) {
    runTool('cryptsetup', ['open', '--test-passphrase', '--key-file', at.path('a.key'), at.path('a.vol')]);
    const found = held(at, 'a.vol');
    assert.ok(found === 'old' || !isDone);
    if (found === undefined) at.ok(['adopt', 'a.vol', '--passphrase-file', 'a.key']);
    assert.equal(held(at, 'a.vol'), 'old');
    runTool('cryptsetup', ['open', '--test-passphrase', '--key-file', at.path('a.key'), at.path('a.vol')]);
  },
};

describeUnless(skipPowerCut())('a power cut at every flush', () => {
  for (const scenario of SCENARIOS) test(scenario.title, () => atEveryFlush(scenario));
  testUnless(skipWithout('cryptsetup'))(ADOPT.title, () => atEveryFlush(ADOPT));
});

async function atEveryFlush({ prepare, command, check }: Scenario): Promise<void> {
  const disk = new LossyDisk(DISK_BYTES);
  const template = lab(disk.path);
  for (const which of ['old', 'new']) template.image(`${which}.raw`, IMAGE_BYTES);
  prepare(template);
  let cuts = 0;
  for (const flush of ['fsync', 'fdatasync']) {
    for (let when = 1, killed = true; killed; when++) {
      const directory = join(disk.path, `${flush}-${when}`);
      cpSync(template.directory, directory, { recursive: true });
      const at = labIn(directory);
      runTool('sync', ['-f', disk.path]);
      const { status, stderr } = faulty(at, `${flush}:signal=KILL:when=${when}`, [...command]);
      killed = status === null || status === 137;
      if (!killed) assert.equal(status, 0, stderr);
      await disk.afterPowerCut((path) => {
        try {
          check(labIn(join(path, basename(at.directory))), !killed);
        } catch (error) {
          throw new Error(`${flush} ${when}: ${(error as Error).message}`, { cause: error });
        }
      });
      rmSync(directory, { recursive: true });
      cuts += killed ? 1 : 0;
    }
  }
  assert.ok(cuts > 2, `only ${cuts} cuts`);
}
