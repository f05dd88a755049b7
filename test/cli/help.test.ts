import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { ended, firstLine, type Lab, lab } from './program.js';

const COMMANDS = [
  'encrypt',
  'decrypt',
  'create',
  'info',
  'list',
  'verify',
  'densify',
  'rewrap',
  'reencrypt',
  'adopt',
  'header',
  'recovery',
  'volume-key',
  'read',
  'write',
  'attach',
  'attached',
  'detach',
  'serve',
  'jobs',
  'kernels',
  'bench',
  'workspace',
  'policy',
  'audit',
];
const KMS_COMMANDS = [
  'serve',
  'create-key',
  'list-keys',
  'enable-key',
  'disable-key',
  'create-alias',
  'update-alias',
  'delete-alias',
  'list-aliases',
  'init',
  'backup',
  'create-principal',
  'list-principals',
  'delete-principal',
  'create-access-key',
  'delete-access-key',
];

const WORKSPACE = [
  'workspace',
  'create',
  '--sid',
  'S-1-5-21-1',
  '--directory',
  'd-0123456789',
  '--folder',
  'desks',
  '--root-size',
  '1M',
  '--user-size',
  '1M',
];

/** The commands that a help text lists. */
const listed = (help: string): string[] =>
  [...help.matchAll(/^ {2}([a-z-]+)(?: \[options\]| \[command\]| <| {2,})/gm)].map((match) => match[1]!);

/** The lines under "Example:", which ends every help. */
function examplesIn(help: string): string[] {
  const [, examples] = /\nExample:\n((?: {2}\S.*\n)+)$/.exec(help) ?? [];
  assert.ok(examples, `help does not end with an example:\n${help}`);
  return examples
    .trimEnd()
    .split('\n')
    .map((line) => line.trim());
}

/** The files that examples name. */
function withFiles(lab: Lab): Lab {
  lab.image('disk.raw', 4 * 1024 * 1024);
  lab.image('block.bin', 4096);
  assert.equal(spawnSync('zstd', ['--quiet', lab.path('disk.raw')]).status, 0);
  return lab;
}

describeUnless(skipWithout('zstd', 'nbdinfo', 'cryptsetup'))('help', () => {
  test('lists exactly the commands there are', () => {
    const { ok } = lab();
    assert.deepEqual(listed(ok(['--help']).text), [...COMMANDS, 'kms', 'completion', 'help']);
    assert.deepEqual(listed(ok(['kms', '--help']).text), [...KMS_COMMANDS, 'help']);
  });

  test('the examples of the program itself work in their order', () => {
    const { ok, shell, contents } = withFiles(lab());
    for (const example of examplesIn(ok(['--help']).text)) {
      const outcome = shell(example);
      assert.equal(outcome.status, 0, `${example}\n${outcome.stderr}`);
    }
    assert.deepEqual(contents('copy.raw'), contents('disk.raw'));
  });

  for (const command of [
    ...COMMANDS.filter((name) => name !== 'serve').map((name) => [name]),
    ['kms'],
    ...KMS_COMMANDS.filter((name) => name !== 'serve' && name !== 'init').map((name) => ['kms', name]),
    ['recovery', 'add'],
    ['recovery', 'list'],
    ['recovery', 'test'],
    ['recovery', 'remove'],
    ...['create', 'list', 'info', 'check', 'attach', 'detach', 'reboot', 'rebuild', 'terminate'].map((name) => ['workspace', name]),
    ['header', 'backup'],
    ['header', 'restore'],
    ['header', 'show'],
    ['policy', 'administrator'],
    ['policy', 'check'],
    ['audit', 'verify'],
  ]) {
    test(`the example of ${command.join(' ')} works`, () => {
      const { ok, shell, path } = withFiles(lab());
      if (!['encrypt', 'kernels', 'bench', 'kms'].includes(command[0]!)) ok(['encrypt', 'disk.raw', 'disk.vol']);
      ok(['kms', 'create-principal', 'user/anna']);
      const { accessKeyId } = JSON.parse(ok(['kms', 'create-access-key', 'user/anna', '--json']).text);
      const made = command[0] === 'workspace' && command[1] !== 'create' ? ok([...WORKSPACE, '--json']).text : '{}';
      const { workspaceId = '' } = JSON.parse(made);
      if (command[0] === 'detach') ok(['attach', 'disk.vol']);
      if (command[0] === 'jobs') writeFileSync(path('jobs.jsonl'), '{"kind": "verify", "source": "disk.vol"}\n');
      if (command[0] === 'workspace' && ['detach', 'reboot'].includes(command[1]!)) ok(['workspace', 'attach', workspaceId]);
      const examples = examplesIn(ok([...command, '--help']).text);
      for (const example of examples) {
        // Some begin with what the command needs, or end with what follows it.
        const beginOtherwise = ['adopt', 'header', 'recovery', 'volume-key', 'update-alias', 'delete-alias'];
        if (!command.some((word) => beginOtherwise.includes(word)))
          assert.match(example, new RegExp(`^(?:zstdcat disk.raw.zst \\| )?volseal ${command.join(' ')}\\b`));
        // The image of this test is smaller than the reader's.
        const outcome = shell(
          example.replace('--size 10G', '--size 4M').replace('$AWS_ACCESS_KEY_ID', accessKeyId).replace('ws-abcdefghi', workspaceId),
        );
        assert.equal(outcome.status, 0, `${example}\n${outcome.stderr}`);
      }
    });
  }

  test('the examples of kms init work, each in a home of its own', () => {
    const { path, env, run, text: help } = { ...lab(), text: lab().ok(['kms', 'init', '--help']).text };
    writeFileSync(path('key.base64'), `${Buffer.alloc(32, 1).toString('base64')}\n`);
    writeFileSync(path('.volseal-passphrase'), 'a long one\n');
    for (const [index, example] of examplesIn(help).entries()) {
      const words = example.replace('/run/keys/volseal.base64', path('key.base64')).replace('~', env.HOME!);
      const args = words.includes('--command')
        ? ['kms', 'init', '--command', '--', 'cat', path('key.base64')]
        : ['kms', 'init', '--passphrase-file', path('.volseal-passphrase')];
      assert.ok(words.startsWith('volseal kms init '));
      const outcome = run(args, { env: { VOLSEAL_HOME: path(`home ${index}`) } });
      assert.equal(outcome.status, 0, outcome.stderr);
    }
  });

  test('the example of kms serve works, on a port that is free', async () => {
    const { ok, start } = lab();
    const [, example = '', client = ''] = examplesIn(ok(['kms', 'serve', '--help']).text);
    const address = '127.0.0.1:4599';
    assert.ok(example.endsWith(` --listen ${address}`) && client.startsWith('aws kms ') && client.includes(`http://${address} `));
    const server = start(example.replace(address, '127.0.0.1:0').split(' ').slice(1));
    const end = ended(server);
    assert.match(await firstLine(server, 'stdout'), /at http:\/\/127\.0\.0\.1:[1-9][0-9]*; Ctrl-C ends it/);
    server.kill('SIGINT');
    assert.equal((await end).status, 0);
  });

  test('the examples of serve work', async () => {
    const { ok, start } = withFiles(lab());
    ok(['encrypt', 'disk.raw', 'disk.vol']);
    for (const example of examplesIn(ok(['serve', '--help']).text)) {
      const server = start(example.replace(':10809', ':0').split(' ').slice(1));
      const end = ended(server);
      assert.match(await firstLine(server, 'stdout'), /^nbd(\+unix:\/\/\/\?socket=\S*disk\.sock|:\/\/127\.0\.0\.1:[1-9][0-9]*\/?)$/);
      server.kill('SIGINT');
      assert.equal((await end).status, 0);
    }
  });

  test('without a command there is help and status 1', () => {
    const { run } = lab();
    for (const args of [[], ['kms']]) {
      const outcome = run(args);
      assert.equal(outcome.status, 1);
      assert.equal(outcome.text, '');
      assert.match(outcome.stderr, /^Usage: volseal /);
    }
    assert.match(run(['--version']).text, /^[0-9]+\.[0-9]+\.[0-9]+\n$/);
    for (const words of [
      ['--version', '--json'],
      ['--json', '--version'],
    ]) {
      const { version, node, arch, addon, kernel } = JSON.parse(run(words).text);
      assert.match(version, /^[0-9]+\.[0-9]+\.[0-9]+$/);
      assert.deepEqual([node, arch], [process.version, process.arch]);
      assert.match(addon, /^(prebuilt|compiled here)$/);
      assert.match(kernel, /^(vaes512|vaes256|aesni|armv8|portable)$/);
    }
  });
});
