/** What the NBD part of the attach benchmark reports, and what volseal wants of itself there. */
import { table } from '../src/bench/tables.js';
import { copyName, durableName, fioName } from './nbd-accesses.js';
import { NBDKIT_FILE, NBDKIT_LUKS, QEMU_LUKS, QEMU_RAW, VOLSEAL_SERVE } from './nbd-servers.js';

/** 10^9 bytes a second, requests a second, or the mean time of a request in microseconds. */
export type Figure = 'gbps' | 'requestsPerSecond' | 'latencyMicroseconds';

/** One use of one server, over all rounds. */
export interface NbdMeasurement {
  server: string;
  access: string;
  figure: Figure;
  /** The server's file was in the page cache, or on the disk only. */
  scene: 'warm' | 'cold';
  rounds: number;
  median: number;
  /** The interquartile range as a share of the median. */
  spread: number;
}

export interface NbdReport {
  sizeBytes: number;
  measurements: NbdMeasurement[];
  /** Peak of each serving process, with 64 busy clients at the end. */
  memory: { server: string; peakBytes: number }[];
  /** Servers that are not there, and why. */
  absent: { server: string; reason: string }[];
}

export const PLAIN_FILE = 'plain file, fdatasync after each write';
export const PLAIN_SYNCED = 'durable writes of 4 KiB';
export const MEMORY_LIMIT_BYTES = 256 * 1024 * 1024;

const MIB = 1024 * 1024;
const UNITS: Record<Figure, string> = { gbps: 'GB/s', requestsPerSecond: 'a second', latencyMicroseconds: 'us' };

/** A table for each scene: a row for each access, a column for each server; then memory, and what is absent. */
export function nbdLines({ measurements, memory, absent, sizeBytes }: NbdReport): string[] {
  const scenes = (['warm', 'cold'] as const).flatMap((scene) => {
    const own = measurements.filter((each) => each.scene === scene && each.server !== PLAIN_FILE);
    const servers = [...new Set(own.map(({ server }) => server))];
    const rows = [...new Set(own.map(({ access }) => access))].map((access) => {
      const of = (name: string): NbdMeasurement | undefined => own.find((each) => each.access === access && each.server === name);
      const unit = UNITS[own.find((each) => each.access === access)!.figure];
      return [access, unit, ...servers.map((name) => cell(of(name)))];
    });
    const title = `${sizeBytes / MIB} MiB over NBD, the file ${scene === 'warm' ? 'in the page cache' : 'on the disk only'}; median and spread:`;
    return [title, '', ...table(['', '', ...servers], rows, 2), ''];
  });
  const plain = measurements.filter(({ server }) => server === PLAIN_FILE);
  return [
    ...scenes,
    ...plain.map((each) => `${each.server}: ${cell(each)} ${UNITS[each.figure]}`),
    '',
    'Memory at most, 64 busy clients included:',
    '',
    ...table(
      ['', 'MiB'],
      memory.map(({ server, peakBytes }) => [server, (peakBytes / MIB).toFixed(0)]),
      1,
    ),
    ...absent.map(({ server, reason }) => `absent: ${server}: ${reason}`),
  ];
}

function cell(measurement: NbdMeasurement | undefined): string {
  if (measurement === undefined) return '';
  const { figure, median, spread } = measurement;
  return `${median.toFixed(figure === 'gbps' ? 2 : 0)} (${(spread * 100).toFixed(0)} %)`;
}

type Ratio = (of: (server: string, access: string) => number | undefined) => number | undefined;
interface NbdTarget {
  what: string;
  limit: number;
  isMost?: boolean;
  ratio: Ratio;
}

const RAW = [NBDKIT_FILE, QEMU_RAW];

/** volseal's share of the best of `servers`; undefined where one was not measured. */
const shareOfBest =
  (access: string, servers: readonly string[]): Ratio =>
  (of) => {
    const [own, ...peers] = [VOLSEAL_SERVE, ...servers].map((server) => of(server, access));
    if (own === undefined || peers.some((peer) => peer === undefined)) return undefined;
    return own / Math.max(...(peers as number[]));
  };

const TARGETS: readonly NbdTarget[] = [
  ...[1, 4].flatMap((connections) => [
    {
      what: `${copyName('read', connections)}: of the better raw server`,
      limit: 1,
      ratio: shareOfBest(copyName('read', connections), RAW),
    },
    {
      what: `${copyName('write', connections)}: of the better raw server`,
      limit: 0.9,
      ratio: shareOfBest(copyName('write', connections), RAW),
    },
  ]),
  ...(['read', 'write'] as const).flatMap((direction) => [
    { what: `${copyName(direction, 4)}: of nbdkit luks`, limit: 2, ratio: shareOfBest(copyName(direction, 4), [NBDKIT_LUKS]) },
    { what: `${copyName(direction, 4)}: of qemu-nbd luks`, limit: 4, ratio: shareOfBest(copyName(direction, 4), [QEMU_LUKS]) },
  ]),
  { what: `${fioName('randread', 4, 32)}: of nbdkit file`, limit: 1.5, ratio: shareOfBest(fioName('randread', 4, 32), [NBDKIT_FILE]) },
  { what: `${fioName('randwrite', 4, 32)}: of nbdkit file`, limit: 1.3, ratio: shareOfBest(fioName('randwrite', 4, 32), [NBDKIT_FILE]) },
  ...(['randread', 'randwrite'] as const).map((rw) => ({
    what: `${fioName(rw, 4, 1)}: latency of nbdkit file's`,
    limit: 1.05,
    isMost: true,
    ratio: shareOfBest(fioName(rw, 4, 1), [NBDKIT_FILE]),
  })),
  {
    what: `${durableName(8)}: of one fdatasync after another`,
    limit: 3,
    ratio: (of) => {
      const [own, plain] = [of(VOLSEAL_SERVE, durableName(8)), of(PLAIN_FILE, PLAIN_SYNCED)];
      return own === undefined || plain === undefined ? undefined : own / plain;
    },
  },
];

/** Rows of a table of targets: what, the limit, what was reached. Peers that are absent leave no row. */
export function nbdTargetRows({ measurements, memory }: NbdReport): string[][] {
  const of = (server: string, access: string): number | undefined =>
    measurements.find((each) => each.scene === 'warm' && each.server === server && each.access === access)?.median;
  const rows = TARGETS.flatMap(({ what, limit, isMost = false, ratio }) => {
    const reached = ratio(of);
    if (reached === undefined) return [];
    const isMet = isMost ? reached <= limit : reached >= limit;
    return [[what, `${isMost ? '<=' : '>='} ${limit}`, `${reached.toFixed(2)}${isMet ? '' : ' (missed)'}`]];
  });
  const own = memory.find(({ server }) => server === VOLSEAL_SERVE);
  if (own !== undefined) {
    const isMet = own.peakBytes <= MEMORY_LIMIT_BYTES;
    rows.push([
      'memory of the serving process, 64 busy clients',
      `<= ${MEMORY_LIMIT_BYTES / MIB} MiB`,
      `${(own.peakBytes / MIB).toFixed(0)} MiB${isMet ? '' : ' (missed)'}`,
    ]);
  }
  return rows;
}
