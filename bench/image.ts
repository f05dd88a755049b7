/**
 * `npm run bench -- image`: how fast whole images move. volseal beside the disk's limit, copies without a cipher and
 * programs that encrypt, as whole processes in turns on one file system. Prints tables, writes the measurements as JSON
 * and a picture of them.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { MEASURED_SECTOR_SIZES } from '../src/bench/contenders.js';
import { describeMachine } from '../src/bench/machine.js';
import { watchSignals } from '../src/cli/terminal/interrupt.js';
import { openBar } from '../src/cli/terminal/progress.js';
import { commit, versionsOf } from './clone.js';
import { fileSystemOf } from './image-files.js';
import { imagePicture } from './image-picture.js';
import type { ImageReport } from './image-report.js';
import { estimatedSeconds, type ImagePlan, type ImageResults, type ImageRun, measureImages } from './image-run.js';
import { imageLines } from './image-tables.js';
import { imageTargetLines } from './image-targets.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const MINUTE_MS = 60_000;

interface Flags {
  json?: string;
  picture?: string;
  small?: boolean;
  directory: string;
}

/** The subcommand. */
export function imageCommand(): Command {
  return new Command('image')
    .description('whole images through volseal, beside the disk, copies and other programs')
    .option('--json <file>', 'write the measurements there')
    .option('--picture <file>', 'write an SVG bar chart there')
    .option('--directory <directory>', 'where the images lie: a file system of the disk in question, with 16 GiB of room', tmpdir())
    .option('--small', 'one round, small images: to see that it works, not how fast it is')
    .action(async (flags: Flags) => {
      const plan = flags.small ? SMALL : FULL;
      const { signal, status } = watchSignals(() => {});
      if (process.stderr.isTTY) process.stderr.write(`about ${Math.ceil(estimatedSeconds(plan) / 60)} minutes\n`);
      const benchmark: ImageBenchmark = {
        benchmark: 'image',
        parent: flags.directory,
        imageBytes: Math.max(...plan.whole.map(({ imageBytes }) => imageBytes)),
        programs: PROGRAMS,
        measure: (directory, run) => measureImages(directory, plan, run),
      };
      const report = await measured(benchmark, signal).catch((error) => {
        if (signal.aborted) process.exit(status());
        throw error;
      });
      console.log([`Commit ${report.commit}`, ...imageLines(report), '', ...imageTargetLines(report)].join('\n'));
      if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(report, null, 2)}\n`);
      if (flags.picture !== undefined) writeFileSync(flags.picture, imagePicture(report));
    });
}

const FULL: ImagePlan = {
  whole: [
    { imageBytes: 256 * MIB, rounds: 7 },
    { imageBytes: 2 * GIB, rounds: 5 },
  ],
  sparse: { imageBytes: 100 * GIB, dataBytes: 64 * MIB, rounds: 5 },
  startRounds: 15,
  sectorSizes: MEASURED_SECTOR_SIZES,
  warmsUp: true,
  budgetMs: 20 * MINUTE_MS,
};

const SMALL: ImagePlan = {
  whole: [{ imageBytes: 16 * MIB, rounds: 1 }],
  sparse: { imageBytes: GIB, dataBytes: 4 * MIB, rounds: 1 },
  startRounds: 1,
  sectorSizes: [512],
  warmsUp: false,
  budgetMs: MINUTE_MS,
};

const PROGRAMS = {
  dd: ['dd', '--version'],
  fio: ['fio', '--version'],
  qemu: ['qemu-img', '--version'],
  cryptsetup: ['cryptsetup', '--version'],
} as const;

/** What a benchmark of whole images needs to begin. */
export interface ImageBenchmark {
  benchmark: ImageReport['benchmark'];
  /** Has room; gets a directory that is removed at the end. */
  parent: string;
  /** The larger image. */
  imageBytes: number;
  /** The peers, as command lines that print their versions. */
  programs: Parameters<typeof versionsOf>[0];
  measure: (directory: string, run: ImageRun) => Promise<ImageResults>;
}

/**
 * A report, with a progress bar on the way.
 * @throws {Error} where a contender that ran before failed, and when `signal` is aborted
 */
export async function measured(
  { benchmark, parent, imageBytes, programs, measure }: ImageBenchmark,
  signal: AbortSignal,
): Promise<ImageReport> {
  const directory = mkdtempSync(join(parent, 'volseal-bench-'));
  const bar = process.stderr.isTTY
    ? openBar({ format: '{percentage}% {bar} {eta_formatted} left: {name}', etaBuffer: 50 }, signal)
    : undefined;
  try {
    const begun = {
      benchmark,
      date: new Date().toISOString(),
      machine: describeMachine(),
      node: process.version,
      commit: commit(),
      programs: versionsOf(programs),
      fileSystem: fileSystemOf(directory),
      imageBytes,
    };
    const env = { ...process.env, VOLSEAL_HOME: join(directory, 'home') };
    const onTurn = (done: number, total: number, name: string): void => bar?.show(done, total, { name });
    return { ...begun, ...(await measure(directory, { surroundings: { env, signal }, onTurn })) };
  } finally {
    bar?.end();
    rmSync(directory, { recursive: true, force: true });
  }
}
