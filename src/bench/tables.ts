/** A report for people: tables that read well on a terminal and are Markdown. */
import { markdownTable } from 'markdown-table';
import prettyBytes from 'pretty-bytes';
import { DIRECTIONS, MEASURED_SECTOR_SIZES } from './contenders.js';
import { type Absence, type KernelReport, type Machine, type Measurement, matching, type Subject } from './measurement.js';

/**
 * A report's lines: the machine, then GB/s of the cipher, the copies, the cost of a call, and what is absent and why.
 */
export function reportLines(report: KernelReport): string[] {
  const { measurements } = report;
  const inUse = report.kernels.find((kernel) => kernel.inUse);
  return [
    ...machineLines(report),
    '',
    `AES-256-XTS, GB/s (share of the limit); ${inUse?.name} is the kernel in use:`,
    '',
    ...cipherTable(measurements),
    '',
    'Limits and copies, GB/s:',
    '',
    ...limitTable(measurements),
    '',
    `One call into the addon, encrypting in place with ${inUse?.name}:`,
    '',
    ...callTable(measurements),
    ...absentLines(report.absent),
  ];
}

const machineLines = ({ machine, node, openssl, rounds, date }: KernelReport): string[] => [
  machineLine(machine),
  `Node ${node.slice(1)} with OpenSSL ${openssl}; medians of ${rounds} rounds, ${date.slice(0, 10)}`,
];

/** The machine in one line. */
export const machineLine = ({ cpu, cores, memoryBytes, osRelease, loadAverage }: Machine): string =>
  `${cpu}, ${cores} ${cores === 1 ? 'core' : 'cores'}, ${size(memoryBytes)} of memory, Linux ${osRelease}, load ${loadAverage.toFixed(2)}`;

/** A row for each contender and buffer, a column for each sector size and direction. */
function cipherTable(measurements: readonly Measurement[]): string[] {
  const ciphers = measurements.filter(({ name, direction }) => direction !== null && name !== 'call');
  const rows = groupedBy(ciphers, ({ name, kernel, bufferBytes, inPlace }) => [name, kernel, bufferBytes, inPlace]);
  const columns = MEASURED_SECTOR_SIZES.flatMap((sectorBytes) => DIRECTIONS.map((direction) => ({ sectorBytes, direction })));
  return table(
    ['', 'buffer', '', ...columns.map(({ sectorBytes, direction }) => `${sectorBytes} ${direction}`), 'limit', 'spread'],
    rows.map((row) => {
      const { bufferBytes, inPlace, limitGbps } = row[0]!;
      return [
        contenderName(row[0]!),
        bufferBytes === null ? '' : size(bufferBytes),
        inPlace === null ? '' : inPlace ? 'in place' : 'out of place',
        ...columns.map((column) => matching(row, column).map(rateAndShare).join()),
        limitGbps === null ? '' : rate(limitGbps),
        percent(Math.max(...row.map(({ spread }) => spread))),
      ];
    }),
    3,
  );
}

function limitTable(measurements: readonly Measurement[]): string[] {
  const rows = measurements.filter(({ name }) => ['limit', 'memcpy', 'streamCopy'].includes(name));
  return table(
    ['', 'buffer', 'GB/s', 'spread'],
    rows.map((row) => [contenderName(row), row.bufferBytes === null ? '' : size(row.bufferBytes), rate(row.gbps), percent(row.spread)]),
    2,
  );
}

function callTable(measurements: readonly Measurement[]): string[] {
  return table(
    ['bytes', 'sectors of', 'ns', 'GB/s', 'spread'],
    matching(measurements, { name: 'call' }).map((call) => [
      size(call.bufferBytes!),
      String(call.sectorBytes),
      call.nsPerCall!.toFixed(0),
      rateAndShare(call),
      percent(call.spread),
    ]),
    0,
  );
}

function absentLines(absent: readonly Absence[]): string[] {
  const groups = groupedBy(absent, ({ name, kernel, bufferBytes, reason }) => [name, kernel, bufferBytes, reason]);
  const lines = groups.map(([first]) => {
    const where = first!.bufferBytes === null ? '' : `, ${size(first!.bufferBytes)}`;
    return `- ${contenderName(first!)}${where}: ${first!.reason}`;
  });
  return lines.length === 0 ? [] : ['', 'Not measured:', '', ...lines];
}

/** A contender as people call it. */
export function contenderName({ name, kernel }: Subject): string {
  switch (name) {
    case 'xts':
    case 'call':
      return kernel!;
    case 'xts, Node Buffer':
      return `${kernel}, Node Buffer`;
    case 'limit':
      return `AES rounds alone, as ${kernel}`;
    case 'streamCopy':
      return `non-temporal copy, as ${kernel}`;
    default:
      return name;
  }
}

/** Lines of a Markdown table. @param textColumns how many columns, from the left, hold words */
export function table(head: string[], rows: string[][], textColumns: number): string[] {
  const align = head.map((_, column) => (column < textColumns ? 'l' : 'r'));
  return markdownTable([head, ...rows], { align }).split('\n');
}

/** In the order of each group's first. */
export function groupedBy<Item>(items: readonly Item[], keyOf: (item: Item) => unknown): Item[][] {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const key = JSON.stringify(keyOf(item));
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return [...groups.values()];
}

/** Bytes in binary units. */
export const size = (bytes: number): string => prettyBytes(bytes, { binary: true });

/** GB/s, to three digits. */
export const rate = (gbps: number): string => gbps.toFixed(gbps < 10 ? 2 : 1);

const percent = (share: number): string => `${(share * 100).toFixed(share < 0.095 ? 1 : 0)} %`;

const rateAndShare = ({ gbps, ratio }: Measurement): string => `${rate(gbps)}${ratio === null ? '' : ` (${(ratio * 100).toFixed(0)} %)`}`;
