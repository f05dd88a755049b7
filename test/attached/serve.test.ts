/** `serve`: the foreground process, and what supervisors say to it and hear from it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'vitest';
import { MAIN } from '../built.js';
import { ended, failureOf, firstLine, parsed } from '../cli/program.js';
import { requireTool, runTool, skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { until } from '../until.js';
import { connected, labWithVolume } from './volumes.js';

/** A fake service manager in Python, which has datagram sockets: prints each message as a line of JSON. */
const MANAGER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace("@", "\\0") if sys.argv[1].startswith("@") else sys.argv[1])
print(json.dumps("bound"), flush=True)
while True: print(json.dumps(s.recv(65536).decode()), flush=True)
`;

/** systemd's way to pass a socket: descriptor 3, and the pid of the process that it is for. */
const PASS_SOCKET = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[2]))
os.environ["LISTEN_FDS"] = sys.argv[3]
os.execvp(sys.argv[4], sys.argv[4:])
`;

/** All that a process has said on standard output, by line. */
function linesOf(child: ChildProcess): string[] {
  const lines: string[] = [];
  let rest = '';
  child.stdout!.on('data', (chunk) => {
    const [last = '', ...others] = `${rest}${chunk}`.split('\n').reverse();
    rest = last;
    lines.push(...others.reverse());
  });
  return lines;
}

describeUnless(skipWithout('nbdinfo', 'nbdcopy', 'nbdsh', 'python3'))('serve', () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`serves until ${signal}, with status 0, and leaves neither socket nor pid file`, async () => {
      const { start, path, contents, ok } = labWithVolume();
      const server = start(['serve', 'disk.vol', '--socket', 'a socket', '--pid-file', 'pid']);
      const end = ended(server);
      const uri = await firstLine(server, 'stdout');
      assert.equal(readFileSync(path('pid'), 'utf8'), `${server.pid}\n`);
      runTool('nbdcopy', [path('disk.raw'), uri.replace('=a', `=${encodeURI(path('a'))}`)]);
      server.kill(signal);
      assert.equal((await end).status, 0);
      assert.deepEqual([existsSync(path('a socket')), existsSync(path('pid'))], [false, false]);
      ok(['verify', 'disk.vol', '--against', 'disk.raw']);
      assert.equal(contents('disk.raw').length, 1024 * 1024);
    });
  }

  test('ends although a client stays connected', async () => {
    const { start } = labWithVolume();
    const server = start(['serve', 'disk.vol', '--listen', '127.0.0.1:0']);
    const end = ended(server);
    const uri = await firstLine(server, 'stdout');
    const client = await connected(uri);
    server.kill('SIGTERM');
    assert.equal((await end).status, 0);
    client.stdin!.end();
  });

  test('serves several volumes by name, from one process', async () => {
    const { start, ok, path, contents } = labWithVolume();
    ok(['create', 'other.vol', '--size', '2M']);
    const server = start(['serve', 'disk.vol', 'other.vol', '--listen', '127.0.0.1:0', '--json']);
    const { volumes } = parsed(await firstLine(server, 'stdout')) as { volumes: { uri: string; exportName: string }[] };
    assert.deepEqual(
      volumes.map(({ exportName }) => exportName),
      ['disk.vol', 'other.vol'],
    );
    assert.match(runTool('nbdinfo', [volumes[1]!.uri]), /export-size: 2097152/);
    runTool('nbdcopy', [volumes[0]!.uri, path('copy.raw')]);
    assert.deepEqual(contents('copy.raw'), contents('disk.raw'));
  });

  for (const address of ['/notify socket', '@volseal-test']) {
    test(`tells a service manager at ${address[0] === '@' ? 'an abstract name' : 'a path'} when it is ready and when it stops`, async () => {
      const { start, path } = labWithVolume();
      const socket = address[0] === '@' ? `${address}-${process.pid}` : path('notify socket');
      const manager = spawn(requireTool('python3'), ['-c', MANAGER, socket]);
      const said = linesOf(manager);
      await until(() => said.length === 1);
      const server = start(['serve', 'disk.vol', '--socket', 'sock'], { NOTIFY_SOCKET: socket });
      const end = ended(server);
      await until(() => said.some((line) => line.includes('READY=1')));
      assert.ok(existsSync(path('sock')));
      assert.ok(!said.some((line) => line.includes('STOPPING=1')));
      server.kill('SIGTERM');
      assert.equal((await end).status, 0);
      await until(() => said.some((line) => line.includes('STOPPING=1')));
      manager.kill();
    });
  }

  test('takes the socket that a service manager passes, and only if it is meant', async () => {
    const { path, env, directory, contents } = labWithVolume();
    const passing = (offset: number, count: string): ChildProcess => {
      const args = [
        '-c',
        PASS_SOCKET,
        path(`passed ${offset} ${count}`),
        String(offset),
        count,
        process.execPath,
        MAIN,
        'serve',
        'disk.vol',
        '--json',
      ];
      return spawn(requireTool('python3'), args, { cwd: directory, env });
    };
    const server = passing(0, '1');
    const end = ended(server);
    await firstLine(server, 'stdout');
    runTool('nbdcopy', [`nbd+unix:///?socket=${encodeURI(path('passed 0 1'))}`, path('copy.raw')]);
    assert.deepEqual(contents('copy.raw'), contents('disk.raw'));
    server.kill('SIGTERM');
    assert.equal((await end).status, 0);
    for (const [offset, count, message] of [
      [1, '1', /where to listen/],
      [0, '2', /LISTEN_FDS is .*2.*: the service needs exactly one socket/],
    ] as const) {
      const { status, stderr } = await ended(passing(offset, count));
      assert.equal(status, 1);
      assert.match(stderr, message);
    }
  });

  test('takes the socket of a client that starts it as systemd does, and --stdio the connection', () => {
    const { env, directory, contents } = labWithVolume();
    const variables = { ...env, PATH: `/usr/bin:${env.PATH}`, DIR: directory, NODE: process.execPath, MAIN };
    const shell = (script: string): string => runTool('sh', ['-c', `cd "$DIR" && ${script}`], { env: variables });
    // libnbd's square brackets are socket activation.
    shell('nbdcopy -- [ "$NODE" "$MAIN" serve disk.vol ] copy.raw');
    assert.deepEqual(contents('copy.raw'), contents('disk.raw'));
    const program = `import os; e = os.environ; h.connect_command([e["NODE"], e["MAIN"], "serve", "--stdio", "disk.vol"]); print(h.get_size())`;
    assert.equal(shell(`nbdsh -c '${program}'`), '1048576\n');
  });

  test('--exit-with-parent ends it with the process that started it', async () => {
    const { shell, path } = labWithVolume();
    const { status } = shell(
      'volseal serve disk.vol --socket sock --pid-file pid --exit-with-parent > /dev/null 2>&1 & until test -e pid; do sleep 0.05; done; cp pid kept',
    );
    assert.equal(status, 0);
    const pid = readFileSync(path('kept'), 'utf8').trim();
    await until(() => !existsSync(`/proc/${pid}`) || /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')));
    assert.equal(existsSync(path('sock')), false);
  });

  test('refuses what it cannot do', () => {
    const { run, ok } = labWithVolume();
    ok(['create', 'other.vol', '--size', '1M']);
    const cases: [string[], RegExp][] = [
      [[], /where to listen/],
      [['--socket', 's', '--stdio'], /not several/],
      [['--socket', 's', '--export-name', 'a', 'b'], /2 names for 1 volumes/],
      [['--socket', 's', '--tls-certificate', 'c'], /--tls-key/],
      [['--socket', 's', '--tls-psk', 'p', '--tls-allow', 'n'], /not both/],
      [['--listen', '0.0.0.0:0'], /serve it with TLS/],
      [['--socket', 's', '--connections', '65'], /1 to 64/],
    ];
    for (const [args, message] of cases) {
      const outcome = run(['serve', '--json', 'disk.vol', ...args]);
      assert.match(failureOf(outcome).message, message, args.join(' '));
      assert.equal(outcome.status, 1);
    }
    assert.match(failureOf(run(['serve', '--json', 'disk.vol', 'other.vol', '--socket', 's', '--header', 'h'])).message, /one volume/);
    assert.match(failureOf(run(['serve', '--json', 'disk.vol', './disk.vol', '--socket', 's'])).message, /two exports/);
  });

  test('a volume that cannot be attached: nothing is served, and the others are free again', () => {
    const { run, ok } = labWithVolume();
    const outcome = run(['serve', 'disk.vol', 'no.vol', '--socket', 's', '--json']);
    assert.equal(failureOf(outcome).code, 'ERR_IO');
    ok(['write', 'disk.vol'], { input: 'x' });
  });
});
