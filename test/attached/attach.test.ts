/** `attach`, `attached` and `detach`, as a user meets them: real processes, real NBD clients. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'vitest';
import { ended, failureOf, firstLine, parsed } from '../cli/program.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { skipWithoutMount, smallDisk } from '../mount.js';
import { describeUnless, testUnless } from '../requirements.js';
import { until } from '../until.js';
import { connected, labWithVolume } from './volumes.js';

/** Whether a process lives; a zombie, which nobody has waited for, does not. */
function lives(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describeUnless(skipWithout('nbdinfo', 'nbdcopy', 'nbdsh'))('attach', () => {
  test('prints a URI that every client can use, and the volume is attached until detach', () => {
    const { ok, run, listed, contents, path } = labWithVolume();
    const uri = ok(['attach', 'disk.vol']).text.trim();
    runTool('nbdcopy', [uri, path('copy.raw')]);
    assert.deepEqual(contents('copy.raw'), contents('disk.raw'));
    const [attached, ...others] = listed();
    assert.deepEqual(others, []);
    assert.equal(attached!.uri, uri);
    assert.equal(attached!.path, path('disk.vol'));
    assert.ok(attached!.status!.readBytes >= contents('disk.raw').length);
    // While it is attached, nobody else writes to it.
    assert.equal(failureOf(run(['write', 'disk.vol', '--json'], { input: 'x' })).code, 'ERR_STATE_BUSY');
    ok(['detach', 'disk.vol']);
    assert.deepEqual(listed(), []);
    assert.equal(lives(attached!.pid), false);
    assert.equal(existsSync(attached!.socket), false);
    ok(['write', 'disk.vol'], { input: 'x' });
  });

  test('what clients write is in the volume after detach', () => {
    const { ok, image, path, contents } = labWithVolume();
    const uri = ok(['attach', 'disk.vol']).text.trim();
    image('new.raw', 1024 * 1024);
    runTool('nbdcopy', [path('new.raw'), uri]);
    ok(['detach', uri]);
    ok(['decrypt', 'disk.vol', 'decrypted.raw']);
    assert.deepEqual(contents('decrypted.raw'), contents('new.raw'));
  });

  test('detach takes a path, an id, a URI and a link', () => {
    const { ok, shell } = labWithVolume();
    for (const way of ['path', 'id', 'uri', 'link']) {
      const { volumeId, uri } = parsed(ok(['attach', 'disk.vol', '--json']).text) as { volumeId: string; uri: string };
      shell('ln -sf disk.vol link');
      ok(['detach', { path: 'disk.vol', id: volumeId, uri, link: 'link' }[way]!]);
    }
  });

  test('detach is refused while clients are connected, and they notice nothing; forced, they are cut off', async () => {
    const { ok, run, listed } = labWithVolume();
    const uri = ok(['attach', 'disk.vol']).text.trim();
    const client = await connected(uri);
    const refused = run(['detach', 'disk.vol', '--json']);
    assert.equal(refused.status, 5);
    const { code, details, hint } = failureOf(refused);
    assert.deepEqual([code, details.clients], ['ERR_STATE_BUSY', 1]);
    assert.match(hint ?? '', /--force/);
    assert.equal(listed()[0]!.status!.clients, 1);
    assert.equal(client.exitCode, null);
    ok(['detach', 'disk.vol', '--force']);
    assert.deepEqual(listed(), []);
  });

  test('a client that has left is no reason to refuse', async () => {
    const { ok, listed } = labWithVolume();
    const client = await connected(ok(['attach', 'disk.vol']).text.trim());
    client.stdin!.end();
    await until(() => listed()[0]!.status!.clients === 0);
    ok(['detach', 'disk.vol']);
  });

  test('a failure before it is ready is that of attach, with the status it has anywhere else', () => {
    const { ok, run, listed } = labWithVolume();
    const cases: [string[], string, number][] = [
      [['attach', 'no such.vol'], 'ERR_IO', 4],
      [['attach', 'disk.raw'], 'ERR_NOT_A_VOLUME', 4],
      [['attach', 'disk.vol', '--context', 'user=eve'], 'ERR_CONTEXT_MISMATCH', 2],
      [
        ['attach', 'disk.vol', '--expect-key', 'arn:aws:kms:local:000000000000:key/11111111-1111-1111-1111-111111111111'],
        'ERR_KMS_KEY_MISMATCH',
        2,
      ],
      [['attach', 'disk.vol', '--kms', 'http://127.0.0.1:1'], 'ERR_KMS_UNREACHABLE', 7],
      [['attach', 'disk.vol', '--kms', 'embedded:/no/such/home'], 'ERR_KMS_NOT_FOUND', 6],
      [['attach', 'disk.vol', '--mount', 'disk.raw'], 'ERR_IO', 4],
      [['attach', 'disk.vol', '--metrics', '192.0.2.1:0'], 'ERR_ARGUMENT', 1],
    ];
    for (const [args, code, status] of cases) {
      const outcome = run([...args, '--json']);
      assert.equal(failureOf(outcome).code, code, args.join(' '));
      assert.equal(outcome.status, status, args.join(' '));
      if (args.length === 4 && code.startsWith('ERR_KMS')) {
        // The very words of a command that does the same in the foreground.
        const foreground = failureOf(run(['read', ...args.slice(1), '--length', '0', '--json']));
        assert.deepEqual(failureOf(outcome).message, foreground.message);
      }
    }
    assert.deepEqual(listed(), []);
    ok(['verify', 'disk.vol']);
  });

  test('two attaches at once: one serves, one is told that the volume is busy', async () => {
    const { start, listed, ok } = labWithVolume();
    const both = [1, 2].map(() => ended(start(['attach', 'disk.vol'])));
    const statuses = (await Promise.all(both)).map(({ status }) => status).sort();
    assert.deepEqual(statuses, [0, 5]);
    assert.equal(listed().length, 1);
    ok(['detach', 'disk.vol']);
  });

  test('several readers attach one volume, each with a URI of its own; detach asks which one', () => {
    const { ok, run, listed } = labWithVolume();
    const uris = [1, 2].map(() => ok(['attach', 'disk.vol', '--read-only']).text.trim());
    assert.notEqual(uris[0], uris[1]);
    const { code, message } = failureOf(run(['detach', 'disk.vol', '--json']));
    assert.equal(code, 'ERR_ARGUMENT');
    for (const uri of uris) assert.ok(message.includes(uri));
    for (const uri of uris) {
      assert.match(runTool('nbdinfo', [uri]), /is_read_only: true/);
      ok(['detach', uri]);
    }
    assert.deepEqual(listed(), []);
  });

  test('after kill -9 nothing is listed, and the next attach works with the same socket', () => {
    const { ok, listed, path } = labWithVolume();
    for (const socket of [[], ['--socket', 'own socket']]) {
      const uri = ok(['attach', 'disk.vol', ...socket]).text.trim();
      const [{ pid, socket: used }] = listed() as [ReturnType<typeof listed>[0]];
      process.kill(pid, 'SIGKILL');
      assert.ok(existsSync(used));
      while (lives(pid)); // the kernel gives its locks back
      assert.deepEqual(listed(), []);
      assert.equal(existsSync(used), false);
      assert.equal(ok(['attach', 'disk.vol', ...socket]).text.trim(), uri);
      assert.match(runTool('nbdinfo', [uri]), /export-size: 1048576/);
      ok(['detach', 'disk.vol']);
    }
    assert.equal(existsSync(path('own socket')), false);
  });

  test('SIGTERM to the serving process detaches: nothing is left', async () => {
    const { ok, listed } = labWithVolume();
    ok(['attach', 'disk.vol']);
    const [{ pid, socket }] = listed() as [ReturnType<typeof listed>[0]];
    process.kill(pid, 'SIGTERM');
    await until(() => !lives(pid));
    assert.equal(existsSync(socket), false);
    assert.deepEqual(listed(), []);
    ok(['verify', 'disk.vol']);
  });

  test('the serving process has a session of its own, no terminal, no file of whoever started it, and no dumps', () => {
    const { shell, listed, ok } = labWithVolume();
    // Descriptor 9 is a lock of a script: it must not live on.
    assert.equal(shell("exec 9> 'a lock'; volseal attach disk.vol").status, 0);
    const [{ pid }] = listed() as [ReturnType<typeof listed>[0]];
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    assert.equal(Number(stat[3]), pid, 'it leads its session');
    const open = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(join(`/proc/${pid}/fd`, fd)));
    assert.equal(open.filter((target) => target.includes('a lock')).length, 0);
    for (const fd of ['0', '1', '2']) assert.equal(readlinkSync(`/proc/${pid}/fd/${fd}`), '/dev/null');
    assert.equal(readlinkSync(`/proc/${pid}/cwd`), '/');
    // PR_SET_DUMPABLE 0 gives the files of the process to root; as root, only the limit shows.
    assert.match(readFileSync(`/proc/${pid}/limits`, 'utf8'), /Max core file size\s+0\s+0/);
    assert.equal(statSync(`/proc/${pid}/mem`).uid, 0);
    ok(['detach', 'disk.vol']);
  });

  test('a record that cannot be written: attach fails, and nothing is attached', () => {
    const { run, ok, env } = labWithVolume();
    const directory = join(env.XDG_RUNTIME_DIR!, 'volseal');
    const { volumeId } = parsed(ok(['info', 'disk.vol', '--json']).text) as { volumeId: string };
    mkdirSync(join(directory, `${volumeId}.json.new`), { recursive: true, mode: 0o700 });
    const failure = failureOf(run(['attach', 'disk.vol', '--json']));
    assert.equal(failure.code, 'ERR_IO');
    assert.equal(failure.details.path, join(directory, `${volumeId}.json.new`));
    ok(['write', 'disk.vol'], { input: 'x' });
  });

  testUnless(skipWithoutMount())('a full disk where the records are: attach fails, nothing is left, and then it works', () => {
    const { run, ok, path, listed } = labWithVolume();
    smallDisk(path('small'), 64 * 1024);
    chmodSync(path('small'), 0o700);
    const env = { XDG_RUNTIME_DIR: path('small') };
    // To the last page.
    spawnSync('sh', ['-c', 'cat /dev/zero > filler'], { cwd: path('small') });
    const failure = failureOf(run(['attach', 'disk.vol', '--json'], { env }));
    assert.deepEqual([failure.code, failure.details.errno], ['ERR_IO', 'ENOSPC']);
    rmSync(path('small/filler'));
    const uri = ok(['attach', 'disk.vol'], { env }).text.trim();
    assert.match(runTool('nbdinfo', [uri]), /export-size: 1048576/);
    ok(['detach', uri], { env });
    assert.deepEqual(listed(), []);
  });

  test('a path in the way of --socket is not touched', () => {
    const { run, contents, ok } = labWithVolume();
    const before = contents('disk.raw');
    const outcome = run(['attach', 'disk.vol', '--socket', 'disk.raw', '--json']);
    assert.notEqual(outcome.status, 0);
    assert.ok(failureOf(outcome).message.includes('disk.raw'));
    assert.deepEqual(contents('disk.raw'), before);
    ok(['verify', 'disk.vol']);
  });

  test('Ctrl-C while KMS does not answer: nothing is attached, and no process is left', async () => {
    const { start, ok, listed } = labWithVolume();
    const { createServer } = await import('node:net');
    const silent = createServer().listen(0, '127.0.0.1');
    const asked = new Promise((resolve) => silent.once('connection', resolve));
    await new Promise((resolve) => silent.once('listening', resolve));
    const { port } = silent.address() as { port: number };
    const child = start(['attach', 'disk.vol', '--kms', `http://127.0.0.1:${port}`]);
    const end = ended(child);
    await asked;
    child.kill('SIGINT');
    assert.equal((await end).status, 130);
    silent.close();
    assert.deepEqual(listed(), []);
    ok(['verify', 'disk.vol']);
  });

  test('a starter that is killed before it is told leaves nothing attached', async () => {
    const { start, ok, listed } = labWithVolume();
    const child = start(['attach', 'disk.vol', '--run', 'echo "$uri"; exec sleep 1000']);
    await firstLine(child, 'stdout');
    const [{ pid }] = listed() as [ReturnType<typeof listed>[0]];
    child.kill('SIGKILL');
    await until(() => !lives(pid));
    assert.deepEqual(listed(), []);
    ok(['verify', 'disk.vol']);
  });
});

describeUnless(skipWithout('nbdinfo'))('attach --run', () => {
  test('gives the command the URI and the socket, ends with its status, and detaches', () => {
    const { run, listed } = labWithVolume();
    for (const [command, status] of [
      ['nbdinfo "$uri" && test -S "$unixsocket"', 0],
      ['exit 42', 42],
      ['kill -9 $$', 137],
      ['no-such-program', 127],
    ] as const) {
      assert.equal(run(['attach', 'disk.vol', '--run', command]).status, status, command);
      assert.deepEqual(listed(), []);
    }
  });

  test('detaches what the command has left connected', () => {
    const { ok, listed } = labWithVolume();
    ok(['attach', 'disk.vol', '--run', `PATH=/usr/bin:$PATH nbdsh -u "$uri" -c 'import time; time.sleep(1000)' > /dev/null 2>&1 &`]);
    assert.deepEqual(listed(), []);
  });

  test('a signal ends the command, and then the volume is detached', async () => {
    const { start, listed } = labWithVolume();
    const child = start(['attach', 'disk.vol', '--run', 'echo "$uri"; exec sleep 1000']);
    const end = ended(child);
    await firstLine(child, 'stdout');
    child.kill('SIGTERM');
    assert.equal((await end).status, 143);
    assert.deepEqual(listed(), []);
  });
});
