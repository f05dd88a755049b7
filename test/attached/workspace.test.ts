/** Both volumes of a WorkSpace, attached and served: steps 5 to 9 at the command line. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'vitest';
import { failureOf, lab, parsed } from '../cli/program.js';
import { requireTool, runTool, skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { connected, type Listed } from './volumes.js';

interface Attached {
  rootVolume: { uri: string; pid: number; path: string };
  userVolume: { uri: string; pid: number; path: string };
}

/** A lab with a WorkSpace of a small root and user volume. */
function office({ ownKey = false } = {}) {
  const made = lab();
  const key = ownKey ? ['--key', made.ok(['kms', 'create-key']).text.trim()] : [];
  made.image('root.raw', 1024 * 1024);
  const who = ['--sid', 'S-1-5-21-1', '--directory', 'd-0123456789', '--folder', 'desks', ...key];
  const { workspaceId } = parsed(
    made.ok(['workspace', 'create', ...who, '--root-image', 'root.raw', '--user-size', '1M', '--json']).text,
  ) as {
    workspaceId: string;
  };
  const listed = (): Listed[] => parsed(made.ok(['attached', '--json']).text).attached as Listed[];
  const command = (...words: string[]): string[] => ['workspace', words[0]!, workspaceId, ...words.slice(1), '--json'];
  const attach = (...words: string[]): Attached => parsed(made.ok(command('attach', ...words)).text) as unknown as Attached;
  return { ...made, workspaceId, listed, command, attach };
}

/** Calls to KMS Decrypt in the audit log so far. */
const decrypts = ({ ok }: Pick<ReturnType<typeof office>, 'ok'>): number =>
  ok(['audit', '--event', 'Decrypt', '--json'])
    .text.split('\n')
    .filter((line) => line.includes('"Decrypt"')).length;

describeUnless(skipWithout('nbdcopy', 'nbdsh', 'aws'))('workspace attach', () => {
  test('keeps both volumes attached until detach; reboot asks KMS again; terminate says that it is attached', async () => {
    const desk = office();
    const { ok, run, attach, command, listed, path, contents, workspaceId } = desk;
    const { rootVolume, userVolume } = attach();
    assert.equal(listed().length, 2);
    assert.notEqual(rootVolume.pid, userVolume.pid);
    runTool('nbdcopy', [rootVolume.uri, path('copy.raw')]);
    assert.deepEqual(contents('copy.raw'), contents('root.raw'));

    // Step 8: what was written before a reboot is there after it, under the same URI, and KMS has unwrapped both keys
    // again.
    runTool('nbdcopy', [path('root.raw'), userVolume.uri]);
    const before = decrypts(desk);
    const again = parsed(ok(command('reboot')).text) as unknown as Attached;
    assert.equal(decrypts(desk) - before, 2);
    assert.equal(again.userVolume.uri, userVolume.uri);
    assert.notEqual(again.userVolume.pid, userVolume.pid);
    runTool('nbdcopy', [again.userVolume.uri, path('user.raw')]);
    assert.deepEqual(contents('user.raw'), contents('root.raw'));

    const refused = run(command('terminate', '--yes'));
    assert.equal(refused.status, 5);
    assert.deepEqual(failureOf(refused).details, { workspaceId });
    assert.match(failureOf(refused).hint ?? '', /workspace detach/);
    assert.equal(listed().length, 2);
    ok(command('detach'));
    assert.deepEqual(listed(), []);
    assert.equal(failureOf(run(command('detach'))).code, 'ERR_STATE_DETACHED');
    assert.equal(failureOf(run(command('reboot'))).code, 'ERR_STATE_DETACHED');
    ok(command('check'));
    ok(command('terminate', '--yes'));
    assert.equal(existsSync(rootVolume.path), false);
  });

  test('while a client is connected, neither detach nor reboot touches either volume; --force does', async () => {
    const { run, ok, attach, command, listed } = office();
    const client = await connected(attach().userVolume.uri);
    const pids = listed().map(({ pid }) => pid);
    for (const words of ['detach', 'reboot']) assert.equal(run(command(words)).status, 5);
    assert.deepEqual(
      listed().map(({ pid }) => pid),
      pids,
    );
    ok(command('reboot', '--force'));
    assert.equal(listed().length, 2);
    client.stdin!.end();
    ok(command('terminate', '--yes', '--force'));
    assert.deepEqual(listed(), []);
  });

  test('if one volume cannot be attached, the other one is not attached either', () => {
    const { run, ok, attach, command, listed } = office();
    const { userVolume } = attach();
    ok(command('detach'));
    ok(['attach', userVolume.path, '--read-only']);
    const failure = run(command('attach'));
    assert.equal(failure.status, 5);
    assert.equal(listed().length, 1);
    ok(['detach', userVolume.path]);
    ok(command('check'));
  });

  test('a key that is disabled: what is attached goes on, the next attach fails, and enabling it mends that', async () => {
    const { env, run, ok, attach, command, listed, path, start, workspaceId } = office({ ownKey: true });
    const { rootVolume } = attach();
    const { keyArn } = parsed(ok(['workspace', 'info', workspaceId, '--json']).text) as { keyArn: string };
    const { accessKeyId, secretAccessKey } = parsed(ok(['kms', 'create-access-key', 'root', '--json']).text) as Record<string, string>;
    const server = start(['kms', 'serve', '--listen', '127.0.0.1:0', '--json']);
    const { url } = await new Promise<{ url: string }>((resolve) =>
      server.stdout!.once('data', (chunk) => resolve(JSON.parse(String(chunk)))),
    );
    const aws = (...words: string[]) => {
      const args = ['kms', ...words, '--key-id', keyArn, '--endpoint-url', url, '--region', 'us-east-1'];
      const { status, stderr } = spawnSync(requireTool('aws'), args, {
        encoding: 'utf8',
        env: { ...env, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
      });
      assert.equal(status, 0, stderr);
    };
    aws('disable-key');
    runTool('nbdcopy', [rootVolume.uri, path('copy.raw')]);
    const rebooted = run(command('reboot'));
    assert.equal(rebooted.status, 6);
    assert.equal(failureOf(rebooted).code, 'ERR_KMS_KEY_STATE');
    assert.deepEqual(listed(), []);
    aws('enable-key');
    attach();
    ok(command('detach'));
  });
});
