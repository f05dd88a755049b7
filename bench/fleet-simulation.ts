/**
 * A fleet larger than any machine here, as a simulation: machines that take jobs from a queue, share the quotas of a
 * store, and die now and then. What a machine can do was measured; the quotas are those that AWS documents.
 */

/** What is simulated. Rates are bytes a second. */
export interface FleetPlan {
  readonly images: number;
  readonly imageBytes: number;
  readonly machines: number;
  /** Of one machine alone: the least of disk, cipher and network. */
  readonly machineRate: number;
  /** Machines differ: the slowest has so much less than the fastest. */
  readonly spread: number;
  /** Mean time between two deaths of one machine, in hours. */
  readonly hoursBetweenDeaths: number;
  /** A machine comes back after so long. */
  readonly replaceSeconds: number;
  /** A job of a dead machine waits so long for another one. */
  readonly lockSeconds: number;
  /** Whether a job goes on from its checkpoint (files), or begins again (objects). */
  readonly resumes: boolean;
  /** Requests a second that the store allows for all of them together; undefined for a file system. */
  readonly requestsPerSecond: number | undefined;
  /** Bytes of one such request. */
  readonly requestBytes: number;
  readonly seed: number;
}

/** The state at one moment. */
export interface Sample {
  readonly hours: number;
  readonly bytesPerSecond: number;
  readonly doneImages: number;
}

/** What came out. */
export interface FleetOutcome {
  readonly hours: number;
  readonly deaths: number;
  /** Bytes that were moved again because a machine had died. */
  readonly repeatedBytes: number;
  /** Of all machines' time, the part in which they moved data. */
  readonly busy: number;
  /** The most requests a second. */
  readonly peakRequests: number;
  readonly samples: readonly Sample[];
}

interface Job {
  leftBytes: number;
  /** When it may be taken. */
  readySeconds: number;
}

interface Machine {
  readonly rate: number;
  job: Job | undefined;
  /** Next death; then back at `backSeconds`. */
  diesSeconds: number;
  backSeconds: number;
}

/** A checkpoint is written so often; what came after the last one is done again. */
const CHECKPOINT_SECONDS = 2;
const SAMPLES = 200;

/** Runs the simulation in steps from one event to the next; the seed alone decides it. */
export function simulateFleet(plan: FleetPlan): FleetOutcome {
  const random = generator(plan.seed);
  const exponential = (mean: number): number => -mean * Math.log(1 - random());
  const deathSeconds = plan.hoursBetweenDeaths * 3600;
  const machines: Machine[] = Array.from({ length: plan.machines }, () => ({
    rate: plan.machineRate * (1 - plan.spread * random()),
    job: undefined,
    diesSeconds: exponential(deathSeconds),
    backSeconds: 0,
  }));
  const waiting: Job[] = Array.from({ length: plan.images }, () => ({ leftBytes: plan.imageBytes, readySeconds: 0 }));
  const shared = plan.requestsPerSecond === undefined ? Number.POSITIVE_INFINITY : plan.requestsPerSecond * plan.requestBytes;
  const samples: Sample[] = [];
  let [now, done, deaths, repeatedBytes, busySeconds, peak] = [0, 0, 0, 0, 0, 0];
  while (done < plan.images) {
    for (const machine of machines) {
      if (machine.job === undefined && machine.backSeconds <= now) {
        const index = waiting.findIndex(({ readySeconds }) => readySeconds <= now);
        if (index !== -1) [machine.job] = waiting.splice(index, 1);
      }
    }
    const active = machines.filter(({ job }) => job !== undefined);
    const wanted = active.reduce((sum, { rate }) => sum + rate, 0);
    // Everybody gets the same part of what they could do.
    const share = wanted > shared ? shared / wanted : 1;
    peak = Math.max(peak, (wanted * share) / plan.requestBytes);
    samples.push({ hours: now / 3600, bytesPerSecond: wanted * share, doneImages: done });
    const events = [
      ...active.map(({ job, rate }) => now + job!.leftBytes / (rate * share)),
      ...machines.map(({ diesSeconds }) => diesSeconds),
      ...machines.filter(({ backSeconds }) => backSeconds > now).map(({ backSeconds }) => backSeconds),
      ...waiting.filter(({ readySeconds }) => readySeconds > now).map(({ readySeconds }) => readySeconds),
    ];
    const next = Math.min(...events);
    for (const machine of active) machine.job!.leftBytes -= machine.rate * share * (next - now);
    busySeconds += active.length * (next - now);
    now = next;
    for (const machine of machines) {
      const { job } = machine;
      if (job !== undefined && job.leftBytes <= 1) {
        done += 1;
        machine.job = undefined;
      }
      if (machine.diesSeconds > now) continue;
      deaths += 1;
      machine.backSeconds = now + plan.replaceSeconds;
      machine.diesSeconds = machine.backSeconds + exponential(deathSeconds);
      if (machine.job === undefined) continue;
      const doneBytes = plan.imageBytes - machine.job.leftBytes;
      const lost = plan.resumes ? Math.min(doneBytes, machine.rate * share * CHECKPOINT_SECONDS) : doneBytes;
      repeatedBytes += lost;
      waiting.push({ leftBytes: machine.job.leftBytes + lost, readySeconds: now + plan.lockSeconds });
      machine.job = undefined;
    }
  }
  samples.push({ hours: now / 3600, bytesPerSecond: 0, doneImages: done });
  const every = Math.max(1, Math.floor(samples.length / SAMPLES));
  return {
    hours: now / 3600,
    deaths,
    repeatedBytes,
    busy: busySeconds / (now * plan.machines),
    peakRequests: peak,
    samples: samples.filter((_, index) => index % every === 0 || index === samples.length - 1),
  };
}

/** Numbers from 0 to 1 (mulberry32), which the seed alone decides. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
