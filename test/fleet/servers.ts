/** Real servers for a queue, from Debian, on loopback: each in a directory of its own, ended with the test. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { freePort } from '../free-port.js';
import { requireTool, runTool, skipFor } from '../interop/tools.js';
import { until } from '../until.js';

export interface QueueServer {
  readonly port: number;
  /** The URL by a port: its own, or that of a relay to it. */
  url(port: number): string;
  /** kill -9, and a new process on the same data. */
  restart(): Promise<void>;
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

async function serverOf(port: number, start: () => ChildProcess, isReady: () => boolean): Promise<Pick<QueueServer, 'port' | 'restart'>> {
  let child = start();
  const ready = (): Promise<true> =>
    until(async () => {
      // PostgreSQL does not start while a process of the killed one is still there.
      if (child.exitCode !== null) child = start();
      return (await answers(port)) && isReady();
    });
  onTestFinished(() => void child.kill('SIGKILL'));
  await ready();
  return {
    port,
    async restart() {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
      child = start();
      await ready();
    },
  };
}

function directory(name: string): string {
  const made = mkdtempSync(join(tmpdir(), `volseal-${name}-`));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** Redis that has what it has acknowledged on the disk. */
export async function startRedis(more: string[] = []): Promise<QueueServer> {
  const port = await freePort();
  const data = directory('redis');
  const args = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', data, '--appendonly', 'yes', '--appendfsync', 'always', '--save', ''];
  const isReady = (): boolean =>
    spawnSync(requireTool('redis-cli'), ['-p', `${port}`, 'ping'], { encoding: 'utf8' }).stdout.trim() === 'PONG';
  const start = (): ChildProcess => spawn(requireTool('redis-server'), [...args, ...more], { stdio: 'ignore' });
  return { ...(await serverOf(port, start, isReady)), url: (at) => `redis://127.0.0.1:${at}` };
}

/** Where Debian has PostgreSQL's own programs. */
const POSTGRES = '/usr/lib/postgresql/15/bin';

/** Why tests with PostgreSQL are skipped; false where it is there. @throws {Error} as `skipFor` */
export const skipPostgres = (): string | false =>
  !existsSync(join(POSTGRES, 'postgres')) && skipFor('not installed: PostgreSQL 15 (run scripts/setup.sh --test)');

/** PostgreSQL, which refuses to run as root. */
export async function startPostgres(): Promise<QueueServer> {
  const port = await freePort();
  const data = directory('postgres');
  const isRoot = process.getuid?.() === 0;
  const asUser = isRoot ? [requireTool('setpriv'), '--reuid=postgres', '--regid=postgres', '--clear-groups'] : [];
  if (isRoot) {
    const [uid, gid] = ['-u', '-g'].map((flag) => Number(runTool('id', [flag, 'postgres'])));
    chownSync(data, uid!, gid!);
    chmodSync(data, 0o700);
  }
  const command = (name: string, args: string[]): [string, string[]] => {
    const [first, ...rest] = [...asUser, join(POSTGRES, name), ...args];
    return [first!, rest];
  };
  const made = spawnSync(...command('initdb', ['-D', join(data, 'db'), '-A', 'trust', '-U', 'volseal', '--no-sync']), {
    encoding: 'utf8',
    cwd: '/',
  });
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`);
  const args = ['-D', join(data, 'db'), '-k', data, '-h', '127.0.0.1', '-p', `${port}`];
  const isReady = (): boolean =>
    spawnSync(join(POSTGRES, 'pg_isready'), ['-h', '127.0.0.1', '-p', `${port}`, '-U', 'volseal'], { stdio: 'ignore' }).status === 0;
  const start = (): ChildProcess => spawn(...command('postgres', args), { stdio: 'ignore', cwd: '/' });
  return { ...(await serverOf(port, start, isReady)), url: (at) => `postgres://volseal@127.0.0.1:${at}/postgres` };
}

/** A way to a server that can stop to carry anything, as a network that fails: connections stay, and nothing comes. */
export interface Relay {
  readonly port: number;
  pause(): void;
  resume(): void;
}

/** Opens a way to the port. @param host where it listens */
export async function startRelay(to: number, host = '127.0.0.1'): Promise<Relay> {
  const sockets = new Set<Socket>();
  let isPaused = false;
  const server: Server = createServer((client) => {
    const inner = connect(to, '127.0.0.1');
    for (const socket of [client, inner]) {
      sockets.add(socket);
      const other = socket === client ? inner : client;
      socket.on('data', (bytes) => other.write(bytes));
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
      if (isPaused) socket.pause();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    port: (server.address() as { port: number }).port,
    pause() {
      isPaused = true;
      for (const socket of sockets) socket.pause();
    },
    resume() {
      isPaused = false;
      for (const socket of sockets) socket.resume();
    },
  };
}
