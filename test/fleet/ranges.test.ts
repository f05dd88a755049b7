/** One image in ranges over several workers, on each server: processes that are killed and stopped in their middle. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { onTestFinished, test } from 'vitest';
import { MAIN } from '../built.js';
import { ended, type Lab, lab } from '../cli/program.js';
import { skipInjection } from '../faults/injected.js';
import { requireTool, runTool, skipWithout } from '../interop/tools.js';
import { describeUnless, testUnless } from '../requirements.js';
import { until } from '../until.js';
import { type QueueServer, skipPostgres, startPostgres, startRedis } from './servers.js';

const MIB = 1024 * 1024;
const RANGE_BYTES = 256 * MIB;
/** Three ranges, the last one short and ending within a MiB. */
const IMAGE_BYTES = 2 * RANGE_BYTES + 100 * MIB + 4096;
const RANGES = 3;
const PARTIAL = '.huge.vol.resume';
const LOCK_SECONDS = 4;
/** Eight threads with writes of 1 MiB: about three seconds a range, so that faults meet ranges in their middle. */
const WRITE_DELAY_US = 100_000;

const SERVERS: [name: string, skip: string | false, start: () => Promise<QueueServer>][] = [
  ['Redis', skipWithout('redis-server', 'redis-cli'), () => startRedis()],
  ['PostgreSQL', skipPostgres(), startPostgres],
];

interface Worker {
  child: ChildProcess;
  /** Its log so far: an object a line. */
  lines: Record<string, unknown>[];
}

interface Fleet {
  at: Lab;
  /** Of the server. */
  port: number;
  /** Of the KMS key of the volume. */
  keyId: string;
  /** Runs `volseal jobs` with the queue. */
  ok(...args: string[]): Record<string, unknown>;
  /** A worker whose writes are slow. */
  slow(): Worker;
  worker(...args: string[]): Worker;
}

async function fleetOn(start: () => Promise<QueueServer>): Promise<Fleet> {
  const at = lab();
  const server = await start();
  at.env.VOLSEAL_QUEUE = server.url(server.port);
  const { keyId } = JSON.parse(at.ok(['kms', 'create-key', '--json']).text) as { keyId: string };
  // Mostly holes, with something in every range and on both sides of their borders.
  writeFileSync(at.path('huge.raw'), '');
  truncateSync(at.path('huge.raw'), IMAGE_BYTES);
  for (const byte of [0, RANGE_BYTES - 4096, RANGE_BYTES, 2 * RANGE_BYTES - 512, 2 * RANGE_BYTES, IMAGE_BYTES - 512]) scribble(at, byte);
  const spec = {
    kind: 'encrypt',
    source: at.path('huge.raw'),
    target: at.path('huge.vol'),
    key: keyId,
    context: { user: 'alice' },
    rangeSize: '256MiB',
  };
  writeFileSync(at.path('jobs.jsonl'), `${JSON.stringify(spec)}\n`);
  const work = ['jobs', 'work', '--lock', `${LOCK_SECONDS}`];
  return {
    at,
    port: server.port,
    keyId,
    ok: (...args) => JSON.parse(at.ok(['jobs', ...args, '--json']).text) as Record<string, unknown>,
    worker: (...args) => logged(at.start([...work, ...args])),
    slow() {
      const inject = ['-D', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=pwrite64', '-e', `inject=pwrite64:delay_enter=${WRITE_DELAY_US}`];
      const child = spawn(requireTool('strace'), [...inject, process.execPath, MAIN, ...work], {
        cwd: at.directory,
        env: at.env,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      onTestFinished(() => void child.kill('SIGKILL'));
      return logged(child);
    },
  };
}

function scribble(at: Lab, byte: number): void {
  const fd = openSync(at.path('huge.raw'), 'r+');
  writeSync(fd, Buffer.from(`at ${byte}`.padEnd(512, '.')), 0, 512, byte);
  closeSync(fd);
}

function logged(child: ChildProcess): Worker {
  const lines: Record<string, unknown>[] = [];
  let rest = '';
  child.stderr!.on('data', (chunk: Buffer) => {
    const parts = `${rest}${chunk.toString()}`.split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Record<string, unknown>));
  });
  return { child, lines };
}

const has = ({ lines }: Worker, msg: string, more: Record<string, unknown> = {}): boolean =>
  lines.some((line) => line.msg === msg && Object.entries(more).every(([name, value]) => line[name] === value));

const of = ({ lines }: Worker, msg: string): number => lines.filter((line) => line.msg === msg).length;

const rangesDone = ({ lines }: Worker): number[] =>
  lines.filter(({ msg, kind, outcome }) => msg === 'job done' && kind === 'range' && outcome === 'done').map(({ range }) => Number(range));

/** Whether something of the range is written, and not recorded as done. */
function isInTheMiddleOf(at: Lab, range: number): boolean {
  const names = at.names();
  if (!names.includes(PARTIAL) || names.includes(`${PARTIAL}.range-${range}.json`)) return false;
  const bytes = Buffer.alloc(512);
  const fd = openSync(at.path(PARTIAL), 'r');
  readSync(fd, bytes, 0, 512, MIB + range * RANGE_BYTES);
  closeSync(fd);
  return bytes.some((byte) => byte !== 0);
}

/** Waits until a range is in its middle, stops its worker there, and says which range it is. */
async function stopInTheMiddle(at: Lab, { child, lines }: Worker): Promise<number> {
  return until(() => {
    const begun = lines.filter(({ msg, kind }) => msg === 'job begins' && kind === 'range').at(-1);
    if (begun === undefined || !isInTheMiddleOf(at, Number(begun.range))) return false;
    child.kill('SIGSTOP');
    if (isInTheMiddleOf(at, Number(begun.range))) return Number(begun.range);
    child.kill('SIGCONT');
    return false;
  });
}

async function end({ child }: Worker, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const over = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  await over;
}

/** The volume is the image, its key is the volume's for cryptsetup too; and nothing else was left. @param keys made */
function check(at: Lab, keys = 1): void {
  at.ok(['verify', 'huge.vol', '--against', 'huge.raw', '--context', 'user=alice']);
  const opened = at.shell(
    'volseal volume-key huge.vol --to-fd 1 | cryptsetup open --test-passphrase --volume-key-file /dev/stdin --key-size 512 huge.vol',
  );
  assert.equal(opened.status, 0, opened.stderr);
  const made = at.ok(['audit', '--event', 'GenerateDataKeyWithoutPlaintext', '--json']).text;
  assert.equal(made.split('\n').filter((line) => line !== '').length, keys);
  assert.deepEqual(at.names(), ['huge.raw', 'huge.vol', 'jobs.jsonl']);
}

const countsOf = (status: Record<string, unknown>): unknown => status.counts;
const ONE_DONE = { waiting: 0, active: 0, delayed: 0, done: 1, failed: 0 };
const ONE_FAILED = { ...ONE_DONE, done: 0, failed: 1 };

for (const [name, skip, start] of SERVERS) {
  describeUnless(skip || skipInjection() || skipWithout('cryptsetup'))(`one image in ranges on ${name}`, () => {
    test('two workers: each does some of them, and the volume is the image', async () => {
      const { at, ok, slow } = await fleetOn(start);
      const workers = [slow(), slow()];
      assert.deepEqual(ok('submit', 'jobs.jsonl'), { added: 1, known: 0, leftOut: [] });
      const seen = await until(() => {
        const status = ok('status') as { inRanges: { done: number; count: number }[] };
        return status.inRanges.length === 1 && status.inRanges[0]!.count === RANGES && status;
      });
      assert.deepEqual(
        seen.inRanges.map(({ done: _, ...rest }) => rest),
        [{ kind: 'encrypt', source: at.path('huge.raw'), count: RANGES }],
      );
      await until(() => (countsOf(ok('status')) as { done: number }).done === 1);
      for (const worker of workers) await end(worker, 'SIGTERM');
      const done = workers.map(rangesDone);
      assert.deepEqual(done.flat().sort(), [0, 1, 2]);
      assert.ok(
        done.every((ranges) => ranges.length > 0),
        JSON.stringify(done),
      );
      assert.deepEqual(countsOf(ok('status')), ONE_DONE);
      check(at);
      // The same job as a whole, or in other ranges, is the same job.
      assert.equal((ok('run', 'jobs.jsonl', '--index', '0') as { outcome: string }).outcome, 'already');
      assert.deepEqual(ok('submit', 'jobs.jsonl'), { added: 0, known: 1, leftOut: [] });
    });

    test('a worker is killed in the middle of a range: another one does that range', async () => {
      const { at, ok, slow, worker } = await fleetOn(start);
      ok('submit', 'jobs.jsonl');
      const first = slow();
      const range = await stopInTheMiddle(at, first);
      await end(first, 'SIGKILL');
      assert.ok(isInTheMiddleOf(at, range));
      assert.ok(!at.names().includes('huge.vol'));
      const second = worker('--until-empty');
      assert.equal((await ended(second.child)).status, 0);
      assert.ok(rangesDone(second).includes(range));
      assert.deepEqual(countsOf(ok('status')), ONE_DONE);
      check(at);
    });

    test('a worker that is stopped in the middle keeps the volume from its path until it is back, and then writes nothing', async () => {
      const { at, ok, slow, worker } = await fleetOn(start);
      ok('submit', 'jobs.jsonl');
      const late = slow();
      const range = await stopInTheMiddle(at, late);
      const other = worker('--until-empty');
      const over = ended(other.child);
      // All ranges are done, this one twice; and the job waits for the late worker.
      await until(() => has(other, 'attempt failed', { kind: 'encrypt', code: 'ERR_STATE_BUSY' }));
      assert.deepEqual(
        rangesDone(other).sort(),
        [0, 1, 2].filter((one) => one === range || !rangesDone(late).includes(one)),
      );
      assert.ok(!at.names().includes('huge.vol'));
      late.child.kill('SIGCONT');
      await until(() => (countsOf(ok('status')) as { done: number }).done === 1);
      // From now on it is its owner's.
      at.ok(['write', 'huge.vol', '--offset', `${range * RANGE_BYTES + 8 * MIB}`, '--context', 'user=alice'], {
        input: 'mine'.repeat(128),
      });
      const before = digestOf(at);
      await until(
        () => of(late, 'job begins') === of(late, 'job done') + of(late, 'attempt failed') + of(late, 'job waits for its ranges'),
      );
      await end(late, 'SIGTERM');
      assert.equal((await over).status, 0);
      assert.equal(digestOf(at), before);
      assert.deepEqual(countsOf(ok('status')), ONE_DONE);
      assert.deepEqual(at.names(), ['huge.raw', 'huge.vol', 'jobs.jsonl']);
    });

    test('a source that changes in the middle: refused by name, nothing is left; tried again, it is the new image', async () => {
      const { at, ok, slow, worker } = await fleetOn(start);
      ok('submit', 'jobs.jsonl');
      const first = slow();
      await stopInTheMiddle(at, first);
      scribble(at, 5 * MIB);
      first.child.kill('SIGCONT');
      await until(() => (countsOf(ok('status')) as { failed: number }).failed === 1);
      await end(first, 'SIGTERM');
      const { counts, failures, lastFailures } = ok('status') as Record<string, unknown> & { lastFailures: { reason: string }[] };
      assert.deepEqual([counts, failures], [ONE_FAILED, { ERR_SOURCE_CHANGED: 1 }]);
      assert.match(lastFailures[0]!.reason, /huge\.raw: is not as it was when its first range was begun/);
      assert.deepEqual(at.names(), ['huge.raw', 'jobs.jsonl']);
      assert.deepEqual(ok('retry'), { retried: 1 });
      assert.equal((await ended(worker('--until-empty').child)).status, 0);
      check(at, 2);
    });

    test('a range that fails for good fails the job by name; what was done stays done for the next attempt', async () => {
      const { at, keyId, ok, slow, worker } = await fleetOn(start);
      ok('submit', 'jobs.jsonl');
      const first = slow();
      await until(() => at.names().includes(`${PARTIAL}.range-0.json`));
      at.ok(['kms', 'disable-key', keyId]);
      await until(() => (countsOf(ok('status')) as { failed: number }).failed === 1);
      await end(first, 'SIGTERM');
      const { failures, lastFailures } = ok('status') as Record<string, unknown> & { lastFailures: { reason: string }[] };
      assert.deepEqual(failures, { ERR_KMS_KEY_STATE: 1 });
      assert.match(lastFailures[0]!.reason, /^ERR_KMS_KEY_STATE: range [23] of 3 failed/);
      assert.ok(!at.names().includes('huge.vol'));
      at.ok(['kms', 'enable-key', keyId]);
      assert.deepEqual(ok('retry'), { retried: 1 });
      const second = worker('--until-empty');
      assert.equal((await ended(second.child)).status, 0);
      assert.ok(!rangesDone(second).includes(0));
      check(at);
    });

    test('cancelled in the middle: nothing is published; tried again, it goes on', async () => {
      const { at, ok, slow, worker } = await fleetOn(start);
      ok('submit', 'jobs.jsonl');
      const first = slow();
      await until(() => at.names().includes(`${PARTIAL}.range-0.json`));
      const { stopping } = ok('cancel') as { removed: number; stopping: number };
      assert.equal(stopping, 1);
      await until(() => {
        const { waiting, active, delayed, failed } = countsOf(ok('status')) as Record<string, number>;
        return waiting === 0 && active === 0 && delayed === 0 && failed === 1;
      });
      await end(first, 'SIGTERM');
      assert.deepEqual(ok('status').failures, { ERR_ABORTED: 1 });
      assert.ok(!at.names().includes('huge.vol'));
      assert.deepEqual(ok('retry'), { retried: 1 });
      const second = worker('--until-empty');
      assert.equal((await ended(second.child)).status, 0);
      assert.ok(!rangesDone(second).includes(0));
      check(at);
    });
  });
}

testUnless(skipInjection() || skipWithout('redis-server', 'redis-cli', 'cryptsetup'))(
  'a queue that loses its jobs loses no work: the file is submitted again',
  async () => {
    const { at, port, ok, slow, worker } = await fleetOn(() => startRedis());
    ok('submit', 'jobs.jsonl');
    const first = slow();
    await until(() => at.names().includes(`${PARTIAL}.range-0.json`));
    await end(first, 'SIGKILL');
    runTool('redis-cli', ['-p', `${port}`, 'flushall']);
    assert.deepEqual(ok('submit', 'jobs.jsonl'), { added: 1, known: 0, leftOut: [] });
    const second = worker('--until-empty');
    assert.equal((await ended(second.child)).status, 0);
    assert.ok(!rangesDone(second).includes(0));
    check(at);
  },
);

const digestOf = (at: Lab): string =>
  createHash('sha256')
    .update(readFileSync(at.path('huge.vol')))
    .digest('hex');
