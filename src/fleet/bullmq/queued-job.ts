/** What lies in a queue for a job. No secret: workers have credentials of their own. */
import * as z from 'zod';
import { VolsealError } from '../../errors.js';
import { type RangeOrder, rangeOrderSchema } from '../ranges.js';
import { checkJob, type JobSpec } from '../spec.js';

/** A job, or one range of it. */
export interface QueuedJob {
  readonly version: 1;
  readonly run: string;
  readonly spec: JobSpec;
  /** Of a job that waits for its ranges. */
  readonly ranges?: RangesBegun | undefined;
  /** Of the job for one range: it is the job of `spec` only as far as that. */
  readonly range?: RangeOrder | undefined;
  /** Set by `cancel` while a worker is at it. */
  readonly isCancelled?: true | undefined;
}

const begunSchema = z.strictObject({
  /** Counts how often jobs for ranges were added: those of an earlier round count for nothing. */
  round: z.number().int().nonnegative(),
  /** Undefined once the source has changed: then the job begins with the source as it finds it. */
  jobId: z.string().optional(),
  /** How many ranges the image has. */
  count: z.number().int().nonnegative().optional(),
});

/** How far a job is that waits for its ranges. */
export type RangesBegun = z.infer<typeof begunSchema>;

const ownSchema = z.object({
  run: z.string(),
  ranges: begunSchema.optional(),
  range: rangeOrderSchema.optional(),
  isCancelled: z.literal(true).optional(),
});

/** @throws {VolsealError} `ERR_ARGUMENT` it is of another version, or no job */
export function checkQueued(data: QueuedJob): QueuedJob {
  if (data.version !== 1)
    throw new VolsealError(
      'ERR_ARGUMENT',
      `the job was submitted by another version of volseal (format ${JSON.stringify(data.version)}, this one knows 1): run workers and submitters of one version, then jobs retry`,
    );
  const own = ownSchema.safeParse(data);
  if (!own.success) {
    const [{ path, message } = { path: [], message: '' }] = own.error.issues;
    throw new VolsealError('ERR_ARGUMENT', `the job in the queue is not valid: ${path.join('.')}: ${message}`);
  }
  return { version: 1, spec: checkJob(data.spec), ...own.data };
}
