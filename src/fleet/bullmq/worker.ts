/** A worker of a fleet: takes jobs from the queue and runs them, until it is told to stop. */
import type { Job } from 'bullmq';
import { messageOf, VolsealError } from '../../errors.js';
import { throwIfAborted } from '../../workers/abort.js';
import { workerName } from '../claim.js';
import { type JobOutcome, type RunJobOptions, runJob } from '../run-job.js';
import type { JobKind } from '../spec.js';
import { type Verdict, verdictOf } from '../verdict.js';
import { FleetQueue, type QueueOptions } from './queue.js';
import { checkQueued, type QueuedJob } from './queued-job.js';
import { runInRanges, WaitsForRanges } from './range-jobs.js';

/** Which job it is, of those that a worker is at. */
export interface ReportedJob {
  readonly queueId: string;
  /** `range`: one range of the image of a job. */
  readonly kind: JobKind | 'range';
  readonly source: string;
  /** Which range it is, from 0. */
  readonly range?: number | undefined;
}

/** What a worker tells of its work. */
export interface WorkerReports {
  /** A job begins. `attempt` counts from 1. */
  onStart?(job: ReportedJob & { attempt: number }): void;
  /** A job was done. */
  onDone?(job: ReportedJob, outcome: JobOutcome): void;
  /** A job waits for its ranges: so many of so many are left. It begins once more when they are done. */
  onRanges?(job: ReportedJob, ranges: { left: number; count: number }): void;
  /** An attempt failed. */
  onFailed?(job: ReportedJob, failure: { code: string; message: string; verdict: Verdict }): void;
  /** The connection to the queue has a problem; it is tried again. */
  onTrouble?(message: string): void;
}

/** Options of `workJobs`. */
export interface WorkOptions extends QueueOptions, Pick<RunJobOptions, 'home' | 'kms' | 'store' | 'onWarning'> {
  /** Jobs at once. Default: 1, which uses the whole machine where images are large. */
  concurrency?: number | undefined;
  /** A worker that gives no sign for so long has lost its jobs to others. Default: 30. */
  lockSeconds?: number | undefined;
  /** Ends when the queue is empty, instead of waiting for more. */
  untilEmpty?: boolean | undefined;
  /** Ends the worker: what it is at goes back into the queue, and what was done of it is kept. */
  signal?: AbortSignal | undefined;
  /** What it tells of its work. */
  reports?: WorkerReports | undefined;
}

/** So often a worker reports progress, and looks whether its job was cancelled. */
const REPORT_MS = 2_000;
const EMPTY_CHECK_MS = 500;
const TROUBLE_MS = 10_000;
/** So long a job waits for a worker that still has the lock of a range that others have done. */
const BUSY_MS = 5_000;
/** A job whose workers have lost their locks so often is what kills them. */
const STALLS_MAX = 25;

/**
 * Works on the jobs of a queue. A job whose lock is lost is stopped; one of a worker that died goes to another, which
 * resumes it. What fails for good is not tried again.
 *
 * @returns how many were done and how many failed for good; ranges are no jobs
 * @throws {VolsealError} `ERR_QUEUE_*`, `ERR_REQUIREMENT`, `ERR_ARGUMENT`
 */
export async function workJobs(options: WorkOptions): Promise<{ done: number; failed: number }> {
  const { concurrency = 1, lockSeconds = 30, signal, reports = {} } = options;
  const counts = { done: 0, failed: 0 };
  await using queue = await FleetQueue.open(options);
  const stopping = new AbortController();
  const running = new Running(queue, options, stopping.signal);
  const worker = queue.makeWorker(running.process, {
    concurrency,
    name: workerName(),
    lockDuration: lockSeconds * 1000,
    stalledInterval: lockSeconds * 1000,
    maxStalledCount: STALLS_MAX,
    autorun: false,
  });
  const tell = seldom((message) => reports.onTrouble?.(message));
  worker.on('error', (error) => tell(messageOf(queue.refusedBy(error))));
  // BullMQ goes on with such a job; two workers would be at it.
  worker.on('lockRenewalFailed', (queueIds) => {
    for (const queueId of queueIds) running.loseLock(queueId);
  });
  worker.on('completed', ({ data }) => {
    if (data.range === undefined) counts.done += 1;
  });
  worker.on('failed', (job, error) => {
    if (job?.data.range !== undefined) return;
    if (error.name === 'UnrecoverableError' || (job !== undefined && job.finishedOn !== undefined)) counts.failed += 1;
  });
  const ended = waitForEnd(queue, options.untilEmpty === true, signal);
  const run = worker.run().catch((error: unknown) => reports.onTrouble?.(messageOf(error)));
  try {
    await ended;
  } finally {
    stopping.abort();
    await worker.close();
    await run;
  }
  return counts;
}

/** A server that is away fails hundreds of calls a second: the same message counts once in a while. */
function seldom(tell: (message: string) => void): (message: string) => void {
  const toldMs = new Map<string, number>();
  return (message) => {
    const now = Date.now();
    if (now - (toldMs.get(message) ?? 0) < TROUBLE_MS) return;
    if (toldMs.size > 100) toldMs.clear();
    toldMs.set(message, now);
    tell(message);
  };
}

async function waitForEnd(queue: FleetQueue, untilEmpty: boolean, signal: AbortSignal | undefined): Promise<void> {
  const { setTimeout: sleep } = await import('node:timers/promises');
  while (signal?.aborted !== true) {
    // A server that is away for a moment is not the end.
    if (untilEmpty && (await queue.isEmpty().catch(() => false))) return;
    await sleep(EMPTY_CHECK_MS, undefined, signal === undefined ? {} : { signal }).catch(() => {});
  }
}

/** Why a job is stopped before its end. */
type Stop = 'worker stops' | 'lock lost' | 'cancelled';

/** The jobs that this worker is at. */
class Running {
  readonly #queue: FleetQueue;
  readonly #options: WorkOptions;
  readonly #stopping: AbortSignal;
  readonly #stops = new Map<string, (why: Stop) => void>();

  constructor(queue: FleetQueue, options: WorkOptions, stopping: AbortSignal) {
    this.#queue = queue;
    this.#options = options;
    this.#stopping = stopping;
  }

  loseLock(queueId: string): void {
    this.#stops.get(queueId)?.('lock lost');
  }

  /** BullMQ's processor: what it throws decides what becomes of the job. */
  readonly process = async (job: Job<QueuedJob, JobOutcome>, token?: string): Promise<JobOutcome> => {
    const { reports = {} } = this.#options;
    const queueId = job.id!;
    const controller = new AbortController();
    let why: Stop | undefined;
    const stop = (reason: Stop): void => {
      why ??= reason;
      controller.abort();
    };
    this.#stops.set(queueId, stop);
    const stopAll = (): void => stop('worker stops');
    this.#stopping.addEventListener('abort', stopAll);
    if (this.#stopping.aborted) stopAll();
    let progress: { doneBytes: number; totalBytes: number } | undefined;
    const tick = setInterval(() => {
      const beat = async (): Promise<void> => {
        if (progress !== undefined) await job.updateProgress({ ...progress });
        if (await this.#queue.isCancelled(queueId)) stop('cancelled');
      };
      // The next one may reach the server.
      beat().catch(() => {});
    }, REPORT_MS);
    const named = reportedAs(job);
    try {
      reports.onStart?.({ ...named, attempt: job.attemptsMade + 1 });
      const queued = checkQueued(job.data);
      if (queued.isCancelled === true) stop('cancelled');
      throwIfAborted(controller.signal);
      const { home, kms, store, onWarning } = this.#options;
      const options: RunJobOptions = {
        ...{ run: queued.run, home, kms, store, onWarning, signal: controller.signal },
        onProgress: (now) => {
          progress = now;
        },
      };
      const outcome = (await runInRanges(this.#queue, job, token, queued, options)) ?? (await runJob(queued.spec, options));
      reports.onDone?.(named, outcome);
      return outcome;
    } catch (error) {
      if (error instanceof WaitsForRanges) {
        reports.onRanges?.(named, error.ranges);
        throw new this.#queue.bullmq.WaitingChildrenError();
      }
      const failure = failureOf(error, why);
      reports.onFailed?.(named, failure);
      throw await this.#verdict(job, token, failure, why);
    } finally {
      clearInterval(tick);
      this.#stopping.removeEventListener('abort', stopAll);
      this.#stops.delete(queueId);
    }
  };

  async #verdict(job: Job<QueuedJob, JobOutcome>, token: string | undefined, failure: Failure, why: Stop | undefined): Promise<Error> {
    const { DelayedError, UnrecoverableError, WaitingError } = this.#queue.bullmq;
    const text = `${failure.code}: ${failure.message}`;
    if (why === 'cancelled') return new UnrecoverableError('ERR_ABORTED: cancelled');
    // Another worker has the job: whatever is said of it here counts for nothing.
    if (why === 'lock lost') return new Error(text);
    if (failure.verdict === 'interrupted') {
      await job.moveToWait(token);
      return new WaitingError();
    }
    // A worker that is stopped, or whose machine is gone, has its lock until a file server takes it away.
    if (job.data.ranges !== undefined && failure.code === 'ERR_STATE_BUSY') {
      await job.moveToDelayed(Date.now() + BUSY_MS, token);
      return new DelayedError();
    }
    return failure.verdict === 'retry' ? new Error(text) : new UnrecoverableError(text);
  }
}

interface Failure {
  readonly code: string;
  readonly message: string;
  readonly verdict: Verdict;
}

function failureOf(error: unknown, why: Stop | undefined): Failure {
  if (!(error instanceof VolsealError)) return { code: 'INTERNAL', message: messageOf(error), verdict: 'fail' };
  const { code, message, details } = error;
  if (why === 'lock lost') return { code, message: 'the lock of the job was lost: another worker may have it', verdict: 'retry' };
  // A range had its attempts already.
  return { code, message, verdict: details.range === undefined ? verdictOf(error) : 'fail' };
}

function reportedAs({ id, data: { spec, range } }: Job<QueuedJob, JobOutcome>): ReportedJob {
  return { queueId: id!, source: spec?.source, ...(range === undefined ? { kind: spec?.kind } : { kind: 'range', range: range.index }) };
}
