/** Where the command line and the library keep the embedded KMS: one rule for both, and no reader makes one. */
import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import {
  attach,
  attachWorkspace,
  createVolume,
  decryptImage,
  describeWorkspace,
  listWorkspaces,
  rewrapVolume,
  terminateWorkspace,
  VolsealError,
  verifyVolume,
} from '../../src/index.js';
import { failureOf, type Lab, lab } from './program.js';

/** Sets variables of this process until the test ends. */
function exported(variables: Record<string, string>): void {
  for (const [name, value] of Object.entries(variables)) {
    const before = process.env[name];
    process.env[name] = value;
    onTestFinished(() => {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    });
  }
}

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

describe('the library follows the same variables as the command line', () => {
  test('VOLSEAL_HOME', async () => {
    const at = lab();
    at.image('a.raw', 4096);
    at.ok(['encrypt', 'a.raw', 'a.vol']);
    exported({ VOLSEAL_HOME: at.path('home') });
    await using volume = await attach(at.path('a.vol'), { readOnly: true });
    assert.ok(Buffer.from(await volume.read(0, 4096)).equals(at.contents('a.raw')));
  });

  test('VOLSEAL_KMS; the option goes before it', async () => {
    const at = lab();
    exported({ VOLSEAL_KMS: `embedded:${at.path('one')}` });
    await createVolume(at.path('a.vol'), { sizeBytes: 4096 });
    assert.ok(existsSync(at.path('one/kms/root.key')));
    await verifyVolume(at.path('a.vol'));
    await assert.rejects(
      verifyVolume(at.path('a.vol'), { kms: `embedded:${at.path('two')}` }),
      failsWith('ERR_KMS_NOT_FOUND', /no embedded KMS in .*two/),
    );
    assert.equal(existsSync(at.path('two')), false);
  });

  test('the option home holds all that is written: store and audit log', async () => {
    const at = lab();
    exported({ VOLSEAL_HOME: at.path('elsewhere') });
    const home = at.path('home');
    await createVolume(at.path('a.vol'), { sizeBytes: 4096, home });
    await (await attach(at.path('a.vol'), { home })).detach();
    assert.ok(existsSync(join(home, 'kms/store.mdb')));
    assert.ok(existsSync(join(home, 'audit/embedded')));
    assert.equal(existsSync(at.path('elsewhere')), false);
  });
});

describe('no reader makes a store', () => {
  const made = (at: Lab): string => {
    at.image('a.raw', 4096);
    at.ok(['encrypt', 'a.raw', 'a.vol']);
    return at.path('empty');
  };

  test('of the command line', () => {
    const at = lab();
    const home = made(at);
    const readers = [
      ['decrypt', 'a.vol', 'b.raw'],
      ['verify', 'a.vol'],
      ['read', 'a.vol'],
      ['write', 'a.vol'],
      ['densify', 'a.vol'],
      ['rewrap', 'a.vol', '--key', 'alias/aws/ebs'],
      ['rewrap', 'a.vol', '--key', 'alias/aws/ebs', '--dry-run'],
      ['kms', 'list-keys'],
      ['kms', 'list-aliases'],
      ['kms', 'create-alias', 'alias/x', '00000000-0000-4000-8000-000000000000'],
      ['kms', 'list-principals'],
      ['kms', 'delete-principal', 'user/anna'],
      ['kms', 'backup', 'copy'],
      ['policy', 'check', '--as', 'user/anna', '--key', 'alias/aws/ebs'],
    ];
    for (const words of readers) {
      const { status, stderr } = at.run([...words, '--json'], { env: { VOLSEAL_HOME: home } });
      assert.equal(status, 6, `${words.join(' ')}: ${stderr}`);
      const { code, message, hint } = failureOf({ stderr } as never);
      assert.equal(code, 'ERR_KMS_NOT_FOUND', words.join(' '));
      assert.ok(message.includes(`there is no embedded KMS in ${home}`), message);
      assert.match(hint ?? '', /VOLSEAL_HOME/);
    }
    for (const words of [['workspace', 'list'], ['audit'], ['audit', 'verify']]) at.ok(words, { env: { VOLSEAL_HOME: home } });
    assert.equal(at.run(['workspace', 'info', 'ws-123456789'], { env: { VOLSEAL_HOME: home } }).status, 4);
    assert.equal(existsSync(home), false);
  });

  test('of the library', async () => {
    const at = lab();
    const home = made(at);
    const path = at.path('a.vol');
    const readers = [
      () => attach(path, { home }),
      () => verifyVolume(path, { home }),
      () => decryptImage(path, at.path('b.raw'), { home }),
      () => rewrapVolume(path, { home, key: 'alias/aws/ebs', dryRun: true }),
    ];
    for (const read of readers) await assert.rejects(read(), failsWith('ERR_KMS_NOT_FOUND', /a\.vol: Decrypt|ReEncrypt/));
    assert.deepEqual(await listWorkspaces({ home }), []);
    for (const call of [describeWorkspace, attachWorkspace, terminateWorkspace]) {
      await assert.rejects(call('ws-123456789', { home }), failsWith('ERR_WORKSPACE_NOT_FOUND', /ws-123456789.*empty/));
    }
    assert.equal(existsSync(home), false);
  });
});

describe('a new root key', () => {
  test('the command that makes it says so, where it is and how to back it up; the next one does not', () => {
    const at = lab();
    at.image('a.raw', 4096);
    const { stderr } = at.ok(['encrypt', 'a.raw', 'a.vol']);
    const key = at.path('home/kms/root.key');
    assert.ok(stderr.includes(`made a new root key, ${key}`), stderr);
    assert.match(stderr, /To back it up: volseal kms backup DIRECTORY --with-root-key/);
    assert.equal(at.ok(['encrypt', 'a.raw', 'b.vol']).stderr, '');
    const backup = at.ok(['kms', 'backup', 'copy', '--with-root-key']);
    assert.equal(backup.stderr, '');
    assert.equal(statSync(at.path('copy/root.key')).size, 32);
  });

  test('in a home that --kms names, also where the command fails afterwards', () => {
    const at = lab();
    at.image('a.raw', 4096);
    const { status, stderr } = at.run(['encrypt', 'a.raw', 'a.vol', '--kms', `embedded:${at.path('mine')}`, '--key', 'alias/none']);
    assert.equal(status, 6);
    assert.ok(stderr.includes(`made a new root key, ${at.path('mine/kms/root.key')}`), stderr);
    assert.ok(stderr.includes(`VOLSEAL_HOME='${at.path('mine')}' volseal kms backup`), stderr);
  });

  test('with --json nothing but the object is said', () => {
    const at = lab();
    const { stderr, text } = at.ok(['kms', 'create-key', '--json']);
    assert.equal(stderr, '');
    assert.match(JSON.parse(text).keyArn, /^arn:/);
  });
});

test('another home with a KMS of its own: the message says where it looked and for which key', () => {
  const at = lab();
  at.image('a.raw', 4096);
  at.ok(['encrypt', 'a.raw', 'a.vol']);
  const { keyId } = JSON.parse(at.ok(['info', 'a.vol', '--json']).text);
  const other = at.path('other');
  at.ok(['kms', 'create-key'], { env: { VOLSEAL_HOME: other } });
  const { status, stderr } = at.run(['decrypt', 'a.vol', 'b.raw', '--json'], { env: { VOLSEAL_HOME: other } });
  assert.equal(status, 6);
  const { message, hint } = failureOf({ stderr } as never);
  assert.ok(message.includes(`the embedded KMS in ${other} does not have the key ${keyId}`), message);
  assert.ok(hint?.includes(other), String(hint));
  assert.match(hint ?? '', /VOLSEAL_HOME=HOME.*sudo and cron/);
  assert.doesNotMatch(hint ?? '', /policy check/);
});
