/** The turns of a run, and what they say. */
import { rmSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { median, shuffled } from '../src/bench/sampling.js';
import { type ImageContender, sparseImage, startUp, type Turn, takeTurn, wholeImages } from './image-contenders.js';
import { type ImageFiles, makeImage } from './image-files.js';
import { type ImageAbsence, type ImageMeasurement, type ImageSubject, imagesLike, LIMITS } from './image-report.js';
import type { Surroundings } from './timed-process.js';

const MIB = 1024 * 1024;
/** Of the larger image: the image, its volumes, old and new targets at once. */
const COPIES_AT_ONCE = 8;

export interface ImagePlan {
  /** The larger is what targets are about; rounds are those that count. */
  whole: readonly { imageBytes: number; rounds: number }[];
  sparse: { imageBytes: number; dataBytes: number; rounds: number };
  startRounds: number;
  sectorSizes: readonly number[];
  /** One round more, which does not count. */
  warmsUp: boolean;
  /** No round begins that would not end before this time is over; the first that counts always does. */
  budgetMs: number;
}

export interface ImageRun {
  surroundings: Omit<Surroundings, 'timesFile'>;
  /** How far it has come, in seconds as they were estimated, and who is next. */
  onTurn: (done: number, total: number, name: string) => void;
}

/** Contenders with files of their own, which are there only while they have their turns. */
export interface Field {
  files: ImageFiles;
  contenders: ImageContender[];
  rounds: number;
}

/** Files of a field in a directory of its own. */
export function filesIn(
  parent: string,
  name: string,
  sizes: Pick<ImageFiles, 'imageBytes' | 'dataBytes'>,
  surroundings: Surroundings,
): ImageFiles {
  const directory = join(parent, name);
  return { directory, image: join(directory, 'image'), ...sizes, surroundings };
}

function fieldsOf(plan: ImagePlan, directory: string, surroundings: Surroundings): Field[] {
  const filesAt = (name: string, imageBytes: number, dataBytes: number): ImageFiles =>
    filesIn(directory, name, { imageBytes, dataBytes }, surroundings);
  const field = (files: ImageFiles, contendersAt: (files: ImageFiles) => ImageContender[], rounds: number): Field => ({
    files,
    contenders: contendersAt(files),
    rounds,
  });
  return [
    field(filesAt('start', MIB, MIB), startUp, plan.startRounds),
    field(filesAt('sparse', plan.sparse.imageBytes, plan.sparse.dataBytes), sparseImage, plan.sparse.rounds),
    ...plan.whole.map(({ imageBytes, rounds }) =>
      field(filesAt(`whole-${imageBytes}`, imageBytes, imageBytes), (files) => wholeImages(files, plan.sectorSizes), rounds),
    ),
  ];
}

/** Of one turn, what is not timed included, on a disk that writes 1.5 GB/s. */
const turnSeconds = ({ dataBytes }: ImageFiles): number => 0.4 + dataBytes / 0.7e9;

const roundsOf = ({ mostRounds = Number.POSITIVE_INFINITY }: ImageContender, { rounds }: Field, warmsUp: boolean): number =>
  Math.min(mostRounds, rounds) + (warmsUp ? 1 : 0);

const secondsOf = (field: Field, warmsUp: boolean): number =>
  field.contenders.reduce((sum, contender) => sum + roundsOf(contender, field, warmsUp), 0) * turnSeconds(field.files);

/** How long a run will take. */
export function estimatedSeconds(plan: ImagePlan): number {
  const nowhere: Surroundings = { env: {}, signal: new AbortController().signal, timesFile: '' };
  return fieldsOf(plan, '', nowhere).reduce((sum, field) => sum + secondsOf(field, plan.warmsUp), 0);
}

interface Turns {
  contender: ImageContender;
  spent: Turn[];
  /** Of one turn, with what it prepares. */
  longestMs: number;
  allocatedBytes: number | null;
  /** Why it has no turns. */
  reason?: string;
}

export interface ImageResults {
  measurements: ImageMeasurement[];
  absent: ImageAbsence[];
}

/**
 * Measures in `directory`, which must be empty. A contender that fails in its first turn is absent; one that fails
 * later ends the run.
 *
 * @throws {Error} where the disk has too little space, or a contender failed
 */
export async function measureImages(directory: string, plan: ImagePlan, run: ImageRun): Promise<ImageResults> {
  checkRoom(directory, COPIES_AT_ONCE * Math.max(...plan.whole.map(({ imageBytes }) => imageBytes)));
  return measureFields(fieldsOf(plan, directory, surroundingsIn(directory, run)), plan, run);
}

/** With the file for times in `directory`. */
export const surroundingsIn = (directory: string, { surroundings }: ImageRun): Surroundings => ({
  ...surroundings,
  timesFile: join(directory, 'times'),
});

/** The turns of `fields`, one field after the other. @throws {Error} as `measureImages` */
export async function measureFields(
  fields: readonly Field[],
  plan: Pick<ImagePlan, 'warmsUp' | 'budgetMs'>,
  { onTurn }: Pick<ImageRun, 'onTurn'>,
): Promise<ImageResults> {
  const deadlineMs = performance.now() + plan.budgetMs;
  const totalSeconds = fields.reduce((sum, field) => sum + secondsOf(field, plan.warmsUp), 0);
  const results: Turns[] = [];
  let doneSeconds = 0;
  for (const field of fields) {
    onTurn(doneSeconds, totalSeconds, 'making files');
    makeImage(field.files);
    const onOne = (name: string): void => {
      onTurn(doneSeconds, totalSeconds, name);
      doneSeconds += turnSeconds(field.files);
    };
    results.push(...(await takeTurns(field, { warmsUp: plan.warmsUp, deadlineMs, onOne })));
    rmSync(field.files.directory, { recursive: true });
  }
  return summary(results);
}

/** @throws {Error} where so many bytes have no room */
export function checkRoom(directory: string, neededBytes: number): void {
  const { bavail, bsize } = statfsSync(directory);
  const [neededMib, freeMib] = [neededBytes, bavail * bsize].map((bytes) => Math.floor(bytes / MIB)) as [number, number];
  if (freeMib < neededMib) throw new Error(`${directory}: needs ${neededMib} MiB and has ${freeMib}: give another one with --directory`);
}

interface Pace {
  warmsUp: boolean;
  deadlineMs: number;
  /** Called before each turn. */
  onOne: (name: string) => void;
}

async function takeTurns(field: Field, { warmsUp, deadlineMs, onOne }: Pace): Promise<Turns[]> {
  const all = field.contenders.map((contender): Turns => ({ contender, spent: [], longestMs: 0, allocatedBytes: null }));
  for (let round = warmsUp ? 0 : 1; round <= field.rounds; round++) {
    const taking = all.filter(({ contender, reason }) => reason === undefined && round <= roundsOf(contender, field, false));
    const expectedMs = taking.reduce((sum, { longestMs }) => sum + longestMs, 0);
    // Later ones may have fewer contenders, and fit.
    if (round > 1 && performance.now() + expectedMs > deadlineMs) continue;
    for (const index of shuffled(taking.length)) {
      const turns = taking[index]!;
      const startedMs = performance.now();
      onOne(turns.contender.subject.name);
      await takeOne(turns, field.files, round > 0);
      turns.longestMs = Math.max(turns.longestMs, performance.now() - startedMs);
    }
  }
  return all;
}

async function takeOne(turns: Turns, files: ImageFiles, counts: boolean): Promise<void> {
  const { contender, spent } = turns;
  try {
    const turn = await takeTurn(contender, files);
    if (counts) spent.push(turn);
    if (contender.target !== undefined) turns.allocatedBytes = statSync(contender.target).blocks * 512;
  } catch (error) {
    files.surroundings.signal.throwIfAborted();
    const { name, scene } = contender.subject;
    if (turns.allocatedBytes !== null || spent.length > 0)
      throw new Error(`${name} (${scene}) ran before, and now failed`, { cause: error });
    turns.reason = (error as Error).message;
  } finally {
    if (contender.target !== undefined && !contender.keepsTarget) rmSync(contender.target, { force: true });
  }
}

function summary(all: readonly Turns[]): ImageResults {
  const measured = all.filter(({ spent }) => spent.length > 0).map(measurementOf);
  return {
    measurements: measured.map((measurement) => withLimit(measurement, measured)),
    absent: all.flatMap(({ contender, reason }) => (reason === undefined ? [] : [{ ...contender.subject, reason }])),
  };
}

function measurementOf({ contender: { subject }, spent, allocatedBytes }: Turns): ImageMeasurement {
  const seconds = spent.map((turn) => turn.seconds);
  const dataSeconds = spent.flatMap((turn) => turn.dataSeconds ?? []);
  const hasRate = subject.scene !== 'sparse' && subject.scene !== 'start';
  return {
    ...subject,
    rounds: spent.length,
    seconds: { median: median(seconds), min: Math.min(...seconds), max: Math.max(...seconds) },
    gbps: hasRate ? subject.imageBytes / 1e9 / median(seconds) : null,
    dataGbps: hasRate && dataSeconds.length > 0 ? subject.imageBytes / 1e9 / median(dataSeconds) : null,
    limit: null,
    ratio: null,
    dataRatio: null,
    cpuSeconds: median(spent.map((turn) => turn.cpuSeconds)),
    maxRssBytes: Math.max(...spent.map((turn) => turn.maxRssBytes)),
    allocatedBytes,
  };
}

/** By the clock of its data alone where volseal is held against itself. */
const limitOf = ({ scene, gbps, dataGbps }: ImageMeasurement): number => (scene === 'newKey' ? (dataGbps ?? gbps!) : gbps!);

function withLimit(measurement: ImageMeasurement, all: readonly ImageMeasurement[]): ImageMeasurement {
  const { scene, imageBytes, gbps, dataGbps, sectorBytes } = measurement;
  const wanted: Partial<ImageSubject> = { scene, imageBytes, name: LIMITS[scene] ?? '' };
  const limits = imagesLike(all, wanted);
  const limit = limits.find((each) => each.sectorBytes === sectorBytes) ?? limits.find((each) => each.sectorBytes === null);
  if (limit?.gbps == null || gbps === null) return measurement;
  const dataRatio = dataGbps === null ? null : dataGbps / limitOf(limit);
  return { ...measurement, limit: limit.name, ratio: gbps / limit.gbps, dataRatio };
}
