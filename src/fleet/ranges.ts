/**
 * One huge image as a job of many workers. The job itself begins the volume, then waits for a job for each range of the
 * image, and publishes the volume when all of them are done. This file knows no engine: src/fleet/bullmq/range-jobs.ts
 * has the queue.
 */
import * as z from 'zod';
import { VolsealError } from '../errors.js';
import { encryptRange, stepRanges } from '../jobs/encrypt-ranges.js';
import { removeRangedVolume } from '../jobs/volume-ranges.js';
import { isStored } from '../stores/location.js';
import { traced } from '../tracing.js';
import type { ImageRange } from '../transfer/image-ranges.js';
import { workerName } from './claim.js';
import { jobIdOf, sourceState, volumeIdOfJob } from './identity.js';
import { doneWith, encryptOptions, findDone, type JobOutcome, type RunJobOptions, type Spec, whileClaimed } from './run-job.js';

const bytes = z.number().int().nonnegative();

/** One range, as its job in a queue has it. */
export const rangeOrderSchema = z.strictObject({
  /** Of the job whose image it is: it names the state of the source. */
  jobId: z.string(),
  /** Of the header under whose key the range is encrypted. */
  uuid: z.string(),
  /** How many ranges the image has. */
  count: bytes,
  index: bytes,
  startByte: bytes,
  endByte: bytes,
});

/** One range, as its job in a queue has it. */
export type RangeOrder = z.infer<typeof rangeOrderSchema>;

/** What is left of a job. */
export interface RangesOfJob {
  readonly jobId: string;
  readonly uuid: string;
  readonly count: number;
  readonly left: readonly ImageRange[];
}

/** The job is done, or waits for what is left of it. */
export type JobStep = { readonly outcome: JobOutcome } | { readonly ranges: RangesOfJob };

/**
 * Begins the volume of a job, or publishes it when all ranges are done.
 *
 * @param begun the id that the job had when it was begun; undefined at first
 * @throws {VolsealError} as `runJob`; `ERR_SOURCE_CHANGED` the source has another state than when the job was begun:
 * what was done of it is removed
 */
export function stepJob(job: Spec<'encrypt'>, rangeBytes: number, begun: string | undefined, options: RunJobOptions): Promise<JobStep> {
  const { run = 'default', worker = workerName(), store, signal } = options;
  return traced('volseal.job', { kind: job.kind, run }, async () => {
    const startedMs = performance.now();
    const jobId = jobIdOf(job, run, await sourceState(job.source, store, signal));
    const done = (of: string) => findDone(job, of, options);
    const already = (begun === undefined ? undefined : await done(begun)) ?? (await done(jobId));
    if (already === undefined && begun !== undefined && begun !== jobId) {
      await removeBegun(job.target, volumeIdOfJob(begun), options);
      throw sourceChanged(job.source);
    }
    const step =
      already ??
      (await whileClaimed(job, jobId, worker, options, async (held) => {
        const taken = await stepRanges(job.source, job.target, rangeBytes, encryptOptions(job, held));
        return 'volume' in taken ? doneWith(taken.volume) : taken.ranges;
      }));
    if ('left' in step) return { ranges: { jobId, ...step } };
    return { outcome: { jobId, kind: job.kind, ...step, seconds: (performance.now() - startedMs) / 1000 } };
  });
}

async function removeBegun(target: string, volumeId: string, { store, signal }: RunJobOptions): Promise<void> {
  if (!isStored(target)) return await removeRangedVolume(target, volumeId);
  const { removeRangedUpload } = await import('../jobs/stored/stored-ranges.js');
  await removeRangedUpload(target, volumeId, store, signal);
}

/**
 * Encrypts one range of a job's image, or finds it done.
 * @returns `imageBytes` are those of the range
 * @throws {VolsealError} as `encryptRange`; `ERR_SOURCE_CHANGED`
 */
export function runRange(job: Spec<'encrypt'>, order: RangeOrder, options: RunJobOptions): Promise<JobOutcome> {
  const { run = 'default', store, signal = new AbortController().signal } = options;
  const { jobId, uuid, index, startByte, endByte } = order;
  return traced('volseal.range', { kind: job.kind, run, index }, async () => {
    const startedMs = performance.now();
    const done = await findDone(job, jobId, options);
    if (done === undefined) {
      if (jobIdOf(job, run, await sourceState(job.source, store, signal)) !== jobId) throw sourceChanged(job.source);
      // Publishing is for who has the claim: a range has the lock of the partial file.
      const held = { jobId, options, signal, claim: undefined };
      await encryptRange(job.source, job.target, { index, startByte, endByte }, uuid, encryptOptions(job, held));
    }
    const seconds = (performance.now() - startedMs) / 1000;
    const { outcome = 'done' } = done ?? {};
    return { jobId, kind: job.kind, outcome, volumeId: volumeIdOfJob(jobId), imageBytes: endByte - startByte, seconds };
  });
}

const sourceChanged = (path: string): VolsealError =>
  new VolsealError('ERR_SOURCE_CHANGED', `${path}: is not as it was when its first range was begun`, { details: { path } });
