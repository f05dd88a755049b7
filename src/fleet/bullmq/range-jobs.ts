/** Ranges of one image as jobs of a queue: a parent, and a child for each range. */
import type { Job } from 'bullmq';
import { type ErrorCode, VolsealError } from '../../errors.js';
import { runRange, stepJob } from '../ranges.js';
import type { JobOutcome, RunJobOptions } from '../run-job.js';
import { rangeBytesOf } from '../spec.js';
import type { FleetQueue } from './queue.js';
import type { QueuedJob, RangesBegun } from './queued-job.js';

/** The job was moved out of this worker's hands until its ranges are done. */
export class WaitsForRanges {
  readonly ranges: { readonly left: number; readonly count: number };

  constructor(ranges: { left: number; count: number }) {
    this.ranges = ranges;
  }
}

/**
 * Does the next step of a job that is cut into ranges, or one range of it.
 *
 * The parent makes the volume's key before there is any child, so that no two of them can make one each. When its
 * children are done it runs once more, and what is on the disk decides: ranges that are not recorded there are given
 * out again, whatever the queue says.
 *
 * @param token of the job's lock
 * @returns undefined where it is a job like any other
 * @throws {WaitsForRanges} the job waits for its ranges
 * @throws {VolsealError} as `stepJob` and `runRange`; the error of a range that failed for good, with `details.range`
 */
export async function runInRanges(
  queue: FleetQueue,
  job: Job<QueuedJob, JobOutcome>,
  token: string | undefined,
  { spec, range, ranges: begun }: QueuedJob,
  options: RunJobOptions,
): Promise<JobOutcome | undefined> {
  const rangeBytes = rangeBytesOf(spec);
  if (rangeBytes === undefined || spec.kind !== 'encrypt') return undefined;
  if (range !== undefined) return await runRange(spec, range, options);
  const { round: lastRound = 0, jobId: begunId } = begun ?? {};
  const note = async (ranges: RangesBegun): Promise<void> => {
    // What somebody has set meanwhile stays.
    const isCancelled = (await queue.isCancelled(job.id!)) || undefined;
    await job.updateData({ ...job.data, ranges, isCancelled });
  };
  const failed = begunId === undefined ? undefined : await failureOf(queue, job, lastRound);
  // Where the source has changed, what was done is removed first, by the step.
  if (failed !== undefined && failed.code !== 'ERR_SOURCE_CHANGED') {
    await giveUp(job, note, { round: lastRound + 1, jobId: begunId });
    throw failed;
  }
  for (let round = lastRound + 1, id = begunId; ; round += 1) {
    const step = await stepJob(spec, rangeBytes, id, options).catch(async (error: unknown) => {
      if (error instanceof VolsealError && error.code === 'ERR_SOURCE_CHANGED') await giveUp(job, note, { round });
      throw error;
    });
    if ('outcome' in step) return step.outcome;
    const { jobId, uuid, count, left } = step.ranges;
    await note({ round, jobId, count });
    await queue.addRanges(
      job,
      round,
      left.map((one) => ({ jobId, uuid, count, ...one })),
    );
    if (await queue.isCancelled(job.id!)) {
      await giveUp(job, note, { round: round + 1, jobId });
      throw new VolsealError('ERR_ABORTED', 'cancelled');
    }
    if (await job.moveToWaitingChildren(token!)) throw new WaitsForRanges({ left: left.length, count });
    // All of them are done already.
    id = jobId;
  }
}

/** What waits of the ranges is removed. The next attempt adds ranges anew: those that are not recorded on the disk. */
async function giveUp(job: Job<QueuedJob, JobOutcome>, note: (ranges: RangesBegun) => Promise<void>, next: RangesBegun): Promise<void> {
  await job.removeUnprocessedChildren();
  await note(next);
}

async function failureOf(queue: FleetQueue, job: Job<QueuedJob, JobOutcome>, round: number): Promise<VolsealError | undefined> {
  const failures = await queue.rangeFailures(job, round);
  const [first] = failures.sort((one, other) => one.index - other.index);
  if (first === undefined) return undefined;
  const { index, reason } = first;
  // BullMQ has words of its own for one that every worker has lost.
  const [, code = 'ERR_STATE_BUSY', text = reason] = /^(ERR_[A-Z_]+): (.*)$/s.exec(reason) ?? [];
  const others = failures.length === 1 ? '' : ` (and ${failures.length - 1} other ranges)`;
  const count = job.data.ranges?.count ?? 0;
  return new VolsealError(code as ErrorCode, `range ${index + 1} of ${count} failed${others}: ${text}`, { details: { range: index } });
}
