/** The NBD servers of the attach benchmark, each with a file of its own of the same size, on a unix socket. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fsyncSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createVolume } from '../src/index.js';
import { VOLSEAL } from './image-files.js';
import { qemuFormat } from './image-luks.js';
import { inOneLine } from './peers.js';
import { type Surroundings, timed } from './timed-process.js';

/** Where a server's file is made. */
export interface ServerPlace {
  directory: string;
  sizeBytes: number;
  surroundings: Surroundings;
}

/** A server that runs. */
export interface RunningServer {
  uri: string;
  /** The file that it serves. */
  file: string;
  /** Resident memory at its highest so far. */
  peakBytes(): number;
  end(): Promise<void>;
}

/** A server that can be started. */
export interface ServerKind {
  name: string;
  /** Its file is encrypted by the process itself with LUKS1, which is slow: fewer rounds. */
  isSlow: boolean;
  /** Takes part in cold reads only. */
  isColdOnly: boolean;
  /** Makes the file, and says how to serve it. @throws {Error} where it cannot be made */
  prepare(file: string, place: ServerPlace): Promise<(socket: string) => readonly string[]>;
}

export const VOLSEAL_SERVE = 'volseal serve';
export const NBDKIT_FILE = 'nbdkit file';
export const NBDKIT_LUKS = 'nbdkit luks';
export const QEMU_RAW = 'qemu-nbd raw';
export const QEMU_LUKS = 'qemu-nbd luks';
export const QEMU_DIRECT = 'qemu-nbd raw, O_DIRECT';

/** More than any client of this benchmark asks for. */
const QEMU_CLIENTS = '80';
const READY_WITHIN_MS = 30_000;
const BETWEEN_ATTEMPTS_MS = 20;

const qemuNbd = (socket: string, ...words: string[]): string[] => ['qemu-nbd', '-k', socket, '-t', '-e', QEMU_CLIENTS, ...words];

const raw = async (file: string, { sizeBytes, surroundings }: ServerPlace): Promise<void> => {
  await timed(['fallocate', '-l', String(sizeBytes), file], surroundings);
};

/** All of them. */
export const SERVERS: readonly ServerKind[] = [
  {
    name: VOLSEAL_SERVE,
    isSlow: false,
    isColdOnly: false,
    async prepare(file, { directory, sizeBytes }) {
      const kms = `embedded:${join(directory, 'home')}`;
      await createVolume(file, { sizeBytes, allocation: 'full', kms });
      return (socket) => [process.execPath, VOLSEAL, 'serve', file, '--socket', socket, '--kms', kms];
    },
  },
  {
    name: NBDKIT_FILE,
    isSlow: false,
    isColdOnly: false,
    async prepare(file, place) {
      await raw(file, place);
      return (socket) => ['nbdkit', '-f', '-U', socket, 'file', file];
    },
  },
  {
    name: QEMU_RAW,
    isSlow: false,
    isColdOnly: false,
    async prepare(file, place) {
      await raw(file, place);
      return (socket) => qemuNbd(socket, '-f', 'raw', file);
    },
  },
  {
    name: QEMU_DIRECT,
    isSlow: false,
    isColdOnly: true,
    async prepare(file, place) {
      await raw(file, place);
      return (socket) => qemuNbd(socket, '-f', 'raw', '--cache=none', '--aio=native', file);
    },
  },
  {
    name: NBDKIT_LUKS,
    isSlow: true,
    isColdOnly: false,
    async prepare(file, { sizeBytes, surroundings }) {
      await qemuFormat(file, sizeBytes, surroundings);
      return (socket) => ['nbdkit', '-f', '-U', socket, '--filter=luks', 'file', file, 'passphrase=benchmark'];
    },
  },
  {
    name: QEMU_LUKS,
    isSlow: true,
    isColdOnly: false,
    async prepare(file, { sizeBytes, surroundings }) {
      await qemuFormat(file, sizeBytes, surroundings);
      const options = ['--object', 'secret,id=key,data=benchmark', '--image-opts', `driver=luks,key-secret=key,file.filename=${file}`];
      return (socket) => qemuNbd(socket, ...options);
    },
  },
];

/** Makes the file of a server and starts it. @throws {Error} with the program's own words */
export async function startServer(kind: ServerKind, place: ServerPlace): Promise<RunningServer> {
  const stem = join(place.directory, kind.name.replaceAll(/\W+/g, '-'));
  const [file, socket] = [`${stem}.disk`, `${stem}.sock`];
  const [program, ...words] = (await kind.prepare(file, place))(socket);
  const child = spawn(program!, words, { env: place.surroundings.env, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const failed = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('exit', (status) => reject(new Error(`${kind.name} ended with status ${status}: ${inOneLine(said)}`)));
  });
  failed.catch(() => {}); // later it is expected to end
  await Promise.race([failed, listens(socket, kind.name)]).catch(async (error) => {
    await end(child);
    throw error;
  });
  return {
    uri: `nbd+unix:///?socket=${socket}`,
    file,
    peakBytes: () => Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) * 1024,
    end: () => end(child),
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

async function listens(socket: string, name: string): Promise<void> {
  const deadlineMs = performance.now() + READY_WITHIN_MS;
  while (!(await accepts(socket))) {
    if (performance.now() > deadlineMs) throw new Error(`${name} does not listen at ${socket}`);
    await sleep(BETWEEN_ATTEMPTS_MS);
  }
}

const accepts = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });

/** What was written to `file` is on the disk. */
export function syncFile(file: string): void {
  const fd = openSync(file, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
