/** The queue of a fleet: submits jobs, says how they are, retries and cancels them. */
import { createHash } from 'node:crypto';
import type { Job, Queue, Worker, WorkerOptions } from 'bullmq';
import canonicalize from 'canonicalize';
import { VolsealError } from '../../errors.js';
import type { RangeOrder } from '../ranges.js';
import type { JobOutcome } from '../run-job.js';
import { identityOf, type JobKind, type JobSpec } from '../spec.js';
import { type Backend, openBackend, refusedBy } from './connection.js';
import type { QueuedJob } from './queued-job.js';

/** A range of a job that has failed for good. */
export interface RangeFailure {
  readonly index: number;
  readonly reason: string;
}

/** Which queue. */
export interface QueueOptions {
  /** `redis://HOST:PORT` or `postgres://HOST/DATABASE`. */
  url: string;
  /** Several queues on one server have names. Default: `default`. */
  name?: string | undefined;
}

/** A try after a failure that passes: 6 in all, after 2 to 32 s, with half of that at random. */
const ATTEMPTS = 6;
const BACKOFF_MS = 2_000;
/** Finished jobs are kept for a look at them: so long, and so many. */
const KEEP_DONE = { age: 7 * 24 * 3600, count: 100_000 };
const KEEP_FAILED = { age: 30 * 24 * 3600, count: 100_000 };
const BATCH = 1_000;
const NAME = /^[A-Za-z0-9._-]{1,64}$/;

/** How the jobs of a queue are. */
export interface FleetStatus {
  /** Jobs by state, and ranges like jobs until they are done. `delayed` wait for another attempt. */
  counts: { waiting: number; active: number; delayed: number; done: number; failed: number };
  /** What workers are at. */
  active: {
    kind: JobKind;
    source: string;
    /** Where it is one range of an image: which one, from 0, and how many there are. */
    range?: { index: number; count: number };
    worker: string;
    doneBytes: number;
    totalBytes: number;
  }[];
  /** Jobs that wait for their ranges, and how many of these are done. */
  inRanges: { kind: JobKind; source: string; done: number; count: number }[];
  /** Failed jobs by the code of their error. */
  failures: Record<string, number>;
  /** The last failed ones, in words. */
  lastFailures: { kind: JobKind; source: string; reason: string }[];
  /** Of the jobs that were done lately: images and bytes a second. Null before there are two. */
  rate: { jobsPerSecond: number; bytesPerSecond: number } | null;
  /** Seconds until the queue is empty at that rate; null where there is none. */
  secondsLeft: number | null;
}

/** The name of a queue at its server. @throws {VolsealError} `ERR_ARGUMENT` */
function queueName(name = 'default'): string {
  if (NAME.test(name)) return `volseal-${name}`;
  throw new VolsealError(
    'ERR_ARGUMENT',
    `${JSON.stringify(name)} is no name of a queue: expected up to 64 letters, digits, dots and dashes`,
  );
}

/** The same job of the same run is one job of the queue, in ranges or not. */
const queueIdOf = ({ run, spec }: QueuedJob): string =>
  createHash('sha256')
    .update(canonicalize([run, identityOf(spec)])!)
    .digest('hex');

/** A queue that is open; whoever opened it closes it. Its methods throw `ERR_QUEUE_*`. */
export class FleetQueue {
  readonly #backend: Backend;
  readonly #queue: Queue<QueuedJob, JobOutcome>;

  private constructor(backend: Backend, queue: Queue<QueuedJob, JobOutcome>) {
    this.#backend = backend;
    this.#queue = queue;
    // What its calls throw is enough.
    queue.on('error', () => {});
  }

  /** @throws {VolsealError} as `openBackend`; `ERR_ARGUMENT` */
  static async open({ url, name }: QueueOptions): Promise<FleetQueue> {
    const full = queueName(name);
    const backend = await openBackend(url);
    const queue = backend.makeQueue<QueuedJob, JobOutcome>(full, {
      defaultJobOptions: {
        attempts: ATTEMPTS,
        backoff: { type: 'exponential', delay: BACKOFF_MS, jitter: 0.5 },
        removeOnComplete: KEEP_DONE,
        removeOnFail: KEEP_FAILED,
        stackTraceLimit: 0,
      },
    });
    const opened = new FleetQueue(backend, queue);
    try {
      await queue.waitUntilReady();
    } catch (error) {
      await opened.close();
      throw refusedBy(error, backend.name);
    }
    return opened;
  }

  /**
   * Adds jobs; one that the queue has already, done or not, is known and stays as it is.
   * @returns how many of each
   */
  async submit(specs: readonly JobSpec[], run: string): Promise<{ added: number; known: number }> {
    return this.#call(async () => {
      let known = 0;
      for (let first = 0; first < specs.length; first += BATCH) {
        const jobs = specs.slice(first, first + BATCH).map((spec) => {
          const data: QueuedJob = { version: 1, run, spec };
          return { name: spec.kind, data, opts: { jobId: queueIdOf(data) } };
        });
        const found = await Promise.all(jobs.map(({ opts: { jobId } }) => this.#queue.getJob(jobId)));
        known += found.filter((job) => job !== undefined).length;
        await this.#queue.addBulk(jobs);
      }
      return { added: specs.length - known, known };
    });
  }

  /** How its jobs are. */
  async status(): Promise<FleetStatus> {
    return this.#call(async () => {
      const queue = this.#queue;
      const [counts, active, parents, failed, done] = await Promise.all([
        queue.getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'waiting-children', 'completed', 'failed'),
        queue.getActive(0, BATCH - 1),
        queue.getWaitingChildren(0, BATCH - 1),
        queue.getFailed(0, BATCH - 1),
        queue.getCompleted(0, BATCH - 1),
      ]);
      const count = (name: string): number => counts[name] ?? 0;
      const rate = rateOf(done);
      const rangesLeft = await Promise.all(
        parents.map(async (job) => (await job.getDependenciesCount({ unprocessed: true })).unprocessed ?? 0),
      );
      const isOfJob = count('waiting') + count('prioritized') + count('active') + count('delayed');
      // A job whose ranges are under way is one, however many they are.
      const left = isOfJob + count('waiting-children') - rangesLeft.reduce((sum, ranges) => sum + ranges, 0);
      const failures: Record<string, number> = {};
      for (const { failedReason } of failed) {
        // BullMQ has words of its own for a job that every worker has lost.
        const code = /^([A-Z_]+): /.exec(failedReason ?? '')?.[1] ?? (/stalled/.test(failedReason ?? '') ? 'STALLED' : 'UNKNOWN');
        failures[code] = (failures[code] ?? 0) + 1;
      }
      return {
        counts: {
          waiting: count('waiting') + count('prioritized'),
          active: count('active'),
          delayed: count('delayed'),
          done: count('completed'),
          failed: count('failed'),
        },
        active: active.map(({ data, progress, processedBy }) => ({
          ...nameOf(data),
          ...(data.range === undefined ? {} : { range: { index: data.range.index, count: data.range.count } }),
          worker: processedBy ?? '',
          ...progressOf(progress),
        })),
        inRanges: parents.map(({ data }, index) => {
          const total = data.ranges?.count ?? 0;
          return { ...nameOf(data), done: Math.max(0, total - rangesLeft[index]!), count: total };
        }),
        failures,
        lastFailures: failed.slice(0, 10).map(({ data, failedReason }) => ({ ...nameOf(data), reason: failedReason ?? '' })),
        rate,
        secondsLeft: rate === null || rate.jobsPerSecond === 0 ? null : left / rate.jobsPerSecond,
      };
    });
  }

  /** Gives every failed job its attempts again. @returns how many */
  async retry(): Promise<number> {
    return this.#call(async () => {
      let count = 0;
      for (let jobs = await this.#queue.getFailed(0, BATCH - 1); jobs.length > 0; jobs = await this.#queue.getFailed(0, BATCH - 1)) {
        for (const job of jobs) {
          const { isCancelled: _, ranges, ...data } = job.data;
          // Of those ranges, some may have been cancelled.
          await job.updateData({ ...data, ...(ranges === undefined ? {} : { ranges: { ...ranges, round: ranges.round + 1 } }) });
          await job.retry('failed', { resetAttemptsMade: true, resetAttemptsStarted: true });
        }
        count += jobs.length;
      }
      return count;
    });
  }

  /**
   * Removes what waits, and tells the workers to stop what they are at; what was done of that is removed as well.
   * @returns how many of each
   */
  async cancel(): Promise<{ removed: number; stopping: number }> {
    return this.#call(async () => {
      const queue = this.#queue;
      // First: one whose last range is removed would run, and add ranges again.
      const parents = await queue.getWaitingChildren();
      for (const job of parents) await job.updateData({ ...job.data, isCancelled: true });
      const { waiting = 0, prioritized = 0, delayed = 0 } = await queue.getJobCounts('waiting', 'prioritized', 'delayed');
      await queue.drain(true);
      const active = await queue.getActive();
      for (const job of active) await job.updateData({ ...job.data, isCancelled: true });
      const isUnderWay = new Set(active.map(({ parent }) => parent?.id));
      const idle = parents.filter(({ id }) => !isUnderWay.has(id));
      // One that a worker has taken meanwhile ends there: it is marked.
      await Promise.all(idle.map((job) => job.remove({ removeChildren: true }).catch(() => {})));
      return { removed: waiting + prioritized + delayed + idle.length, stopping: active.length };
    });
  }

  /**
   * Adds jobs for ranges of a job, which then can wait for them; they are taken before other jobs. Adding them again
   * adds those that are not there.
   * @param round another number for each time that ranges are added anew
   */
  async addRanges(
    { id, data: { version, run, spec } }: Job<QueuedJob, JobOutcome>,
    round: number,
    ranges: readonly RangeOrder[],
  ): Promise<void> {
    await this.#call(async () => {
      const parent = { id: id!, queue: this.#queue.qualifiedName };
      // A failed one is told to its parent at once, and nothing of it is kept beside that.
      const opts = { parent, continueParentOnFailure: true, removeOnComplete: true, removeOnFail: true, lifo: true };
      // The last one that is added is the first one that is taken.
      const reversed = [...ranges].reverse();
      for (let first = 0; first < reversed.length; first += BATCH) {
        await this.#queue.addBulk(
          reversed.slice(first, first + BATCH).map((range) => {
            const own: QueuedJob = { version, run, spec, range };
            return { name: 'range', data: own, opts: { ...opts, jobId: `${rangesIn(id!, round)}${range.index}` } };
          }),
        );
      }
    });
  }

  /** The ranges of this round that have failed for good, as they are told to a job that waited for them. */
  async rangeFailures(job: Job<QueuedJob, JobOutcome>, round: number): Promise<RangeFailure[]> {
    return this.#call(async () =>
      Object.entries(await job.getIgnoredChildrenFailures()).flatMap(([key, reason]) => {
        const [, index] = key.split(rangesIn(job.id!, round));
        return index === undefined ? [] : [{ index: Number(index), reason: String(reason) }];
      }),
    );
  }

  /** Whether somebody has cancelled the job. */
  async isCancelled(queueId: string): Promise<boolean> {
    return this.#call(async () => (await this.#queue.getJob(queueId))?.data.isCancelled === true);
  }

  /** Whether nothing waits, is under way or will be tried again. */
  async isEmpty(): Promise<boolean> {
    return this.#call(async () => {
      const counts = await this.#queue.getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'waiting-children');
      return Object.values(counts).every((count) => count === 0);
    });
  }

  /**
   * A worker of this queue, on its connection; the caller closes it before the queue.
   * @param run does a job, with the token of its lock
   */
  makeWorker(
    run: (job: Job<QueuedJob, JobOutcome>, token?: string) => Promise<JobOutcome>,
    options: Omit<WorkerOptions, 'connection'>,
  ): Worker<QueuedJob, JobOutcome> {
    return this.#backend.makeWorker<QueuedJob, JobOutcome>(this.#queue.name, run, options);
  }

  /** BullMQ, for its errors that have a meaning to it. */
  get bullmq(): typeof import('bullmq') {
    return this.#backend.bullmq;
  }

  /** What the server said, as an error of ours. */
  refusedBy(error: unknown): unknown {
    return refusedBy(error, this.#backend.name);
  }

  /** Never throws. */
  async close(): Promise<void> {
    await this.#queue.close().catch(() => {});
    await this.#backend.close().catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #call<T>(calling: () => Promise<T>): Promise<T> {
    try {
      return await calling();
    } catch (error) {
      throw this.refusedBy(error);
    }
  }
}

/** What the ids of the jobs for the ranges of a round begin with; the index of the range follows. */
const rangesIn = (parentId: string, round: number): string => `${parentId}-${round}-`;

const nameOf = ({ spec }: QueuedJob): { kind: JobKind; source: string } => ({ kind: spec.kind, source: spec.source });

function progressOf(progress: unknown): { doneBytes: number; totalBytes: number } {
  const { doneBytes, totalBytes } = (typeof progress === 'object' ? (progress ?? {}) : {}) as Partial<Record<string, unknown>>;
  return { doneBytes: Number(doneBytes ?? 0), totalBytes: Number(totalBytes ?? 0) };
}

/** From the end of the earliest to that of the latest of them. */
function rateOf(done: readonly Job<QueuedJob, JobOutcome>[]): FleetStatus['rate'] {
  const ends = done.flatMap(({ finishedOn }) => (finishedOn === undefined ? [] : [finishedOn]));
  const seconds = (Math.max(...ends) - Math.min(...ends)) / 1000;
  if (ends.length < 2 || seconds <= 0) return null;
  const bytes = done.reduce((sum, { returnvalue }) => sum + (returnvalue?.outcome === 'done' ? returnvalue.imageBytes : 0), 0);
  return { jobsPerSecond: (ends.length - 1) / seconds, bytesPerSecond: bytes / seconds };
}
