/** What NBD servers are asked to do: by nbdcopy, by fio's nbd engine, and by qemu-img bench for durable writes. */
import { execFileSync } from 'node:child_process';
import type { Figure } from './nbd-report.js';
import { type RunningServer, syncFile } from './nbd-servers.js';
import { type Surroundings, timed } from './timed-process.js';

const KIB = 1024;

/** How much one turn does. */
export interface AccessPlan {
  sizeBytes: number;
  fioSeconds: number;
  durableWrites: number;
}

/** What a turn needs. */
export interface AccessContext {
  plan: AccessPlan;
  /** A raw file of the volume's size, in the page cache: what is copied in. */
  source: string;
  surroundings: Surroundings;
}

/** One kind of use. */
export interface Access {
  name: string;
  figure: Figure;
  /** The server's file is out of the page cache before each turn. */
  isCold: boolean;
  /** One turn. @throws {Error} with the client's own words */
  run(server: RunningServer, context: AccessContext): Promise<number>;
}

export const copyName = (direction: 'read' | 'write', connections: number): string =>
  `nbdcopy, ${direction}, ${connections} ${connections === 1 ? 'connection' : 'connections'}`;
export const fioName = (rw: string, kib: number, depth: number): string => `fio, ${kib} KiB ${rw}, depth ${depth}`;
export const durableName = (depth: number): string => `FUA writes of 4 KiB, ${depth} in flight`;

/** In this order. */
export const ACCESSES: readonly Access[] = [
  ...[1, 4].flatMap((connections) => [copy('read', connections), copy('write', connections)]),
  fio('randread', 4, 1),
  fio('randwrite', 4, 1),
  fio('randread', 4, 32),
  fio('randwrite', 4, 32),
  fio('read', 128, 8),
  fio('write', 128, 8),
  durable(1),
  durable(8),
  ...[1, 4].map((connections) => copy('read', connections, true)),
];

function copy(direction: 'read' | 'write', connections: number, isCold = false): Access {
  return {
    name: copyName(direction, connections),
    figure: 'gbps',
    isCold,
    async run({ uri, file }, { plan, source, surroundings }) {
      syncFile(file);
      if (isCold) execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
      const ends = direction === 'read' ? [uri, 'null:'] : [source, uri];
      const { seconds } = await timed(['nbdcopy', `--connections=${connections}`, '--no-extents', ...ends], surroundings);
      return plan.sizeBytes / 1e9 / seconds;
    },
  };
}

interface FioSide {
  iops: number;
  bw_bytes: number;
  lat_ns: { mean: number };
}

interface FioJob {
  read: FioSide;
  write: FioSide;
}

/** Of fio's only job. The nbd engine prints a line of its own before the JSON. */
const resultOf = (stdout: string): FioJob => (JSON.parse(stdout.slice(stdout.indexOf('{'))) as { jobs: FioJob[] }).jobs[0]!;

function fio(rw: 'randread' | 'randwrite' | 'read' | 'write', kib: number, depth: number): Access {
  const figure = kib > 4 ? 'gbps' : depth === 1 ? 'latencyMicroseconds' : 'requestsPerSecond';
  return {
    name: fioName(rw, kib, depth),
    figure,
    isCold: false,
    async run({ uri, file }, { plan, surroundings }) {
      syncFile(file);
      const job = [`--rw=${rw}`, `--bs=${kib}k`, `--iodepth=${depth}`, `--size=${plan.sizeBytes}`, `--uri=${uri}`];
      const time = ['--time_based', `--runtime=${plan.fioSeconds * 1000}ms`, '--norandommap', '--output-format=json'];
      const { stdout } = await timed(['fio', '--name=turn', '--ioengine=nbd', '--thread', ...job, ...time], surroundings);
      const { read, write } = resultOf(stdout);
      const side = rw.endsWith('read') ? read : write;
      if (figure === 'gbps') return side.bw_bytes / 1e9;
      return figure === 'requestsPerSecond' ? side.iops : side.lat_ns.mean / 1000;
    },
  };
}

/** qemu-img writes through: every write has the flag FUA. */
function durable(depth: number): Access {
  return {
    name: durableName(depth),
    figure: 'requestsPerSecond',
    isCold: false,
    async run({ uri, file }, { plan, surroundings }) {
      syncFile(file);
      const count = Math.ceil((plan.durableWrites * (depth + 1)) / 9);
      const words = ['-w', '-t', 'writethrough', '-f', 'raw', '-s', String(4 * KIB), '-d', String(depth), '-c', String(count), uri];
      const { stdout } = await timed(['qemu-img', 'bench', ...words], surroundings);
      const [, seconds] = /Run completed in ([\d.]+) seconds/.exec(stdout) ?? [];
      if (seconds === undefined) throw new Error(`qemu-img bench printed no time: ${stdout}`);
      return count / Number(seconds);
    },
  };
}

/** One fdatasync after another on a plain file, by fio. @returns writes of 4 KiB a second */
export async function syncedWrites(file: string, { plan, surroundings }: AccessContext): Promise<number> {
  syncFile(file);
  const job = ['--rw=write', '--bs=4k', '--fdatasync=1', `--size=${plan.sizeBytes}`, `--filename=${file}`];
  const time = ['--time_based', `--runtime=${plan.fioSeconds * 1000}ms`, '--output-format=json'];
  const { stdout } = await timed(['fio', '--name=turn', '--ioengine=psync', '--thread', ...job, ...time], surroundings);
  return resultOf(stdout).write.iops;
}

/** 64 clients at once, each with 8 reads and writes of up to 256 KiB in flight. */
export async function manyClients({ uri }: RunningServer, { plan, surroundings }: AccessContext): Promise<void> {
  const job = ['--rw=randrw', '--bsrange=4k-256k', '--iodepth=8', '--numjobs=64', `--size=${plan.sizeBytes}`, `--uri=${uri}`];
  const time = ['--time_based', `--runtime=${plan.fioSeconds * 1000}ms`, '--norandommap'];
  await timed(['fio', '--name=turn', '--ioengine=nbd', '--thread', ...job, ...time], surroundings);
}
