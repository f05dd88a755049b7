/**
 * Jobs whose workers are killed, stopped or elsewhere: one data key, one result, and an old worker publishes nothing.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished, test } from 'vitest';
import { ended, failureOf, type Lab, lab, type Outcome } from '../cli/program.js';
import { requireTool, runTool, skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { skipInjection } from './injected.js';
import { interrupted, SLOW_IMAGE_BYTES, startSlowly, untilThere } from './interrupted.js';

const ENCRYPT = { kind: 'encrypt', source: 'a.raw', target: 'a.vol', context: { user: 'alice' } };
const DECRYPT = { kind: 'decrypt', source: 'a.vol', target: 'b.raw' };
const RUN = ['jobs', 'run', 'jobs.jsonl', '--index'];

function prepared(): { at: Lab; image: Buffer } {
  const at = lab();
  writeFileSync(at.path('jobs.jsonl'), [ENCRYPT, DECRYPT].map((spec) => `${JSON.stringify(spec)}\n`).join(''));
  return { at, image: at.image('a.raw', SLOW_IMAGE_BYTES) };
}

const claimOf = (at: Lab, target: string): { epoch: number; holder: string } =>
  JSON.parse(readFileSync(at.path(`.${target}.claim`), 'utf8')) as { epoch: number; holder: string };

describeUnless(skipInjection())('jobs that are interrupted', () => {
  test('killed, then run again: resumed under the same key, and the claim is gone', async () => {
    const { at, image } = prepared();
    await interrupted(at, [...RUN, '0'], '.a.vol.resume.json');
    assert.equal(claimOf(at, 'a.vol').epoch, 1);
    const begun = statSync(at.path('.a.vol.resume')).ino;
    const again = at.ok([...RUN, '0']);
    assert.match(again.stderr, /resuming at byte/);
    assert.equal(statSync(at.path('a.vol')).ino, begun);
    await interrupted(at, [...RUN, '1'], '.b.raw.resume.json');
    assert.match(at.ok([...RUN, '1']).stderr, /resuming at byte/);
    assert.ok(at.contents('b.raw').equals(image));
    assert.deepEqual(at.names(), ['a.raw', 'a.vol', 'b.raw', 'jobs.jsonl']);
  });

  test('SIGTERM: 143, and nothing is lost', async () => {
    const { at, image } = prepared();
    const { status } = await interrupted(at, [...RUN, '0'], '.a.vol.resume.json', ['SIGTERM']);
    assert.equal(status, 143);
    assert.match(at.ok([...RUN, '0']).stderr, /resuming at byte/);
    at.ok([...RUN, '1']);
    assert.ok(at.contents('b.raw').equals(image));
  });

  test('two workers at once: the second is told to come back, and then finds it done', async () => {
    const { at } = prepared();
    const child = startSlowly(at, [...RUN, '0']);
    const end = ended(child);
    await untilThere(child, at.path('.a.vol.resume.json'));
    const second = at.run([...RUN, '0', '--json']);
    assert.equal(second.status, 5, second.stderr);
    assert.equal(failureOf(second).code, 'ERR_STATE_BUSY');
    assert.equal((failureOf(second).details as { verdict: string }).verdict, 'retry');
    const first = await end;
    assert.equal(first.status, 0, first.stderr);
    assert.match(at.ok([...RUN, '0']).text, /was done already/);
    at.ok(['verify', 'a.vol', '--against', 'a.raw']);
  });

  test('a worker that was stopped while another took over publishes nothing', async () => {
    const { at } = prepared();
    const child = startSlowly(at, [...RUN, '0']);
    const end = ended(child);
    await untilThere(child, at.path('.a.vol.resume.json'));
    child.kill('SIGSTOP');
    // Its lock is lost, as on a file server whose lease has ended: the same file under another inode.
    for (const name of ['.a.vol.resume', '.a.vol.claim']) {
      writeFileSync(at.path('copy'), at.contents(name), { mode: 0o600 });
      renameSync(at.path('copy'), at.path(name));
    }
    const takenOver = { ...claimOf(at, 'a.vol'), epoch: 2, holder: 'f'.repeat(32), worker: 'another:1' };
    writeFileSync(at.path('.a.vol.claim'), JSON.stringify(takenOver));
    child.kill('SIGCONT');
    const { status, stderr } = await end;
    assert.equal(status, 5, stderr);
    assert.match(stderr, /another worker has taken this job over: another:1/);
    assert.ok(!at.names().includes('a.vol'));
    assert.equal(claimOf(at, 'a.vol').holder, takenOver.holder);
  });
});

const skipMount = process.getuid?.() === 0 ? skipWithout('bindfs', 'fusermount3') : 'needs root';

describeUnless(skipInjection() || skipMount)('jobs on a shared file system', () => {
  test('another machine, where device and owner have other numbers, resumes what the first has done', async () => {
    const { at, image } = prepared();
    const mount = lab().path('mount');
    mkdirSync(mount);
    // As NFS with all_squash: every file belongs to nobody there, also a new one.
    runTool('bindfs', ['--force-user=65534', '--force-group=65534', '--create-for-user=0', '--create-for-group=0', at.directory, mount]);
    onTestFinished(() => void spawnSync(requireTool('umount'), [mount]));
    assert.notEqual(statSync(join(mount, 'a.raw')).dev, statSync(at.path('a.raw')).dev);
    await interrupted(at, [...RUN, '0'], '.a.vol.resume.json');
    const there = (index: string): Outcome => at.shell(`cd '${mount}' && volseal ${[...RUN, index].join(' ')}`);
    const resumed = there('0');
    assert.equal(resumed.status, 0, resumed.stderr);
    assert.match(resumed.stderr, /resuming at byte/);
    // And back: what is begun there is continued here.
    const began = startSlowly({ ...at, directory: mount }, [...RUN, '1']);
    const end = ended(began);
    await untilThere(began, at.path('.b.raw.resume.json'));
    began.kill('SIGKILL');
    await end;
    assert.match(at.ok([...RUN, '1']).stderr, /resuming at byte/);
    assert.ok(at.contents('b.raw').equals(image));
    assert.deepEqual(at.names(), ['a.raw', 'a.vol', 'b.raw', 'jobs.jsonl']);
  });
});
