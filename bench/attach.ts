/**
 * `npm run bench -- attach`: an attached volume against plain files, in turns, the page cache warm. Prints tables with
 * targets, writes the measurements as JSON.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { describeMachine } from '../src/bench/machine.js';
import { machineLine, table } from '../src/bench/tables.js';
import { attach, createVolume } from '../src/index.js';
import { type AttachMeasurement, type LibraryPlan, measureLibrary } from './attach-library.js';
import { commit } from './clone.js';

const MIB = 1024 * 1024;
const FULL = { rounds: 9, milliseconds: 500, sizeBytes: 256 * MIB };
const SMALL = { rounds: 1, milliseconds: 10, sizeBytes: 8 * MIB };

/** The subcommand. */
export function attachCommand(): Command {
  return new Command('attach')
    .description('requests on an attached volume against FileHandle on a plain file')
    .option('--json <file>', 'write the measurements there')
    .option('--small', 'one short round: to see that it works, not how fast it is')
    .action(async ({ json, small = false }: { json?: string; small?: boolean }) => {
      const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
      try {
        const library = await measureIn(directory, small ? SMALL : FULL);
        const machine = describeMachine();
        const report = { benchmark: 'attach', date: new Date().toISOString(), machine, node: process.version, commit: commit(), library };
        console.log([machineLine(machine), '', ...tableOf(library), '', ...targetsOf(library)].join('\n'));
        if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
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

function targetsOf(measurements: readonly AttachMeasurement[]): string[] {
  const rows = TARGETS.map(([contender, bytes, depth, figure, limit]) => {
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
  return table(['target', '', 'reached'], rows, 1);
}
