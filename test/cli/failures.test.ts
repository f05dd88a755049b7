import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { DisableKeyCommand, EnableKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { describe, onTestFinished, test } from 'vitest';
import { freePort } from '../free-port.js';
import { skipWithoutMount, smallDisk } from '../mount.js';
import { testUnless } from '../requirements.js';
import { until } from '../until.js';
import { ended, failureOf, firstLine, type Lab, lab, parsed, type RunOptions, unprivileged } from './program.js';

/** Runs a command that must fail, with and without --json, and compares both. */
function fails(
  at: Lab,
  args: string[],
  expected: { status: number; code: string; message: RegExp; hint: RegExp },
  options: RunOptions = {},
): void {
  const before = at.names();
  const people = at.run(args, options);
  assert.equal(people.status, expected.status, people.stderr);
  assert.equal(people.text, '');
  const [first = '', ...hint] = people.stderr.trimEnd().split('\n');
  assert.match(first, /^volseal: /);
  assert.match(first, expected.message);
  assert.match(hint.join('\n'), /^hint: .*(\n {6}.*)*$/);
  assert.match(hint.join('\n'), expected.hint);
  const programs = at.run([...args, '--json'], options);
  assert.equal(programs.status, expected.status);
  assert.equal(programs.text, '');
  const failure = failureOf(programs);
  assert.equal(failure.code, expected.code);
  assert.match(failure.message, expected.message);
  assert.match(failure.hint ?? '', expected.hint);
  assert.deepEqual(at.names(), before, 'something was left behind');
}

/** A lab with a.raw and a.vol. */
function labWithVolume(...flags: string[]): Lab {
  const at = lab();
  at.image('a.raw', 8192);
  at.ok(['encrypt', 'a.raw', 'a.vol', ...flags]);
  return at;
}

describe('bad command lines: status 1', () => {
  for (const [args, message] of [
    [['ecnrypt', 'a', 'b'], /unknown command 'ecnrypt' \(Did you mean encrypt\?\)/],
    [['encrypt', 'a.raw'], /missing required argument 'volume'/],
    [['info', 'a', 'b'], /too many arguments/],
    [['info', 'a', '--colour'], /unknown option '--colour'/],
    [['create', 'a.vol'], /required option '--size <size>' not specified/],
    [['create', '-', '--size', '1M'], /volume: - is a stream only as .* a file of that name is \.\/-/],
    [['encrypt', '--in-place', '-'], /image: - is a stream only/],
    [['decrypt', '-', 'a.raw'], /volume: - is a stream only/],
    [['rewrap', 'a.vol', '-', '--key', 'a'], /volume: - is a stream only/],
    [['header', 'backup', 'a.vol', '-'], /file: - is a stream only/],
    [['recovery', 'add', 'a.vol', '--out', '-'], /--out: - is a stream only/],
    [['create', 'a.vol', '--size', '1.5G'], /option '--size <size>' argument '1\.5G' is invalid/],
    [['create', 'a.vol', '--size', '99999999999T'], /too large/],
    [['create', 'a.vol', '--size', '1M', '--sector-size', '520'], /Allowed choices are 512, 1024, 2048, 4096/],
    [['create', 'a.vol', '--size', '1M', '--context', 'user'], /Expected KEY=VALUE/],
    [['create', 'a.vol', '--size', '1M', '--context', '=x'], /Expected KEY=VALUE/],
    [['create', 'a.vol', '--size', '1M', '--context', 'a=1', '--context', 'a=2'], /"a" was given already/],
    [['create', 'a.vol', '--size', '1M', '--context', 'a=1', '--context', 'A=2'], /repeats another in other case/],
    [['create', 'a.vol', '--size', '1M', '--context', 'aws:ebs:id=vol-1'], /aws:ebs:id is set by volseal/],
    [['create', 'a.vol', '--size', '1M', '--kms', 'asw'], /"asw" names no KMS/],
    [['create', 'a.vol', '--size', '1M', '--header', 'a.vol'], /a file of its own/],
    [['read', 'a.vol', '--offset', '-1'], /option '--offset <size>' argument '-1' is invalid/],
    [['create', '', '--size', '1M'], /a target cannot be named ""/],
    [['kms', 'serve'], /required option '--listen <host:port>' not specified/],
    [['kms', 'serve', '--listen', '127.0.0.1'], /Expected HOST:PORT/],
    [['kms', 'serve', '--listen', '127.0.0.1:65536'], /Expected HOST:PORT/],
    [['kms', 'serve', '--listen', '0.0.0.0:0'], /is not loopback/],
    [['kms', 'serve', '--listen', 'example.com:80'], /neither an IP address nor localhost/],
  ] as const) {
    test(args.join(' '), () => {
      fails(lab(), [...args], { status: 1, code: 'ERR_ARGUMENT', message, hint: /volseal .*--help/ });
    });
  }
});

test('a recovery key is made for nobody where standard output is lost', () => {
  const at = lab();
  for (const output of ['> /dev/null', '>&-']) {
    const { status, stderr } = at.shell(`volseal recovery add a.vol ${output}`);
    assert.equal(status, 1, stderr);
    assert.match(stderr, /standard output is closed or \/dev\/null: name a file for the recovery key with --out/);
  }
});

describe('bad images', () => {
  test('a length of no whole sectors', () => {
    const at = lab();
    at.image('a.raw', 1000);
    fails(at, ['encrypt', 'a.raw', 'a.vol'], {
      status: 1,
      code: 'ERR_IMAGE_SIZE',
      message: /1000 bytes is not a whole number/,
      hint: /--pad/,
    });
  });

  test('an empty one, padded or not; a volume of no bytes or of half a sector', () => {
    const at = lab();
    at.image('a.raw', 0);
    const empty = { status: 1, code: 'ERR_IMAGE_SIZE', message: /a\.raw: the image is empty/, hint: /volseal create/ };
    fails(at, ['encrypt', 'a.raw', 'a.vol'], empty);
    fails(at, ['encrypt', 'a.raw', 'a.vol', '--pad'], empty);
    const size = { status: 1, code: 'ERR_IMAGE_SIZE', message: /a\.vol: a size of/, hint: /a multiple of 4096/ };
    const large = { ...size, message: /a\.vol: a size of 9007199254740480 bytes is too large/, hint: /several volumes/ };
    fails(at, ['create', 'a.vol', '--size', '9007199254740480'], large);
    for (const bytes of ['0', '2K']) fails(at, ['create', 'a.vol', '--size', bytes, '--sector-size', '4096'], size);
  });

  test('a directory, a pipe, a device', () => {
    const at = lab();
    mkdirSync(at.path('directory'));
    spawnSync('mkfifo', [at.path('fifo')]);
    const refused = { status: 1, code: 'ERR_ARGUMENT' };
    fails(at, ['encrypt', 'directory', 'a.vol'], { ...refused, message: /directory: is a directory/, hint: /Name the file itself/ });
    fails(at, ['encrypt', 'fifo', 'a.vol'], { ...refused, message: /fifo: is a pipe/, hint: /\| volseal encrypt - VOLUME --size/ });
    fails(at, ['encrypt', '/dev/null', 'a.vol'], { ...refused, message: /is a character device/, hint: /--help/ });
    at.image('a.raw', 512);
    fails(at, ['encrypt', 'a.raw', 'directory', '--force'], {
      ...refused,
      message: /directory: is a directory, and a target/,
      hint: /Name the file/,
    });
  });

  test('a target that is a link to nothing', () => {
    const at = lab();
    at.image('a.raw', 512);
    symlinkSync('nowhere.vol', at.path('a.vol'));
    const expected = {
      status: 1,
      code: 'ERR_ARGUMENT',
      message: /a\.vol: is a symbolic link to nowhere\.vol, where nothing is/,
      hint: /Name the file itself that is to be made/,
    };
    fails(at, ['encrypt', 'a.raw', 'a.vol'], expected);
    fails(at, ['encrypt', 'a.raw', 'a.vol', '--force'], expected);
  });

  test('in a current directory that was deleted', () => {
    const at = labWithVolume();
    mkdirSync(at.path('deleted'));
    const through = ['sh', '-c', 'cd deleted && rmdir ../deleted && exec "$@"', 'sh'];
    const expected = { status: 4, code: 'ERR_IO', message: /the current directory was deleted/, hint: /\(cd\)/ };
    const outcome = at.run(['verify', at.path('a.vol'), '--json'], { through });
    assert.equal(outcome.status, expected.status, outcome.stderr);
    assert.equal(failureOf(outcome).code, expected.code);
    assert.match(failureOf(outcome).message, expected.message);
    assert.match(failureOf(outcome).hint ?? '', expected.hint);
    mkdirSync(at.path('deleted'));
    assert.equal(at.run(['info', at.path('a.vol')], { through }).status, 0);
  });

  test('missing, or in a directory that is missing', () => {
    const at = lab();
    const missing = { status: 4, code: 'ERR_IO', hint: /Check the path/ };
    fails(at, ['encrypt', 'no such.raw', 'a.vol'], { ...missing, message: /no such\.raw: open failed: ENOENT/ });
    at.image('a.raw', 512);
    fails(at, ['encrypt', 'a.raw', 'nowhere/a.vol'], { ...missing, message: /there is no directory nowhere/ });
    fails(at, ['encrypt', 'a.raw', 'a.vol/'], { ...missing, message: /there is no directory a\.vol\// });
    for (const command of ['info', 'read', 'write']) fails(at, [command, 'no.vol'], { ...missing, message: /no\.vol: open failed/ });
  });

  test('no permission', () => {
    const at = lab();
    at.image('a.raw', 512);
    chmodSync(at.path('a.raw'), 0);
    const expected = { status: 4, code: 'ERR_IO', message: /a\.raw: open failed: EACCES/, hint: /ls -ld a\.raw and its directory/ };
    fails(at, ['encrypt', 'a.raw', 'a.vol'], expected, { through: unprivileged });
    chmodSync(at.path('a.raw'), 0o400);
    mkdirSync(at.path('closed'), { mode: 0o500 });
    fails(
      at,
      ['encrypt', 'a.raw', 'closed/a.vol'],
      { ...expected, message: /closed\/a\.vol: open failed: EACCES/, hint: /ls -ld closed\/a\.vol/ },
      {
        through: unprivileged,
      },
    );
  });

  testUnless(skipWithoutMount())('a disk that is full', () => {
    const at = lab();
    at.image('a.raw', 4 * 1024 * 1024);
    smallDisk(at.path('small'), 2 * 1024 * 1024);
    at.ok(['kms', 'create-key']);
    fails(at, ['encrypt', 'a.raw', 'small/a.vol'], {
      status: 4,
      code: 'ERR_IO',
      message: /small\/a\.vol: .*No space left/,
      hint: /Free some space/,
    });
    assert.deepEqual(readdirSync(at.path('small')), []);
  });
});

describe('bad volumes', () => {
  test('not a volume: status 4', () => {
    const at = lab();
    at.image('a.raw', 2 * 1024 * 1024);
    const expected = { status: 4, code: 'ERR_NOT_A_VOLUME', message: /a\.raw/, hint: /volseal encrypt a\.raw VOLUME/ };
    for (const args of [
      ['info', 'a.raw'],
      ['decrypt', 'a.raw', 'b.raw'],
      ['read', 'a.raw'],
      ['write', 'a.raw'],
    ])
      fails(at, args, expected);
  });

  test('a detached header that is not named, or missing', () => {
    const at = labWithVolume('--header', 'a.header');
    fails(at, ['info', 'a.vol'], { status: 4, code: 'ERR_NOT_A_VOLUME', message: /a\.vol/, hint: /--header FILE/ });
    fails(at, ['info', 'a.vol', '--header', 'b.header'], { status: 4, code: 'ERR_IO', message: /b\.header/, hint: /Check the path/ });
    fails(at, ['decrypt', 'a.header', 'b.raw'], { status: 1, code: 'ERR_ARGUMENT', message: /is a detached header/, hint: /--help/ });
    assert.match(at.ok(['info', 'a.header']).text, /The file has a header and no data/);
  });

  test('both header copies damaged, and a volume cut short: status 4', () => {
    const at = labWithVolume();
    const whole = at.contents('a.vol');
    for (const offset of [300, 16384 + 300]) whole[offset]! ^= 1;
    writeFileSync(at.path('damaged.vol'), whole);
    fails(at, ['info', 'damaged.vol'], { status: 4, code: 'ERR_HEADER_DAMAGED', message: /damaged\.vol/, hint: /restore the header/ });
    truncateSync(at.path('a.vol'), 1024 * 1024 + 4096);
    fails(at, ['info', 'a.vol'], {
      status: 4,
      code: 'ERR_VOLUME_SIZE',
      message: /a\.vol: holds 4096 bytes/,
      hint: /copy the volume again; otherwise restore it from a backup/,
    });
  });

  test("another volume's context: status 2, before KMS is asked", () => {
    const at = labWithVolume('--context', 'user=alice');
    const expected = {
      status: 2,
      code: 'ERR_CONTEXT_MISMATCH',
      message: /"user" is "alice", expected was "bob"/,
      hint: /volseal info a\.vol/,
    };
    for (const args of [
      ['decrypt', 'a.vol', 'b.raw'],
      ['read', 'a.vol'],
      ['write', 'a.vol'],
    ]) {
      fails(at, [...args, '--context', 'user=bob', '--kms', 'http://127.0.0.1:9'], expected);
    }
    at.ok(['decrypt', 'a.vol', 'b.raw', '--context', 'user=alice']);
  });

  test('attached by another process: status 5, and free once that has ended', async () => {
    const at = labWithVolume();
    const writer = at.start(['write', 'a.vol']);
    const end = ended(writer);
    // Asking the kernel, not by taking the lock oneself: that could be what keeps the writer out.
    const { ino } = statSync(at.path('a.vol'));
    await until(() => readFileSync('/proc/locks', 'utf8').includes(`:${ino} `));
    const expected = { status: 5, code: 'ERR_STATE_BUSY', message: /a\.vol: /, hint: /fuser -v a\.vol/ };
    for (const args of [
      ['decrypt', 'a.vol', 'b.raw'],
      ['read', 'a.vol'],
      ['write', 'a.vol'],
    ])
      fails(at, args, expected);
    const replace = { ...expected, hint: /./ };
    fails(at, ['encrypt', 'a.raw', 'a.vol', '--force'], replace);
    at.ok(['info', 'a.vol']);
    writer.stdin!.end('done');
    assert.equal((await end).status, 0);
    assert.equal(at.ok(['read', 'a.vol', '--length', '4']).text, 'done');
  });
});

describe('KMS', () => {
  test('unreachable: status 7', async () => {
    const at = lab();
    at.image('a.raw', 512);
    const port = await freePort();
    const expected = { status: 7, code: 'ERR_KMS_UNREACHABLE', message: /ECONNREFUSED/, hint: /the server runs/ };
    fails(at, ['encrypt', 'a.raw', 'a.vol', '--kms', `http://127.0.0.1:${port}`], expected);
    fails(at, ['kms', 'list-keys'], expected, { env: { VOLSEAL_KMS: `http://127.0.0.1:${port}` } });
  });

  test('no such key or alias, a name that is taken or reserved: status 6', () => {
    const at = lab();
    at.image('a.raw', 512);
    const keyId = at.ok(['kms', 'create-key']).text.trim();
    const unknown = {
      status: 6,
      code: 'ERR_KMS_NOT_FOUND',
      message: /not found|does not exist|Invalid keyId/,
      hint: /volseal kms list-keys/,
    };
    for (const key of ['alias/none', '00000000-0000-0000-0000-000000000000', 'nonsense']) {
      fails(at, ['encrypt', 'a.raw', 'a.vol', '--key', key], unknown);
    }
    at.ok(['kms', 'create-alias', 'alias/taken', keyId]);
    const taken = { status: 6, code: 'ERR_KMS_REQUEST', message: /already exists/, hint: /list-aliases/ };
    fails(at, ['kms', 'create-alias', 'alias/taken', keyId], taken);
    fails(at, ['kms', 'create-alias', 'alias/aws/mine', keyId], { ...taken, message: /reserved/, hint: /belong to AWS/ });
  });

  test("a volume whose key is in another KMS's store: refused, named", () => {
    const at = labWithVolume();
    const failure = failureOf(at.run(['read', 'a.vol', '--json'], { env: { VOLSEAL_HOME: at.path('empty home') } }));
    assert.match(failure.code, /^ERR_KMS_(DENIED|NOT_FOUND)$/);
    assert.match(failure.message, /arn:aws:kms:local:000000000000:key\//);
  });

  test('over HTTP: a volume, its recorded URL, and a disabled key: status 6', async () => {
    const at = lab();
    at.image('a.raw', 4096);
    const server = at.start(['kms', 'serve', '--listen', '127.0.0.1:0', '--json']);
    const end = ended(server);
    const { url, home } = parsed(await firstLine(server, 'stdout')) as { url: string; home: string };
    assert.equal(home, at.path('home'));
    const unknown = { status: 6, code: 'ERR_KMS_DENIED', message: /UnrecognizedClientException/, hint: /create-access-key root/ };
    fails(at, ['kms', 'create-key', '--kms', url], unknown);
    const key = parsed(at.ok(['kms', 'create-access-key', 'root', '--json']).text) as { accessKeyId: string; secretAccessKey: string };
    Object.assign(at.env, { AWS_ACCESS_KEY_ID: key.accessKeyId, AWS_SECRET_ACCESS_KEY: key.secretAccessKey });
    const keyArn = at.ok(['kms', 'create-key', '--kms', url]).text.trim();
    at.ok(['encrypt', 'a.raw', 'a.vol', '--kms', url, '--key', keyArn]);
    fails(at, ['decrypt', 'a.vol', 'b.raw'], { status: 1, code: 'ERR_ARGUMENT', message: /name that KMS yourself/, hint: /--kms http:/ });
    const client = new KMSClient({ endpoint: url, region: 'us-east-1', credentials: key });
    onTestFinished(() => client.destroy());
    await client.send(new DisableKeyCommand({ KeyId: keyArn }));
    const disabled = { status: 6, code: 'ERR_KMS_KEY_STATE', message: /is disabled/, hint: /aws kms enable-key/ };
    fails(at, ['decrypt', 'a.vol', 'b.raw', '--kms', url], disabled);
    fails(at, ['encrypt', 'a.raw', 'b.vol', '--key', keyArn], disabled);
    await client.send(new EnableKeyCommand({ KeyId: keyArn }));
    at.ok(['decrypt', 'a.vol', 'b.raw', '--kms', url]);
    assert.deepEqual(at.contents('b.raw'), at.contents('a.raw'));
    server.kill('SIGTERM');
    const { status, stderr } = await end;
    assert.equal(status, 0);
    assert.equal(stderr, '');
  });

  test('a port that is taken: status 4', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    onTestFinished(() => void holder.close());
    await new Promise((resolve) => holder.once('listening', resolve));
    const { port } = holder.address() as { port: number };
    const expected = { status: 4, code: 'ERR_IO', message: /EADDRINUSE/, hint: /port 0/ };
    const at = lab();
    at.ok(['kms', 'create-key']);
    fails(at, ['kms', 'serve', '--listen', `127.0.0.1:${port}`], expected);
  });

  test('a store that is damaged: status 4', () => {
    const at = lab();
    at.ok(['kms', 'create-key']);
    writeFileSync(at.path('home/kms/root.key'), Buffer.alloc(32, 1));
    fails(at, ['kms', 'list-keys'], { status: 4, code: 'ERR_KMS_STORE', message: /root\.key is not the root key/, hint: /\$VOLSEAL_HOME/ });
  });
});

describe('memory', () => {
  test('that may not be locked: status 8, and no key elsewhere', () => {
    const at = lab();
    const through = [...unprivileged, 'sh', '-c', 'ulimit -l 0; exec "$@"', 'sh'];
    const expected = { status: 8, code: 'ERR_MEMORY_LOCK', message: /lock/, hint: /ulimit -l/ };
    fails(at, ['create', 'a.vol', '--size', '1M'], expected, { through });
    fails(at, ['kms', 'create-key'], expected, { through });
  });
});
