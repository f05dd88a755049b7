/**
 * `npm run bench -- reencrypt`: how fast existing volumes get new keys. `reencrypt --out` beside `encrypt`; `reencrypt`
 * in place beside what the disk gives and `cryptsetup reencrypt`. Prints tables, and writes the measurements as JSON.
 */
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { Command } from 'commander';
import { MEASURED_SECTOR_SIZES } from '../src/bench/contenders.js';
import { watchSignals } from '../src/cli/terminal/interrupt.js';
import { measured } from './image.js';
import { checkRoom, filesIn, type ImageResults, type ImageRun, measureFields, surroundingsIn } from './image-run.js';
import { imageLines } from './image-tables.js';
import { reencryptions } from './reencrypt-contenders.js';
import { reencryptTargetLines } from './reencrypt-targets.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** The image; with each sector size four volumes; a copy for the disk alone. */
const COPIES_AT_ONCE = 10;

interface Plan {
  imageBytes: number;
  rounds: number;
  sectorSizes: readonly number[];
  /** One round more, which does not count. */
  warmsUp: boolean;
  /** No round begins that would not end before this time is over; the first that counts always does. */
  budgetMs: number;
}

const FULL: Plan = { imageBytes: 2 * GIB, rounds: 5, sectorSizes: MEASURED_SECTOR_SIZES, warmsUp: true, budgetMs: 900_000 };
const SMALL: Plan = { imageBytes: 16 * MIB, rounds: 1, sectorSizes: [512], warmsUp: false, budgetMs: 60_000 };

interface Flags {
  json?: string;
  small?: boolean;
  directory: string;
}

/** The subcommand. */
export function reencryptCommand(): Command {
  return new Command('reencrypt')
    .description('new keys for existing volumes, into new volumes and in place, beside the disk and cryptsetup reencrypt')
    .option('--json <file>', 'write the measurements there')
    .option('--directory <directory>', 'where the volumes lie: a file system of the disk in question, with 20 GiB of room', tmpdir())
    .option('--small', 'one round, small volumes: to see that it works, not how fast it is')
    .action(async ({ directory: parent, small, json }: Flags) => {
      const plan = small ? SMALL : FULL;
      const { signal, status } = watchSignals(() => {});
      const programs = { dd: ['dd', '--version'], cryptsetup: ['cryptsetup', '--version'] } as const;
      const measure = (directory: string, run: ImageRun): Promise<ImageResults> => measurePlan(directory, plan, run);
      const benchmark = { benchmark: 'reencrypt', parent, imageBytes: plan.imageBytes, programs, measure } as const;
      const report = await measured(benchmark, signal).catch((error) => {
        if (signal.aborted) process.exit(status());
        throw error;
      });
      console.log([`Commit ${report.commit}`, ...imageLines(report), '', ...reencryptTargetLines(report)].join('\n'));
      if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
    });
}

function measurePlan(directory: string, plan: Plan, run: ImageRun): Promise<ImageResults> {
  const { imageBytes, rounds, sectorSizes } = plan;
  checkRoom(directory, COPIES_AT_ONCE * imageBytes);
  const files = filesIn(directory, 'volumes', { imageBytes, dataBytes: imageBytes }, surroundingsIn(directory, run));
  return measureFields([{ files, contenders: reencryptions(files, sectorSizes), rounds }], plan, run);
}
