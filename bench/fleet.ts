/**
 * `npm run bench -- fleet`: what a queue costs against none; with `--simulate` how long a fleet takes that no machine
 * here is large enough for, with what was measured here. Prints tables, writes JSON and a picture.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import type { EChartsCoreOption } from 'echarts/core';
import { markdownTable } from 'markdown-table';
import { describeMachine } from '../src/bench/machine.js';
import { median } from '../src/bench/sampling.js';
import { machineLine } from '../src/bench/tables.js';
import { BAR_COLORS, LIMIT_COLOR, svgOf } from './chart.js';
import { commit } from './clone.js';
import { type EnginePlan, measureEngine } from './fleet-engine.js';
import { type FleetOutcome, type FleetPlan, simulateFleet } from './fleet-simulation.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const FULL: EnginePlan = { images: 1000, imageBytes: 16 * MIB, workers: 2, rounds: 3 };
const SMALL: EnginePlan = { images: 4, imageBytes: MIB, workers: 2, rounds: 1 };
/** Two workers with a queue, of two processes without. */
const GOAL = 0.8;

/** S3 allows so many GETs a second for a prefix (docs/FLEET.md), of parts of 16 MiB. */
const S3_GETS_PER_SECOND = 5500;
const S3_PART_BYTES = 16 * MIB;
/** EBS direct APIs: blocks of 512 KiB, and so many reads a second for an account. */
const EBS_READS_PER_SECOND = 1000;
const EBS_BLOCK_BYTES = 512 * 1024;

interface FleetFlags {
  json?: string;
  picture?: string;
  small?: boolean;
  simulate?: boolean;
  directory: string;
  images: string;
  size: string;
  machines: string;
  network: string;
  deaths: string;
  seed: string;
}

/** The subcommand. */
export function fleetCommand(): Command {
  return new Command('fleet')
    .description('small images by workers on a queue, and without one; or a large fleet as a simulation')
    .option('--simulate', 'simulate a fleet instead of measuring one')
    .option('--images <number>', 'simulated images', '10000')
    .option('--size <GiB>', 'size of each', '100')
    .option('--machines <number>', 'simulated machines', '200')
    .option('--network <MiB/s>', 'what the network of a machine carries', '1200')
    .option('--deaths <hours>', 'mean time between two deaths of a machine', '100')
    .option('--seed <number>', 'decides the simulation', '1')
    .option('--json <file>', 'write the measurements there')
    .option('--picture <file>', 'write the picture of the simulation there, as SVG')
    .option('--small', 'few images, one round: to see that it works, not how fast it is')
    .option('--directory <path>', 'where files are made', tmpdir())
    .action(async (flags: FleetFlags) => {
      const directory = mkdtempSync(join(flags.directory, 'volseal-bench-'));
      try {
        const report = flags.simulate ? await simulated(directory, flags) : await measured(directory, flags);
        console.log(report.lines.join('\n'));
        if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(report.json, null, 2)}\n`);
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
}

interface Report {
  readonly lines: readonly string[];
  readonly json: object;
}

const heading = (): { date: string; machine: ReturnType<typeof describeMachine>; node: string; commit: string } => ({
  date: new Date().toISOString(),
  machine: describeMachine(),
  node: process.version,
  commit: commit(),
});

async function measured(directory: string, { small = false }: FleetFlags): Promise<Report> {
  const plan = small ? SMALL : FULL;
  const rates = await measureEngine(directory, plan);
  const ratios = rates.queue.map((rate, round) => rate / rates.alone[round]!);
  const ratio = median(ratios);
  const json = { benchmark: 'fleet', ...heading(), ...plan, imagesPerSecond: rates, ratio, goal: GOAL };
  const spread = `${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)}`;
  const rows = [
    ['way', 'images a second', 'MiB/s'],
    ...[['2 workers on a queue (Redis)', rates.queue] as const, ['2 processes without an engine', rates.alone] as const].map(
      ([way, all]) => [way, median(all).toFixed(1), ((median(all) * plan.imageBytes) / MIB).toFixed(0)],
    ),
  ];
  return {
    json,
    lines: [
      machineLine(json.machine),
      `${plan.images} images of ${plan.imageBytes / MIB} MiB, medians of ${plan.rounds} rounds in turns`,
      '',
      markdownTable(rows, { align: ['l', 'r', 'r'] }),
      '',
      `with a queue, of the rate without: ${ratio.toFixed(2)} (${spread}), goal ${GOAL}: ${ratio >= GOAL ? 'reached' : 'missed'}`,
    ],
  };
}

async function simulated(directory: string, flags: FleetFlags): Promise<Report> {
  const imageRate = await rateOfThisMachine(directory, flags.small === true);
  const machineRate = Math.min(imageRate, Number(flags.network) * MIB);
  const base = {
    images: Number(flags.images),
    imageBytes: Number(flags.size) * GIB,
    machines: Number(flags.machines),
    machineRate,
    spread: 0.2,
    hoursBetweenDeaths: Number(flags.deaths),
    replaceSeconds: 180,
    lockSeconds: 30,
    seed: Number(flags.seed),
  };
  const scenes: Record<string, FleetPlan> = {
    'shared files': { ...base, resumes: true, requestsPerSecond: undefined, requestBytes: S3_PART_BYTES },
    'objects in S3, one prefix': { ...base, resumes: false, requestsPerSecond: S3_GETS_PER_SECOND, requestBytes: S3_PART_BYTES },
    'EBS snapshots, one account': { ...base, resumes: false, requestsPerSecond: EBS_READS_PER_SECOND, requestBytes: EBS_BLOCK_BYTES },
  };
  const outcomes = Object.entries(scenes).map(([scene, plan]) => ({ scene, plan, outcome: simulateFleet(plan) }));
  const rows = [
    ['images are', 'hours', 'GiB/s', 'busy', 'deaths', 'done again', 'requests/s'],
    ...outcomes.map(({ scene, plan, outcome }) => [
      scene,
      outcome.hours.toFixed(1),
      ((plan.images * plan.imageBytes) / GIB / (outcome.hours * 3600)).toFixed(1),
      `${(100 * outcome.busy).toFixed(0)} %`,
      String(outcome.deaths),
      `${((100 * outcome.repeatedBytes) / (plan.images * plan.imageBytes)).toFixed(2)} %`,
      outcome.peakRequests.toFixed(0),
    ]),
  ];
  if (flags.picture !== undefined) writeFileSync(flags.picture, pictureOf(outcomes));
  const json = { benchmark: 'fleet-simulation', ...heading(), imageRate, scenes: outcomes };
  return {
    json,
    lines: [
      machineLine(json.machine),
      `simulated: ${base.images} images of ${flags.size} GiB on ${base.machines} machines of ${(machineRate / MIB).toFixed(0)} MiB/s ` +
        `(encrypt here: ${(imageRate / MIB).toFixed(0)} MiB/s; their network: ${flags.network} MiB/s)`,
      '',
      markdownTable(rows, { align: ['l', 'r', 'r', 'r', 'r', 'r', 'r'] }),
    ],
  };
}

/** Bytes a second of `encrypt`, the best of three: what the simulated machines can do with a disk like this one's. */
async function rateOfThisMachine(directory: string, isSmall: boolean): Promise<number> {
  const { encryptImage } = await import('../src/index.js');
  const bytes = isSmall ? 8 * MIB : GIB;
  const image = join(directory, 'a.raw');
  writeFileSync(image, Buffer.alloc(bytes, 1));
  const rates: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    const options = { home: join(directory, 'home'), kms: 'embedded', force: true };
    const { dataSeconds } = await encryptImage(image, join(directory, 'a.vol'), options);
    rates.push(bytes / dataSeconds);
  }
  return Math.max(...rates);
}

function pictureOf(outcomes: readonly { scene: string; outcome: FleetOutcome }[]): string {
  const colors = [...BAR_COLORS, LIMIT_COLOR];
  const options: EChartsCoreOption = {
    title: { text: 'A simulated fleet: images done over time', left: 'center' },
    legend: { top: 28 },
    grid: { left: 70, right: 30, top: 64, bottom: 48 },
    xAxis: { type: 'value', name: 'hours', nameLocation: 'middle', nameGap: 28 },
    yAxis: { type: 'value', name: 'images' },
    series: outcomes.map(({ scene, outcome }, index) => ({
      name: scene,
      type: 'line',
      showSymbol: false,
      color: colors[index % colors.length],
      data: outcome.samples.map(({ hours, doneImages }) => [hours, doneImages]),
    })),
  };
  return svgOf(760, 420, options);
}
