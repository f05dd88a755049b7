/**
 * `npm run bench -- stores`: images to S3 and back, by `volseal encrypt` and `decrypt` beside `aws s3 cp` of the same
 * bytes, as whole processes in turns, with a plain server on loopback (stores-server.ts) over TLS. Prints a table and
 * goals, writes JSON.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { describeMachine } from '../src/bench/machine.js';
import { machineLine, size, table } from '../src/bench/tables.js';
import { watchSignals } from '../src/cli/terminal/interrupt.js';
import { commit, versionsOf } from './clone.js';
import { checkRoom } from './image-run.js';
import { AWS, measureStores, SCENES, STORE_PROGRAMS, type StoresPlan, type StoresResults, VOLSEAL } from './stores-turns.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const FULL: StoresPlan = { imageBytes: 2 * GIB, rounds: 5, largeBytes: 4 * GIB };
const SMALL: StoresPlan = { imageBytes: 40 * MIB, rounds: 1, largeBytes: 48 * MIB };
/** Image and what is made of it, at once. */
const COPIES_AT_ONCE = 3;

/** What a run reports. */
export interface StoresReport extends StoresPlan, StoresResults {
  readonly benchmark: 'stores';
  readonly date: string;
  readonly machine: ReturnType<typeof describeMachine>;
  readonly node: string;
  readonly commit: string;
  readonly programs: Record<string, string>;
}

interface StoresFlags {
  json?: string;
  small?: boolean;
  directory: string;
}

/** The subcommand. */
export function storesCommand(): Command {
  return new Command('stores')
    .description('images to S3 and back, beside aws s3 cp, with a plain server on loopback')
    .option('--json <file>', 'write the measurements there')
    .option('--small', 'one round, small images: to see that it works, not how fast it is')
    .option('--directory <path>', 'where files are made, with 12 GiB of room; objects need 10 GiB of memory', tmpdir())
    .action(async ({ json, small = false, directory: parent }: StoresFlags) => {
      const plan = small ? SMALL : FULL;
      const { signal, status } = watchSignals(() => {});
      const directory = mkdtempSync(join(parent, 'volseal-bench-'));
      try {
        checkRoom(directory, COPIES_AT_ONCE * plan.largeBytes);
        const begun = { date: new Date().toISOString(), machine: describeMachine(), node: process.version, commit: commit() };
        const results = await measureStores(directory, plan, signal).catch((error) => {
          if (signal.aborted) process.exit(status());
          throw error;
        });
        const report: StoresReport = { benchmark: 'stores', ...begun, programs: versionsOf(STORE_PROGRAMS), ...plan, ...results };
        console.log(storesLines(report).join('\n'));
        if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    });
}

/** A table of the measurements, and one of the goals. */
export function storesLines(report: StoresReport): string[] {
  const { machine, node, programs, imageBytes, rounds, measurements } = report;
  const rows = measurements.map(({ scene, name, seconds, gbps, cpuSeconds, maxRssBytes }) => [
    scene,
    name,
    seconds.median.toFixed(2),
    `${seconds.min.toFixed(2)}-${seconds.max.toFixed(2)}`,
    gbps.toFixed(2),
    cpuSeconds.toFixed(2),
    size(maxRssBytes),
  ]);
  return [
    `Commit ${report.commit}; ${machineLine(machine)}; Node ${node.slice(1)}, ${Object.values(programs).join(', ')}`,
    `${size(imageBytes)}, medians of ${rounds} rounds in turns, TLS to a server on loopback:`,
    '',
    ...table(['', '', 's', 'min-max', 'GB/s', 'CPU s', 'memory'], rows, 2),
    '',
    `Goals, and memory with an image of ${size(report.largeBytes)}:`,
    '',
    ...table(['goal', '', ...SCENES], goalRows(report), 1),
  ];
}

const RATE_GOAL = 1;
const CPU_GOAL = 0.5;
const MEMORY_GOAL_BYTES = 256 * MIB;

function goalRows({ measurements, largeRssBytes, nodeRssBytes }: StoresReport): string[][] {
  const of = (scene: string, name: string) => measurements.find((each) => each.scene === scene && each.name === name)!;
  const row = (what: string, wanted: string, cell: (scene: (typeof SCENES)[number]) => { text: string; isMet: boolean }): string[] => [
    what,
    wanted,
    ...SCENES.map((scene) => {
      const { text, isMet } = cell(scene);
      return isMet ? text : `${text} (missed)`;
    }),
  ];
  return [
    row('rate, of that of aws s3 cp', `>= ${RATE_GOAL.toFixed(2)}`, (scene) => {
      const ratio = of(scene, VOLSEAL).gbps / of(scene, AWS).gbps;
      return { text: ratio.toFixed(2), isMet: ratio >= RATE_GOAL };
    }),
    row('CPU seconds, of those of aws s3 cp', `<= ${CPU_GOAL.toFixed(2)}`, (scene) => {
      const ratio = of(scene, VOLSEAL).cpuSeconds / of(scene, AWS).cpuSeconds;
      return { text: ratio.toFixed(2), isMet: ratio <= CPU_GOAL };
    }),
    row('resident memory, less that of Node alone', `<= ${size(MEMORY_GOAL_BYTES)}`, (scene) => {
      const bytes = largeRssBytes[scene] - nodeRssBytes;
      return { text: size(bytes), isMet: bytes <= MEMORY_GOAL_BYTES };
    }),
  ];
}
