/**
 * `npm run bench -- kernels`: every kernel, on all buffers, beside its limits and all peers, in one run. Prints tables,
 * writes the measurements as JSON and a picture of them.
 */
import { writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { DIRECTIONS, type Field, type Workbench } from '../src/bench/contenders.js';
import { largeBytesHere, measureKernels, type Plan } from '../src/bench/kernels.js';
import type { KernelReport } from '../src/bench/measurement.js';
import { reportLines } from '../src/bench/tables.js';
import { commit, versionsOf } from './clone.js';
import { cryptsetupField, evpField, opensslSpeedField } from './peers.js';
import { kernelPicture } from './picture.js';
import { targetLines } from './targets.js';

const MIB = 1024 * 1024;

/** A report with what only a clone knows. */
interface CloneReport extends KernelReport {
  /** With "-dirty" where the work tree has changes. */
  commit: string;
  /** Versions of the programs among the peers, in their own words. */
  programs: Record<string, string>;
}

/** The subcommand. */
export function kernelsCommand(): Command {
  return new Command('kernels')
    .description('the AES-XTS kernels beside their limits and peers')
    .option('--json <file>', 'write the measurements there')
    .option('--picture <file>', 'write an SVG bar chart there')
    .option('--small', 'two short rounds, smaller buffers: to see that it works, not how fast it is')
    .action(async (flags: { json?: string; picture?: string; small?: boolean }) => {
      const small = flags.small === true;
      const { plan, peers } = small ? SMALL : full();
      const onTurn = process.stderr.isTTY ? showTurns : undefined;
      const programs = versionsOf({ openssl: ['openssl', 'version'], cryptsetup: ['cryptsetup', '--version'] });
      const report: CloneReport = { ...(await measureKernels(plan, { peers, onTurn })), commit: commit(), programs };
      console.log([`Commit ${report.commit}`, ...reportLines(report), '', ...targetLines(report)].join('\n'));
      if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(report, null, 2)}\n`);
      if (flags.picture !== undefined) writeFileSync(flags.picture, kernelPicture(report));
    });
}

interface Run {
  plan: Plan;
  peers: (bench: Workbench) => Field;
}

const full = (): Run => {
  const plan: Plan = { breadth: 'all', rounds: 9, budgetMs: Number.POSITIVE_INFINITY, turnMs: 10, largeBytes: largeBytesHere() };
  return { plan, peers: (bench) => allPeers(bench, plan.largeBytes, DIRECTIONS) };
};

/** Large buffers are then just past the size from which kernels store past the caches. */
const SMALL: Run = {
  plan: { breadth: 'all', rounds: 2, budgetMs: Number.POSITIVE_INFINITY, turnMs: 1, largeBytes: 32 * MIB },
  peers: (bench) => allPeers(bench, 32 * MIB, ['encrypt']),
};

function allPeers(bench: Workbench, largeBytes: number, opensslDirections: readonly (typeof DIRECTIONS)[number][]): Field {
  const layouts = [64 * 1024, MIB, largeBytes].flatMap((bufferBytes) => [true, false].map((inPlace) => ({ bufferBytes, inPlace })));
  const programs = [opensslSpeedField(opensslDirections), cryptsetupField()];
  return {
    contenders: [...evpField(bench, layouts), ...programs.flatMap(({ contenders }) => contenders)],
    absent: programs.flatMap(({ absent }) => absent),
  };
}

const showTurns = (done: number, total: number): void => {
  process.stderr.write(`\r${done} of ${total} turns${done === total ? '\n' : ''}`);
};
