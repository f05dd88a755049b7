import assert from 'node:assert/strict';
import { appendFileSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { ended, firstLine, lab } from './program.js';

describe('volseal audit', () => {
  test('lists, answers questions, and proves the log', () => {
    const { ok, image } = lab();
    image('a.raw', 4096);
    const { volumeId } = JSON.parse(ok(['encrypt', 'a.raw', 'a.vol', '--json']).text);
    ok(['encrypt', 'a.raw', 'b.vol']);
    const lines = ok(['audit', '--volume', volumeId]).text.trim().split('\n');
    assert.equal(lines.length, 2);
    for (const line of lines) assert.ok(line.includes(volumeId) && line.includes('arn:aws:iam::000000000000:root'), line);
    const records = ok(['audit', '--event', 'Decrypt', '--json'])
      .text.trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      records.map(({ eventName }) => eventName),
      ['Decrypt', 'Decrypt'],
    );
    assert.equal(ok(['audit', '--since', '2999-01-01']).text, '');
    assert.match(ok(['audit', 'verify']).text, /4 records in order, authenticated by the root key/);
  });

  test('a home without a log has no records, and asking makes no log', () => {
    const { ok, names } = lab();
    assert.equal(ok(['audit']).text, '');
    assert.match(ok(['audit', 'verify']).text, /0 records/);
    assert.deepEqual(names(), []);
  });

  test('a change is a failure that names the line: status 4', () => {
    const { ok, run, path } = lab();
    ok(['kms', 'create-key']);
    appendFileSync(path('home/audit/embedded/audit.jsonl'), '{}\n');
    const { status, stderr } = run(['audit', 'verify']);
    assert.equal(status, 4);
    assert.match(stderr, /audit\.jsonl: line 2 is not a record/);
    assert.equal(run(['kms', 'create-key']).status, 4);
  });

  test('what is missing is a failure: an older log, no log, no directory; a new log is begun on request', () => {
    const { ok, run, path } = lab();
    ok(['create', 'a.vol', '--size', '64K']);
    const older = path('older');
    cpSync(path('home/audit'), older, { recursive: true });
    ok(['read', 'a.vol', '--length', '512']);
    assert.match(ok(['audit', 'verify']).text, /3 records in order/);
    const log = path('home/audit/embedded/audit.jsonl');
    const whole = readFileSync(log);
    const fails = (what: RegExp): void => {
      const { status, stderr } = run(['audit', 'verify']);
      assert.equal(status, 4, stderr);
      assert.match(stderr, what);
      assert.equal(run(['read', 'a.vol', '--length', '512']).status, 4);
    };
    rmSync(path('home/audit'), { recursive: true });
    cpSync(older, path('home/audit'), { recursive: true });
    fails(/line 3 is missing: 3 were written/);
    rmSync(log);
    fails(/line 1 is missing: 3 were written/);
    rmSync(path('home/audit'), { recursive: true });
    fails(/line 1 is missing: 3 were written/);
    assert.match(ok(['audit', 'restart']).text, /a new log/);
    ok(['read', 'a.vol', '--length', '512']);
    assert.match(ok(['audit', 'verify']).text, /1 records in order, authenticated by the root key; begun anew after record 3/);
    assert.match(ok(['audit', 'restart']).text, /nothing to do/);
    writeFileSync(log, whole);
    assert.equal(run(['audit', 'verify']).status, 4);
  });

  test('--follow runs until Ctrl-C: status 130', async () => {
    const { ok, start } = lab();
    ok(['kms', 'create-key']);
    const following = start(['audit', '--follow', '--json']);
    const end = ended(following);
    assert.equal(JSON.parse(await firstLine(following, 'stdout')).eventName, 'CreateKey');
    following.kill('SIGINT');
    const { status, stderr } = await end;
    assert.equal(status, 130, stderr);
    assert.doesNotMatch(stderr, /bug/);
  });

  test('an invalid time: status 1', () => {
    const { status, stderr } = lab().run(['audit', '--since', 'yesterday']);
    assert.equal(status, 1);
    assert.match(stderr, /2026-11-24/);
  });
});
