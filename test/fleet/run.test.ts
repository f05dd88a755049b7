/** `volseal jobs run`: each kind, done twice, and its exit statuses. */
import assert from 'node:assert/strict';
import { appendFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { failureOf, type Lab, lab } from '../cli/program.js';

const KINDS = [
  { kind: 'encrypt', source: 'a.raw', target: 'a.vol', context: { user: 'alice' } },
  { kind: 'decrypt', source: 'a.vol', target: 'b.raw', context: { user: 'alice' } },
  { kind: 'verify', source: 'a.vol', choices: { against: 'a.raw' } },
  { kind: 'rewrap', source: 'a.vol', key: 'alias/aws/ebs' },
  { kind: 'reencrypt', source: 'a.vol', target: 'c.vol' },
  { kind: 'encrypt', source: 'a.raw', target: 'd.vol', choices: { header: 'd.header', sectorBytes: 4096, allocation: 'sparse' } },
];

function jobsIn(at: Lab, specs: readonly unknown[]): void {
  writeFileSync(at.path('jobs.jsonl'), specs.map((spec) => `${JSON.stringify(spec)}\n`).join(''));
}

/** Runs the job at `index` to its outcome. */
const outcomeOf = (at: Lab, index: number, more: string[] = []): Record<string, unknown> =>
  JSON.parse(at.ok(['jobs', 'run', 'jobs.jsonl', '--index', String(index), '--json', ...more]).text) as Record<string, unknown>;

describe('jobs run', () => {
  test('every kind; done once more, each sees that it was done', () => {
    const at = lab();
    const image = at.image('a.raw', 3 * 1024 * 1024);
    jobsIn(at, KINDS);
    for (const [index, { kind }] of KINDS.entries()) {
      const outcome = outcomeOf(at, index);
      assert.deepEqual([outcome.kind, outcome.outcome, outcome.line, outcome.imageBytes], [kind, 'done', index + 1, image.length]);
    }
    assert.ok(at.contents('b.raw').equals(image));
    const made = at.names();
    assert.deepEqual(made, ['a.raw', 'a.vol', 'b.raw', 'c.vol', 'd.header', 'd.vol', 'jobs.jsonl']);
    const before = made.map((name) => statSync(at.path(name)).ino);
    for (const [index, { kind }] of KINDS.entries()) {
      const writes = ['encrypt', 'decrypt', 'reencrypt'].includes(kind);
      assert.equal(outcomeOf(at, index).outcome, writes ? 'already' : 'done');
    }
    assert.deepEqual(
      at.names().map((name) => statSync(at.path(name)).ino),
      before,
    );
    at.ok(['verify', 'd.vol', '--header', 'd.header', '--against', 'a.raw']);
    at.ok(['verify', 'c.vol', '--against', 'a.raw', '--context', 'user=alice']);
  });

  test('the volume has the id of its job; another run, or a changed source, is another job', () => {
    const at = lab();
    at.image('a.raw', 1024 * 1024);
    jobsIn(at, KINDS);
    const { jobId, volumeId } = outcomeOf(at, 0);
    assert.equal(volumeId, `vol-${String(jobId).slice(0, 17)}`);
    const other = at.run(['jobs', 'run', 'jobs.jsonl', '--index', '0', '--run', 'again', '--json']);
    assert.equal(other.status, 4);
    assert.equal(failureOf(other).code, 'ERR_TARGET_EXISTS');
    appendFileSync(at.path('a.raw'), Buffer.alloc(512));
    assert.equal(failureOf(at.run(['jobs', 'run', 'jobs.jsonl', '--index', '0', '--json'])).code, 'ERR_TARGET_EXISTS');
    assert.deepEqual(at.names(), ['a.raw', 'a.vol', 'jobs.jsonl']);
  });

  test('a line with ranges is done as a whole, and is the same job without them', () => {
    const at = lab();
    at.image('a.raw', 1024 * 1024);
    jobsIn(at, [
      { ...KINDS[0], rangeSize: '1GiB' },
      { ...KINDS[5], rangeSize: '1GiB' },
    ]);
    const { jobId, outcome } = outcomeOf(at, 0);
    assert.equal(outcome, 'done');
    const refused = at.run(['jobs', 'run', 'jobs.jsonl', '--index', '1', '--json']);
    assert.equal(refused.status, 1);
    assert.match(failureOf(refused).message, /line 2 of jobs\.jsonl is no job: rangeSize: .* has its header in front/);
    jobsIn(at, [KINDS[0]]);
    const again = outcomeOf(at, 0);
    assert.deepEqual([again.jobId, again.outcome], [jobId, 'already']);
  });

  test('an image that is not the one of its volume is not taken for done', () => {
    const at = lab();
    at.image('a.raw', 1024 * 1024);
    jobsIn(at, KINDS);
    outcomeOf(at, 0);
    const foreign = at.image('b.raw', 1024 * 1024);
    const outcome = at.run(['jobs', 'run', 'jobs.jsonl', '--index', '1', '--json']);
    assert.deepEqual([outcome.status, failureOf(outcome).code], [4, 'ERR_TARGET_EXISTS']);
    assert.ok(at.contents('b.raw').equals(foreign));
  });

  test.each(['JOB_COMPLETION_INDEX', 'AWS_BATCH_JOB_ARRAY_INDEX', 'SLURM_ARRAY_TASK_ID'])('takes its number from $%s', (variable) => {
    const at = lab();
    at.image('a.raw', 64 * 1024);
    jobsIn(at, KINDS);
    const { text } = at.ok(['job', 'run', 'jobs.jsonl', '--json'], { env: { [variable]: '0' } });
    assert.equal((JSON.parse(text) as { line: number }).line, 1);
  });

  test('what is no job, and how its engine is told', () => {
    const at = lab();
    at.image('a.raw', 1024 * 1024);
    writeFileSync(at.path('jobs.jsonl'), `{"kind":"encrypt"\n\n${JSON.stringify(KINDS[1])}\n${JSON.stringify(KINDS[0])}\n`);
    const refused = (index: string, status: number, message: RegExp, env = {}): void => {
      const outcome = at.run(['jobs', 'run', 'jobs.jsonl', '--index', index, '--json'], { env });
      assert.equal(outcome.status, status, outcome.stderr);
      assert.match(failureOf(outcome).message, message);
    };
    refused('0', 1, /line 1 of jobs\.jsonl is no job: is not JSON/);
    refused('1', 4, /line 3 of jobs\.jsonl: .*a\.vol/);
    refused('3', 1, /has 3 jobs, from 0; there is no job 3/);
    refused('-1', 1, /expected a number from 0/);
    assert.equal(at.run(['jobs', 'run', 'jobs.jsonl']).status, 1);
    assert.equal(at.run(['jobs', 'run', 'missing.jsonl', '--index', '0']).status, 4);
    // KMS is not there: worth another attempt.
    refused('2', 7, /line 4/, { VOLSEAL_KMS: 'http://127.0.0.1:9' });
    assert.deepEqual(at.names(), ['a.raw', 'jobs.jsonl']);
  });
});
