/**
 * `npm run bench -- kms`: operations of the embedded KMS, called in process and over HTTP, as a principal that a grant
 * allows, with one grant on the key and with many; and where the time of an attach goes. Prints tables, writes the
 * measurements as JSON.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { markdownTable } from 'markdown-table';
import { describeMachine } from '../src/bench/machine.js';
import { machineLine } from '../src/bench/tables.js';
import { commit } from './clone.js';
import { measureAttach } from './kms-attach.js';
import { type KmsPlan, measureOperations } from './kms-operations.js';
import type { KmsReport } from './kms-report.js';

const FULL: KmsPlan = { grantCounts: [1, 50_000], rounds: 15, callsPerRound: 200, attachRounds: 15 };
const SMALL: KmsPlan = { grantCounts: [1, 100], rounds: 1, callsPerRound: 5, attachRounds: 1 };

/** The subcommand. */
export function kmsCommand(): Command {
  return new Command('kms')
    .description('operations of the embedded KMS with one grant on a key and with 50,000, and the parts of an attach')
    .option('--json <file>', 'write the measurements there')
    .option('--small', 'one round, few grants: to see that it works, not how fast it is')
    .action(async ({ json, small = false }: { json?: string; small?: boolean }) => {
      const plan = small ? SMALL : FULL;
      const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
      try {
        const operations = await measureOperations(directory, plan);
        const attach = await measureAttach(directory, plan);
        const report: KmsReport = {
          benchmark: 'kms',
          date: new Date().toISOString(),
          machine: describeMachine(),
          node: process.version,
          commit: commit(),
          rounds: plan.rounds,
          operations,
          attach,
        };
        console.log(linesOf(report).join('\n'));
        if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
}

const microseconds = (seconds: number): string => (seconds * 1e6).toFixed(0);

function linesOf({ machine, node, commit, rounds, operations, attach }: KmsReport): string[] {
  const rows = operations.map(({ way, operation, grantCount, seconds, ratioToFirst }) => [
    operation,
    way,
    grantCount.toLocaleString('en'),
    microseconds(seconds.median),
    `${microseconds(seconds.min)}-${microseconds(seconds.max)}`,
    (1 / seconds.median).toFixed(0),
    ratioToFirst.toFixed(2),
  ]);
  const header = ['operation', 'way', 'grants on the key', 'us', 'spread', 'a second', 'time against one grant'];
  return [
    `Commit ${commit}`,
    machineLine(machine),
    `Node ${node.slice(1)}; medians of ${rounds} rounds`,
    '',
    markdownTable([header, ...rows], { align: ['l', 'l', 'r', 'r', 'r', 'r', 'r'] }),
    '',
    'An attach, by its parts:',
    '',
    markdownTable(
      [
        ['part', 'ms', 'spread'],
        ...attach.map(({ part, seconds }) => [
          part,
          milliseconds(seconds.median),
          `${milliseconds(seconds.min)}-${milliseconds(seconds.max)}`,
        ]),
      ],
      {
        align: ['l', 'r', 'r'],
      },
    ),
  ];
}

const milliseconds = (seconds: number): string => (seconds * 1e3).toFixed(2);
