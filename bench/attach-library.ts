/** The library's part of the attach benchmark: requests of a volume against `FileHandle` on the same file, in turns. */
import { open } from 'node:fs/promises';
import type { Volume } from '../src/index.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/** One kind of access by one contender, medians over all rounds. */
export interface AttachMeasurement {
  /** `FileHandle.read` and its like, or the volume's call. */
  contender: string;
  direction: 'read' | 'write';
  bytes: number;
  depth: number;
  requestsPerSecond: number;
  /** CPU time of the process a request, microseconds. */
  cpuMicroseconds: number;
  /** Median latency, microseconds. */
  latencyMicroseconds: number;
}

/** How much is measured. */
export interface LibraryPlan {
  rounds: number;
  milliseconds: number;
}

type Access = (offsetBytes: number, lane: number) => Promise<unknown>;
type Contender = readonly [name: string, access: Access];
type Round = Pick<AttachMeasurement, 'requestsPerSecond' | 'cpuMicroseconds' | 'latencyMicroseconds'>;

const CASES = [
  { direction: 'read', bytes: 4 * KIB, depth: 1 },
  { direction: 'read', bytes: 4 * KIB, depth: 32 },
  { direction: 'read', bytes: MIB, depth: 4 },
  { direction: 'write', bytes: 4 * KIB, depth: 32 },
  { direction: 'write', bytes: MIB, depth: 4 },
] as const;

/**
 * All cases, the page cache warm.
 * @param rawPath a plain file of the volume's size, which is overwritten
 */
export async function measureLibrary(volume: Volume, rawPath: string, plan: LibraryPlan): Promise<AttachMeasurement[]> {
  await using file = await open(rawPath, 'w+');
  for (let at = 0; at < volume.sizeBytes; at += MIB) {
    await file.write(Buffer.alloc(MIB, 1), 0, MIB, at);
    await volume.write(at, Buffer.alloc(MIB, 1));
  }
  const measurements: AttachMeasurement[] = [];
  for (const { direction, bytes, depth } of CASES) {
    const buffers = Array.from({ length: depth }, () => Buffer.alloc(bytes, 1));
    const shared = Array.from({ length: depth }, () => new Uint8Array(new SharedArrayBuffer(bytes)));
    const contenders: Contender[] =
      direction === 'read'
        ? [
            ['FileHandle.read', (at, lane) => file.read(buffers[lane]!, 0, bytes, at)],
            ['FileHandle.read, new Buffer', (at) => file.read(Buffer.allocUnsafeSlow(bytes), 0, bytes, at)],
            ['volume.read', (at) => volume.read(at, bytes)],
            ['volume.readInto', (at, lane) => volume.readInto(at, buffers[lane]!)],
            ['volume.readInto, shared', (at, lane) => volume.readInto(at, shared[lane]!)],
          ]
        : [
            ['FileHandle.write', (at, lane) => file.write(buffers[lane]!, 0, bytes, at)],
            ['volume.write', (at, lane) => volume.write(at, buffers[lane]!)],
          ];
    const rounds = new Map<string, Round[]>(contenders.map(([name]) => [name, []]));
    for (let round = 0; round < plan.rounds; round++) {
      for (const [name, access] of contenders)
        rounds.get(name)!.push(await measure(access, bytes, depth, volume.sizeBytes, plan.milliseconds));
    }
    for (const [contender, all] of rounds) measurements.push({ contender, direction, bytes, depth, ...medians(all) });
  }
  return measurements;
}

/** Random offsets, `depth` requests at a time. */
async function measure(access: Access, bytes: number, depth: number, sizeBytes: number, milliseconds: number): Promise<Round> {
  const latencies: number[] = [];
  const places = sizeBytes / bytes;
  let place = 1;
  const cpuBefore = process.cpuUsage();
  const start = performance.now();
  const lane = async (_: unknown, index: number): Promise<void> => {
    do {
      place = (place * 1_103_515_245 + 12_345) % 2_147_483_648;
      const before = performance.now();
      await access((place % places) * bytes, index);
      latencies.push(performance.now() - before);
    } while (performance.now() - start < milliseconds);
  };
  await Promise.all(Array.from({ length: depth }, lane));
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  return {
    requestsPerSecond: latencies.length / seconds,
    cpuMicroseconds: (user + system) / latencies.length,
    latencyMicroseconds: median(latencies) * 1000,
  };
}

const medians = (rounds: readonly Round[]): Round => ({
  requestsPerSecond: median(rounds.map((round) => round.requestsPerSecond)),
  cpuMicroseconds: median(rounds.map((round) => round.cpuMicroseconds)),
  latencyMicroseconds: median(rounds.map((round) => round.latencyMicroseconds)),
});

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
