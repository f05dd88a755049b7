/** The turns of the NBD part: all servers run side by side, and one of them at a time has work. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { median, shuffled, spread } from '../src/bench/sampling.js';
import { makeImage } from './image-files.js';
import { ACCESSES, type Access, type AccessContext, type AccessPlan, copyName, manyClients, syncedWrites } from './nbd-accesses.js';
import { type NbdMeasurement, type NbdReport, PLAIN_FILE, PLAIN_SYNCED } from './nbd-report.js';
import { type RunningServer, SERVERS, type ServerKind, type ServerPlace, startServer } from './nbd-servers.js';
import type { Surroundings } from './timed-process.js';

/** More say nothing new about servers that take most of a run. */
const SLOW_ROUNDS = 3;

export interface NbdPlan extends AccessPlan {
  rounds: number;
}

interface Started {
  kind: ServerKind;
  running: RunningServer;
}

/**
 * Measures in `directory`.
 * @throws {Error} where a client is missing or failed; a server that cannot be started is absent
 */
export async function measureNbd(directory: string, plan: NbdPlan, surroundings: Omit<Surroundings, 'timesFile'>): Promise<NbdReport> {
  const within: Surroundings = { ...surroundings, timesFile: join(directory, 'times') };
  const files = join(directory, 'nbd');
  const source = join(files, 'image');
  makeImage({ directory: files, image: source, imageBytes: plan.sizeBytes, dataBytes: plan.sizeBytes, surroundings: within });
  const place: ServerPlace = { directory: files, sizeBytes: plan.sizeBytes, surroundings: within };
  const context: AccessContext = { plan, source, surroundings: within };
  const started: Started[] = [];
  const absent: NbdReport['absent'] = [];
  try {
    for (const kind of SERVERS) {
      try {
        started.push({ kind, running: await startServer(kind, place) });
      } catch (error) {
        surroundings.signal.throwIfAborted();
        absent.push({ server: kind.name, reason: (error as Error).message });
      }
    }
    // No later access finds a hole, or a sector that was never written.
    const fill = ACCESSES.find(({ name }) => name === copyName('write', 4))!;
    for (const { running } of started) await fill.run(running, context);
    const measurements = await takeTurns(started, context, plan.rounds);
    for (const { running } of started) await manyClients(running, context);
    const memory = started.map(({ kind, running }) => ({ server: kind.name, peakBytes: running.peakBytes() }));
    return { sizeBytes: plan.sizeBytes, measurements, memory, absent };
  } finally {
    await Promise.all(started.map(({ running }) => running.end()));
    rmSync(files, { recursive: true, force: true });
  }
}

interface Turns extends Pick<NbdMeasurement, 'server' | 'access' | 'figure' | 'scene'> {
  mostRounds: number;
  take: () => Promise<number>;
  taken: number[];
}

async function takeTurns(started: readonly Started[], context: AccessContext, rounds: number): Promise<NbdMeasurement[]> {
  const fields = ACCESSES.map((access) =>
    started.filter(({ kind }) => access.isCold || !kind.isColdOnly).map((server) => turnsOf(server, access, context)),
  );
  const plain: Turns = {
    ...{ server: PLAIN_FILE, access: PLAIN_SYNCED, figure: 'requestsPerSecond', scene: 'warm', mostRounds: rounds },
    take: () => syncedWrites(context.source, context),
    taken: [],
  };
  fields.push([plain]);
  for (let round = 0; round < rounds; round++) {
    // Those that are compared follow each other closely.
    for (const field of fields) {
      for (const index of shuffled(field.length)) {
        const { take, taken, mostRounds } = field[index]!;
        if (round < mostRounds) taken.push(await take());
      }
    }
  }
  return fields.flat().map(({ server, access, figure, scene, taken }) => ({
    ...{ server, access, figure, scene, rounds: taken.length },
    median: median(taken),
    spread: spread(taken),
  }));
}

const turnsOf = ({ kind, running }: Started, access: Access, context: AccessContext): Turns => ({
  server: kind.name,
  access: access.name,
  figure: access.figure,
  scene: access.isCold ? 'cold' : 'warm',
  mostRounds: kind.isSlow ? SLOW_ROUNDS : Number.POSITIVE_INFINITY,
  take: () => access.run(running, context),
  taken: [],
});
