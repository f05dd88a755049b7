/** `volseal jobs` with a queue, on each server: submit, work, status, retry, cancel, and what is refused. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { Redis } from 'ioredis';
import { test } from 'vitest';
import { ended, failureOf, type Lab, lab } from '../cli/program.js';
import { freePort } from '../free-port.js';
import { skipWithout } from '../interop/tools.js';
import { describeUnless, testUnless } from '../requirements.js';
import { until } from '../until.js';
import { type QueueServer, skipPostgres, startPostgres, startRedis } from './servers.js';

const SERVERS: [name: string, skip: string | false, start: () => Promise<QueueServer>][] = [
  ['Redis', skipWithout('redis-server', 'redis-cli'), () => startRedis()],
  ['PostgreSQL', skipPostgres(), startPostgres],
];

interface Fleet {
  at: Lab;
  server: QueueServer;
  /** Runs `volseal jobs` with the queue. */
  ok(...args: string[]): Record<string, unknown>;
}

async function fleetOn(start: () => Promise<QueueServer>): Promise<Fleet> {
  const at = lab();
  const server = await start();
  at.env.VOLSEAL_QUEUE = server.url(server.port);
  return { at, server, ok: (...args) => JSON.parse(at.ok(['jobs', ...args, '--json']).text) as Record<string, unknown> };
}

function write(at: Lab, specs: readonly unknown[]): void {
  writeFileSync(at.path('jobs.jsonl'), specs.map((spec) => (typeof spec === 'string' ? spec : JSON.stringify(spec))).join('\n'));
}

const images = (at: Lab, count: number): object[] =>
  Array.from({ length: count }, (_, index) => {
    at.image(`${index}.raw`, 256 * 1024);
    return { kind: 'encrypt', source: `${index}.raw`, target: `${index}.vol` };
  });

const countsOf = ({ counts }: Record<string, unknown>): unknown => counts;

for (const [name, skip, start] of SERVERS) {
  describeUnless(skip)(`jobs on ${name}`, () => {
    test('are done by two workers, are known when they are submitted again, and are counted', async () => {
      const { at, ok } = await fleetOn(start);
      at.ok(['kms', 'create-key']);
      write(at, images(at, 8));
      assert.deepEqual(ok('submit', 'jobs.jsonl'), { added: 8, known: 0, leftOut: [] });
      assert.deepEqual(countsOf(ok('status')), { waiting: 8, active: 0, delayed: 0, done: 0, failed: 0 });
      const workers = [1, 2].map(() => ended(at.start(['jobs', 'work', '--until-empty', '--quiet'])));
      for (const { status, stderr } of await Promise.all(workers)) assert.equal(status, 0, stderr);
      for (let index = 0; index < 8; index += 1) at.ok(['verify', `${index}.vol`, '--against', `${index}.raw`]);
      const status = ok('status');
      assert.deepEqual(countsOf(status), { waiting: 0, active: 0, delayed: 0, done: 8, failed: 0 });
      assert.ok(status.rate !== null);
      assert.deepEqual(ok('submit', 'jobs.jsonl'), { added: 0, known: 8, leftOut: [] });
      // Another run is another job, and finds a volume that is not its own.
      assert.deepEqual(ok('submit', 'jobs.jsonl', '--run', 'again'), { added: 8, known: 0, leftOut: [] });
      assert.deepEqual(ok('work', '--until-empty'), { done: 0, failed: 8 });
      assert.deepEqual(ok('status').failures, { ERR_TARGET_EXISTS: 8 });
    });

    test('that fail for good are not tried again until somebody says so', async () => {
      const { at, ok } = await fleetOn(start);
      at.ok(['kms', 'create-key']);
      write(at, [{ kind: 'encrypt', source: 'late.raw', target: 'late.vol' }]);
      ok('submit', 'jobs.jsonl');
      assert.deepEqual(ok('work', '--until-empty'), { done: 0, failed: 1 });
      const { failures, lastFailures } = ok('status') as { failures: unknown; lastFailures: { reason: string }[] };
      assert.deepEqual(failures, { ERR_IO: 1 });
      assert.match(lastFailures[0]!.reason, /late\.raw/);
      at.image('late.raw', 64 * 1024);
      assert.deepEqual(ok('retry'), { retried: 1 });
      assert.deepEqual(ok('work', '--until-empty'), { done: 1, failed: 0 });
      at.ok(['verify', 'late.vol', '--against', 'late.raw']);
    });

    test('a file with lines that are none submits nothing, or the others where that is asked for', async () => {
      const { at, ok } = await fleetOn(start);
      write(at, [...images(at, 2), '{"kind":', { kind: 'encrypt', source: 'a' }]);
      const refused = at.run(['jobs', 'submit', 'jobs.jsonl', '--json']);
      assert.equal(refused.status, 1);
      assert.match(
        failureOf(refused).message,
        /nothing was submitted: 2 of 4 lines of jobs\.jsonl are no jobs; the first, line 3: is not JSON/,
      );
      assert.deepEqual(countsOf(ok('status')), { waiting: 0, active: 0, delayed: 0, done: 0, failed: 0 });
      const { added, leftOut } = ok('submit', 'jobs.jsonl', '--partial') as { added: number; leftOut: { line: number }[] };
      assert.deepEqual([added, leftOut.map(({ line }) => line)], [2, [3, 4]]);
    });

    test('are cancelled: what waits is gone, what a worker is at ends', async () => {
      const { at, ok } = await fleetOn(start);
      at.ok(['kms', 'create-key']);
      // A KMS that never answers keeps a worker busy.
      const deaf = await import('node:net').then(({ createServer }) => createServer(() => {}).listen(0, '127.0.0.1'));
      await new Promise((resolve) => deaf.once('listening', resolve));
      const kms = `http://127.0.0.1:${(deaf.address() as { port: number }).port}`;
      write(
        at,
        images(at, 3).map((spec) => ({ ...spec, kms })),
      );
      ok('submit', 'jobs.jsonl');
      const worker = at.start(['jobs', 'work', '--quiet'], { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' });
      const end = ended(worker);
      await until(() => (countsOf(ok('status')) as { active: number }).active === 1);
      assert.deepEqual(ok('cancel'), { removed: 2, stopping: 1 });
      await until(() => (countsOf(ok('status')) as { failed: number }).failed === 1);
      assert.deepEqual(ok('status').failures, { ERR_ABORTED: 1 });
      worker.kill('SIGTERM');
      assert.equal((await end).status, 0);
      deaf.close();
      assert.ok(!at.names().some((file) => file.endsWith('.vol')));
    });

    test('a worker that is told to stop gives its job back', async () => {
      const { at, ok } = await fleetOn(start);
      at.ok(['kms', 'create-key']);
      at.image('a.raw', 1024 * 1024);
      write(at, [{ kind: 'encrypt', source: 'a.raw', target: 'a.vol' }]);
      ok('submit', 'jobs.jsonl');
      const deaf = await freePort();
      const worker = at.start(['jobs', 'work', '--quiet'], { VOLSEAL_KMS: `http://127.0.0.1:${deaf}` });
      const end = ended(worker);
      await until(() => (countsOf(ok('status')) as { delayed: number }).delayed === 1);
      worker.kill('SIGTERM');
      assert.equal((await end).status, 0);
      assert.deepEqual(ok('work', '--until-empty'), { done: 1, failed: 0 });
    });

    test('metrics of a worker', async () => {
      const { at, ok } = await fleetOn(start);
      at.ok(['kms', 'create-key']);
      write(at, [...images(at, 2), { kind: 'verify', source: 'missing.vol' }]);
      ok('submit', 'jobs.jsonl');
      const port = await freePort();
      const worker = at.start(['jobs', 'work', '--metrics', `127.0.0.1:${port}`]);
      const end = ended(worker);
      await until(() => {
        const { done, failed } = countsOf(ok('status')) as { done: number; failed: number };
        return done === 2 && failed === 1;
      });
      const text = await new Promise<string>((resolve, reject) => {
        get(`http://127.0.0.1:${port}/metrics`, (response) => {
          let body = '';
          response.on('data', (chunk) => {
            body += chunk;
          });
          response.on('end', () => resolve(body));
        }).on('error', reject);
      });
      assert.match(text, /^volseal_jobs_total\{kind="encrypt",outcome="done"\} 2$/m);
      assert.match(text, /^volseal_jobs_total\{kind="verify",outcome="fail"\} 1$/m);
      assert.match(text, /^volseal_bytes_total\{kind="encrypt"\} 524288$/m);
      worker.kill('SIGTERM');
      const { stderr } = await end;
      assert.match(stderr, /"msg":"job done"/);
      assert.doesNotMatch(text, /vol-[0-9a-f]{17}/);
    });
  });
}

testUnless(skipWithout('redis-server', 'redis-cli'))('a Redis that may evict keys is refused', async () => {
  const at = lab();
  const server = await startRedis(['--maxmemory', '64mb', '--maxmemory-policy', 'allkeys-lru']);
  const refused = at.run(['jobs', 'status', '--queue', server.url(server.port), '--json']);
  assert.equal(refused.status, 6);
  assert.equal(failureOf(refused).code, 'ERR_QUEUE_REFUSED');
  assert.match(failureOf(refused).hint ?? '', /noeviction/);
});

testUnless(skipWithout('redis-server', 'redis-cli'))('a job of another version says so, and fails', async () => {
  const { at, server, ok } = await fleetOn(() => startRedis());
  write(at, images(at, 1));
  ok('submit', 'jobs.jsonl');
  const redis = new Redis(server.port, '127.0.0.1');
  const job = await until(async () => {
    const names = await redis.keys('bull:volseal-default:*');
    return names.find((one) => /:[0-9a-f]{64}$/.test(one)) ?? false;
  });
  await redis.hset(job, 'data', JSON.stringify({ ...(JSON.parse((await redis.hget(job, 'data'))!) as object), version: 2 }));
  redis.disconnect();
  assert.deepEqual(ok('work', '--until-empty'), { done: 0, failed: 1 });
  const { lastFailures } = ok('status') as { lastFailures: { reason: string }[] };
  assert.match(lastFailures[0]!.reason, /another version of volseal/);
});

test.each([
  ['redis://127.0.0.1:9', 7, 'ERR_QUEUE_UNREACHABLE'],
  ['postgres://u:geheim@127.0.0.1:9/d', 7, 'ERR_QUEUE_UNREACHABLE'],
  ['amqp://127.0.0.1', 1, 'ERR_ARGUMENT'],
  ['nothing', 1, 'ERR_ARGUMENT'],
])('%s is no queue: %i', (url, status, code) => {
  const at = lab();
  const outcome = at.run(['jobs', 'status', '--queue', url, '--json']);
  assert.deepEqual([outcome.status, failureOf(outcome).code], [status, code]);
  assert.doesNotMatch(outcome.stderr, /geheim/);
});
