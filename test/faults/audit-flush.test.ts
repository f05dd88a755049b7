/** The last records of an audit log, whose flush at the end of a process fails: a warning says so. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { ended, firstLine, type Lab, lab } from '../cli/program.js';
import { describeUnless } from '../requirements.js';
import { faulty, skipInjection } from './injected.js';

const WARNING = /audit\.jsonl: its last records could not be flushed, and a power cut may take them: .*EIO/;

/** A volume, and a KMS that is used to open it. */
function prepared(): Lab {
  const at = lab();
  at.image('a.raw', 4096);
  at.ok(['encrypt', 'a.raw', 'a.vol']);
  return at;
}

describeUnless(skipInjection())('the flush of the audit log at the end of a process', () => {
  test('fails: the volume was read, and the warning names the log', () => {
    const at = prepared();
    const outcome = faulty(at, 'fdatasync:error=EIO', ['read', 'a.vol'], 'home/audit/embedded/audit.jsonl');
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.deepEqual(outcome.stdout, at.contents('a.raw'));
    assert.match(outcome.stderr, WARNING);
    // Nothing is lost: the next command flushes.
    at.ok(['audit', 'verify']);
    assert.doesNotMatch(at.ok(['read', 'a.vol']).stderr, WARNING);
  });

  test('succeeds: no warning, and the log is flushed before the process ends', () => {
    const at = prepared();
    const outcome = faulty(at, 'fdatasync:delay_enter=1', ['read', 'a.vol'], 'home/audit/embedded/audit.jsonl');
    assert.equal(outcome.stderr, '');
    assert.match(at.contents('trace').toString(), /fdatasync\(/);
  });

  for (const fails of [true, false]) {
    test(`of calls to another KMS: ${fails ? 'fails, with a warning' : 'is made'}`, async () => {
      const at = lab();
      at.image('a.raw', 4096);
      const server = at.start(['kms', 'serve', '--listen', '127.0.0.1:0', '--json']);
      const { url } = JSON.parse(await firstLine(server, 'stdout')) as { url: string };
      const key = JSON.parse(at.ok(['kms', 'create-access-key', 'root', '--json']).text) as Record<string, string>;
      Object.assign(at.env, { AWS_ACCESS_KEY_ID: key.accessKeyId, AWS_SECRET_ACCESS_KEY: key.secretAccessKey });
      at.ok(['encrypt', 'a.raw', 'a.vol', '--kms', url]);
      const injection = fails ? 'fdatasync:error=EIO' : 'fdatasync:delay_enter=1';
      const outcome = faulty(at, injection, ['read', 'a.vol', '--kms', url], 'home/audit/calls/audit.jsonl');
      assert.equal(outcome.status, 0, outcome.stderr);
      assert.deepEqual(outcome.stdout, at.contents('a.raw'));
      assert.match(at.contents('trace').toString(), /fdatasync\(/);
      if (fails) assert.match(outcome.stderr, WARNING);
      else assert.equal(outcome.stderr, '');
      server.kill('SIGTERM');
      assert.equal((await ended(server)).status, 0);
    });
  }
});
