/** Jobs as lines of text: what is one, what is none and why, and which job it is. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ErrorCode, VolsealError } from '../../src/errors.js';
import { jobIdOf, volumeIdOfJob } from '../../src/fleet/identity.js';
import { type JobSpec, parseJobLines } from '../../src/fleet/spec.js';
import { verdictOf } from '../../src/fleet/verdict.js';
import { SEED } from '../seed.js';

const ENCRYPT: JobSpec = { kind: 'encrypt', source: 'a.raw', target: 'a.vol' };

/** What is wrong with the only line of a text. */
function problemOf(line: string): string {
  const { jobs, bad } = parseJobLines(line);
  expect(jobs).toEqual([]);
  expect(bad).toHaveLength(1);
  return bad[0]!.problem;
}

describe('jobs, one a line', () => {
  test('every kind, with line numbers of an editor', () => {
    const specs: JobSpec[] = [
      {
        ...ENCRYPT,
        key: 'alias/a',
        kms: 'aws:eu-west-1',
        context: { user: 'alice' },
        choices: { sectorBytes: 4096, allocation: 'sparse' },
      },
      { kind: 'decrypt', source: 's3://bucket/a.vol', target: 'b.raw', choices: { sparse: true, expectedKey: 'k' } },
      { kind: 'verify', source: 'a.vol', choices: { against: 'a.raw' } },
      { kind: 'rewrap', source: 'a.vol', key: 'alias/b' },
      { kind: 'reencrypt', source: 'a.vol', target: 'c.vol', choices: { newHeader: 'c.header' } },
    ];
    const text = `${specs.map((spec) => JSON.stringify(spec)).join('\n\n')}\r\n`;
    expect(parseJobLines(text)).toEqual({ jobs: specs.map((spec, index) => ({ line: 2 * index + 1, spec })), bad: [] });
  });

  test.each([
    ['{', 'is not JSON'],
    ['[]', /expected object/],
    ['{"kind":"shred","source":"a"}', /kind/],
    ['{"kind":"encrypt","source":"a.raw"}', /^target: /],
    ['{"kind":"encrypt","source":"-","target":"a"}', 'source: is a stream, which can be read or written only once'],
    ['{"kind":"encrypt","source":"a","target":""}', 'target: is empty'],
    ['{"kind":"encrypt","source":"a","target":"b\\u0000"}', 'target: has a NUL'],
    ['{"kind":"decrypt","source":"a","target":"ebs:new"}', /^target: is a new snapshot/],
    ['{"kind":"encrypt","source":"a","target":"b","colour":1}', /colour/],
    ['{"kind":"encrypt","source":"a","target":"b","choices":{"fsync":false}}', /fsync/],
    [
      '{"kind":"encrypt","source":"a","target":"b","choices":{"sectorBytes":513}}',
      'choices.sectorBytes: is not one of 512, 1024, 2048, 4096',
    ],
    ['{"kind":"encrypt","source":"a","target":"b","rangeSize":"255MiB"}', 'rangeSize: "255MiB" is not from 256MiB to 4GiB'],
    ['{"kind":"encrypt","source":"a","target":"b","rangeSize":"5G"}', 'rangeSize: "5G" is not from 256MiB to 4GiB'],
    ['{"kind":"encrypt","source":"a","target":"b","rangeSize":"268435457"}', 'rangeSize: "268435457" is not a whole number of MiB'],
    ['{"kind":"encrypt","source":"a","target":"b","rangeSize":"1GB"}', /^rangeSize: "1GB" is not a number of bytes/],
    ['{"kind":"encrypt","source":"a","target":"b","rangeSize":1073741824}', /^rangeSize: .*expected string/],
    ['{"kind":"decrypt","source":"a","target":"b","rangeSize":"1GiB"}', /rangeSize/],
    [
      '{"kind":"encrypt","source":"a","target":"b","rangeSize":"1GiB","choices":{"header":"c"}}',
      'rangeSize: a volume that is made in ranges has its header in front: leave out choices.header',
    ],
    ['{"kind":"encrypt","source":"a","target":"b","target":"c"}', 'has two members named "target" in one object'],
    ['{"kind":"encrypt","source":"a","target":"b","context":{"__proto__":"c"}}', 'has a member named __proto__'],
    ['{"kind":"encrypt","source":"a","target":"b","context":{"user":1}}', /^context\.user: /],
    ['{"kind":"rewrap","source":"a"}', /^key: /],
    [`{"kind":"verify","source":"${'a'.repeat(70_000)}"}`, 'has more than 65536 characters'],
  ])('%j is none', (line, problem) => {
    if (typeof problem === 'string') expect(problemOf(line)).toBe(problem);
    else expect(problemOf(line)).toMatch(problem);
  });

  test.each(['256MiB', '4GiB', '1g', '1536 MiB'])('a range of %s', (rangeSize) => {
    expect(parseJobLines(JSON.stringify({ ...ENCRYPT, rangeSize })).bad).toEqual([]);
  });

  test('a target that an earlier line has', () => {
    const { jobs, bad } = parseJobLines([ENCRYPT, { ...ENCRYPT, source: 'b.raw' }].map((spec) => JSON.stringify(spec)).join('\n'));
    expect(jobs).toHaveLength(1);
    expect(bad).toEqual([{ line: 2, problem: 'its target a.vol is that of line 1' }]);
  });

  test('any text gives jobs and bad lines, and never an exception', () => {
    const line = fc.oneof(fc.json(), fc.string(), fc.constant(JSON.stringify(ENCRYPT)));
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const text = lines.join('\n');
        const { jobs, bad } = parseJobLines(text);
        expect(jobs.length + bad.length).toBe(text.split('\n').filter((one) => one.trim() !== '').length);
      }),
      { seed: SEED },
    );
  });
});

describe('which job it is', () => {
  test('spec, run and state of the source make another job; the order of members does not', () => {
    const { kind, source, target } = ENCRYPT;
    const id = jobIdOf(ENCRYPT, 'default', 'file 1 2 3');
    expect(jobIdOf({ target, source, kind } as JobSpec, 'default', 'file 1 2 3')).toBe(id);
    // The same volume, by one worker or by many.
    expect(jobIdOf({ ...ENCRYPT, rangeSize: '1GiB' } as JobSpec, 'default', 'file 1 2 3')).toBe(id);
    const others = [
      jobIdOf({ ...ENCRYPT, choices: {} }, 'default', 'file 1 2 3'),
      jobIdOf(ENCRYPT, 'again', 'file 1 2 3'),
      jobIdOf(ENCRYPT, 'default', 'file 1 2 4'),
    ];
    expect(new Set([id, ...others]).size).toBe(4);
    expect(volumeIdOfJob(id)).toMatch(/^vol-[0-9a-f]{17}$/);
  });
});

describe('whether another attempt is worth it', () => {
  const verdict = (code: ErrorCode, errno?: string) =>
    verdictOf(new VolsealError(code, '', { details: errno === undefined ? {} : { errno } }));
  test.each([
    ['retry', 'ERR_KMS_UNREACHABLE'],
    ['retry', 'ERR_STORE_UNREACHABLE'],
    ['retry', 'ERR_STATE_BUSY'],
    ['retry', 'ERR_IO', 'ENOSPC'],
    ['retry', 'ERR_IO', 'EIO'],
    ['retry', 'ERR_IO', 'ESTALE'],
    ['fail', 'ERR_IO', 'ENOENT'],
    ['fail', 'ERR_IO', 'EACCES'],
    ['fail', 'ERR_KMS_DENIED'],
    ['fail', 'ERR_STORE_DENIED'],
    ['fail', 'ERR_ARGUMENT'],
    ['fail', 'ERR_SELF_TEST'],
    ['fail', 'ERR_SOURCE_CHANGED'],
    ['interrupted', 'ERR_ABORTED'],
  ])('%s: %s %s', (expected, code, errno = '') => {
    expect(verdict(code as ErrorCode, errno)).toBe(expected);
  });
});
