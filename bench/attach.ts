/**
 * `npm run bench -- attach`: an attached volume against plain files from Node, and against other NBD servers. Prints
 * tables with targets, writes the measurements as JSON and a picture of them.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { describeMachine } from '../src/bench/machine.js';
import { machineLine, table } from '../src/bench/tables.js';
import { watchSignals } from '../src/cli/terminal/interrupt.js';
import { attach, createVolume } from '../src/index.js';
import { type AttachMeasurement, type LibraryPlan, measureLibrary } from './attach-library.js';
import { attachPicture } from './attach-picture.js';
import { commit, versionsOf } from './clone.js';
import { nbdLines, nbdTargetRows } from './nbd-report.js';
import { measureNbd, type NbdPlan } from './nbd-run.js';

const MIB = 1024 * 1024;

interface Plan {
  library: LibraryPlan & { sizeBytes: number };
  nbd: NbdPlan;
}

const FULL: Plan = {
  library: { rounds: 9, milliseconds: 500, sizeBytes: 256 * MIB },
  nbd: { rounds: 7, sizeBytes: 1024 * MIB, fioSeconds: 1, durableWrites: 1800 },
};
const SMALL: Plan = {
  library: { rounds: 1, milliseconds: 10, sizeBytes: 8 * MIB },
  nbd: { rounds: 1, sizeBytes: 8 * MIB, fioSeconds: 0.1, durableWrites: 18 },
};

const PROGRAMS = {
  nbdkit: ['nbdkit', '--version'],
  'qemu-nbd': ['qemu-nbd', '--version'],
  nbdcopy: ['nbdcopy', '--version'],
  fio: ['fio', '--version'],
} as const;

interface Flags {
  json?: string;
  picture?: string;
  directory: string;
  small?: boolean;
  rounds?: number;
}

/** The subcommand. */
export function attachCommand(): Command {
  return new Command('attach')
    .description('requests on an attached volume: from Node against FileHandle, and over NBD against other servers')
    .option('--json <file>', 'write the measurements there')
    .option('--picture <file>', 'write an SVG bar chart there')
    .option('--directory <directory>', 'where the files lie, with 8 GiB of room', tmpdir())
    .option('--rounds <count>', 'rounds of the NBD part', roundsArgument)
    .option('--small', 'one short round: to see that it works, not how fast it is')
    .action(async ({ json, picture, directory: parent, rounds, small = false }: Flags) => {
      const plan = small ? SMALL : FULL;
      const { signal, status } = watchSignals(() => {});
      const directory = mkdtempSync(join(parent, 'volseal-bench-'));
      try {
        const begun = { benchmark: 'attach', date: new Date().toISOString(), machine: describeMachine(), node: process.version };
        const library = await measureIn(directory, plan.library);
        const nbdPlan = rounds === undefined ? plan.nbd : { ...plan.nbd, rounds };
        const nbd = await measureNbd(directory, nbdPlan, { env: process.env, signal });
        const report = { ...begun, commit: commit(), programs: versionsOf(PROGRAMS), library, nbd };
        const { machine, date, node } = report;
        const targets = table(['target', '', 'reached'], [...targetRows(library), ...nbdTargetRows(nbd)], 1);
        const programs = Object.values(report.programs).map((version) => `- ${version}`);
        const head = [machineLine(machine), `Commit ${report.commit}, Node ${node.slice(1)}; ${date.slice(0, 10)}`, ...programs];
        console.log([...head, '', ...tableOf(library), '', ...nbdLines(nbd), '', ...targets].join('\n'));
        if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
        if (picture !== undefined) writeFileSync(picture, attachPicture(report));
      } catch (error) {
        if (signal.aborted) process.exitCode = status();
        else throw error;
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    });
}

function roundsArgument(text: string): number {
  if (!/^[1-9]\d?$/.test(text)) throw new InvalidArgumentError('expected a whole number from 1 to 99');
  return Number(text);
}

async function measureIn(directory: string, plan: LibraryPlan & { sizeBytes: number }): Promise<AttachMeasurement[]> {
  const kms = `embedded:${join(directory, 'home')}`;
  const path = join(directory, 'a.vol');
  await createVolume(path, { sizeBytes: plan.sizeBytes, allocation: 'full', kms });
  await using volume = await attach(path, { kms });
  return await measureLibrary(volume, join(directory, 'a.raw'), plan);
}

const tableOf = (measurements: readonly AttachMeasurement[]): string[] =>
  table(
    ['access', 'requests a second', 'CPU, us each', 'latency, us'],
    measurements.map((each) => [
      `${each.contender}, ${each.bytes / 1024} KiB, depth ${each.depth}`,
      each.requestsPerSecond.toFixed(0),
      each.cpuMicroseconds.toFixed(1),
      each.latencyMicroseconds.toFixed(0),
    ]),
    1,
  );

type Figure = 'requestsPerSecond' | 'cpuMicroseconds' | 'latencyMicroseconds';

/** What a call should reach, as a share of `FileHandle.read` into a buffer that is used again. */
const TARGETS: readonly (readonly [contender: string, bytes: number, depth: number, figure: Figure, limit: number])[] = [
  ['volume.read', 4096, 32, 'requestsPerSecond', 1],
  ['volume.read', 4096, 32, 'cpuMicroseconds', 1.2],
  ['volume.read', 4096, 1, 'latencyMicroseconds', 1.3],
  ['volume.read', MIB, 4, 'requestsPerSecond', 0.8],
  ['volume.readInto, shared', MIB, 4, 'requestsPerSecond', 0.8],
];

function targetRows(measurements: readonly AttachMeasurement[]): string[][] {
  return TARGETS.map(([contender, bytes, depth, figure, limit]) => {
    const of = (name: string): number =>
      measurements.find((each) => each.contender === name && each.bytes === bytes && each.depth === depth)![figure];
    const ratio = of(contender) / of('FileHandle.read');
    const isRate = figure === 'requestsPerSecond';
    const isMet = isRate ? ratio >= limit : ratio <= limit;
    return [
      `${contender}, ${bytes / 1024} KiB, depth ${depth}: ${figure} of FileHandle.read`,
      `${isRate ? '>=' : '<='} ${limit}`,
      `${ratio.toFixed(2)}${isMet ? '' : ' (missed)'}`,
    ];
  });
}
