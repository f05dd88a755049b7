/** Runs one job, for whatever engine: what was done already is seen, what was begun is resumed. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { isError, VolsealError } from '../errors.js';
import { verifyVolume } from '../jobs/verify.js';
import { ifThere } from '../output/named-file.js';
import { isAmongDevices } from '../output/resolve-target.js';
import { isSnapshot } from '../stores/ebs/location.js';
import { isStored } from '../stores/location.js';
import type { StoreOptions } from '../stores/store.js';
import { traced } from '../tracing.js';
import type { Progress } from '../transfer/transform.js';
import { describeVolume } from '../volume/describe.js';
import type { VolumeInfo } from '../volume/info.js';
import { type Claim, claimTarget, workerName } from './claim.js';
import { jobIdOf, sourceState, volumeIdOfJob } from './identity.js';
import { checkJob, type JobKind, type JobSpec, targetOf } from './spec.js';

/** Options of `runJob`. */
export interface RunJobOptions {
  /** The run's name: the same job under another name is another job. Default: `default`. */
  run?: string | undefined;
  /** Who runs it, for the claim of the target. Default: this host and process. */
  worker?: string | undefined;
  /** Ends the job with `ERR_ABORTED`; what was done is kept for the next attempt where the target is a file. */
  signal?: AbortSignal | undefined;
  /** Called now and then while data moves. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Called with a warning, one sentence, about something that does not stop the job. */
  onWarning?: ((warning: string) => void) | undefined;
  /** Where volseal keeps its own files. Default: `$VOLSEAL_HOME`, else the user's data directory. */
  home?: string | undefined;
  /** The KMS of jobs that name none. Default: `$VOLSEAL_KMS`, else `embedded`, as everywhere. */
  kms?: string | undefined;
  /** How a store is reached where source or target is an object. */
  store?: StoreOptions | undefined;
}

/** What a job has done. */
export interface JobOutcome {
  /** 64 hexadecimal digits. */
  jobId: string;
  /** What it was. */
  kind: JobKind;
  /** `already`: an earlier attempt had done it; nothing was written. */
  outcome: 'done' | 'already';
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** Length of the image. */
  imageBytes: number;
  /** What the job took. */
  seconds: number;
}

/** A job of one kind. */
export type Spec<Kind extends JobKind> = Extract<JobSpec, { kind: Kind }>;
/** What becomes of a job, without what it took. */
export type Done = Pick<JobOutcome, 'outcome' | 'volumeId' | 'imageBytes'>;

/** A job on its way. */
export interface Run {
  readonly jobId: string;
  readonly options: RunJobOptions;
  readonly signal: AbortSignal;
  /** Of the target, where that is a file. */
  readonly claim: Claim | undefined;
}

/** How often a worker looks whether its target was claimed by another. */
const CLAIM_CHECK_MS = 5_000;

/**
 * Does what `spec` says, or finds it done. Running a job twice, also at the same time on two machines, does no harm:
 * its volume has one data key, and the target appears once.
 *
 * - A target that is a file is claimed (`.NAME.claim`), and an interrupted attempt is resumed, also one of another
 * machine on a shared file system. - An object appears by one conditional request; an interrupted upload is resumed by
 * any machine, and two workers at one upload send the same bytes.
 *
 * @throws {VolsealError} `ERR_ARGUMENT` where it is no job; `ERR_STATE_BUSY` another worker is at it, or has taken it
 * over; and what the library's function for its kind throws. `verdictOf` tells what is worth another attempt.
 */
export async function runJob(spec: JobSpec, options: RunJobOptions = {}): Promise<JobOutcome> {
  const job = checkJob(spec);
  return traced('volseal.job', { kind: job.kind, run: options.run ?? 'default' }, () => runChecked(job, options));
}

async function runChecked(job: JobSpec, options: RunJobOptions): Promise<JobOutcome> {
  const { run = 'default', worker = workerName(), signal: ended, store } = options;
  const startedMs = performance.now();
  const jobId = jobIdOf(job, run, await sourceState(job.source, store, ended));
  const done = (await findDone(job, jobId, options)) ?? (await whileClaimed(job, jobId, worker, options, (held) => work(job, held)));
  return { jobId, kind: job.kind, ...done, seconds: (performance.now() - startedMs) / 1000 };
}

/**
 * Does the work of a job while this worker has the claim of its target, where that is a file.
 * @returns what `doing` returns, or what another worker has published meanwhile
 * @throws {VolsealError} `ERR_STATE_BUSY`, and what `doing` throws
 */
export async function whileClaimed<T>(
  job: JobSpec,
  jobId: string,
  worker: string,
  options: RunJobOptions,
  doing: (run: Run) => Promise<T>,
): Promise<T | Done> {
  const target = targetOf(job);
  const isFile = target !== undefined && !isStored(target) && (await becomesFile(target));
  await using claim = isFile ? await claimTarget(target, jobId, worker) : undefined;
  const lost = new AbortController();
  let why: unknown;
  const watch = setInterval(() => {
    claim?.check().catch((error: unknown) => {
      why = error;
      lost.abort(error);
    });
  }, CLAIM_CHECK_MS);
  watch.unref();
  const signal = AbortSignal.any([lost.signal, ...(options.signal === undefined ? [] : [options.signal])]);
  try {
    return await doing({ jobId, options, signal, claim });
  } catch (error) {
    if (why !== undefined) throw why;
    // Another worker may have published the very same while this one was at it.
    if (isError(error) && (error as VolsealError).code === 'ERR_TARGET_EXISTS') {
      const done = await findDone(job, jobId, options);
      if (done !== undefined) return done;
    }
    throw error;
  } finally {
    clearInterval(watch);
  }
}

async function work(job: JobSpec, run: Run): Promise<Done> {
  switch (job.kind) {
    case 'encrypt':
      return encrypt(job, run);
    case 'decrypt':
      return decrypt(job, run);
    case 'verify':
      return verify(job, run);
    case 'rewrap':
      return rewrap(job, run);
    case 'reencrypt':
      return reencrypt(job, run);
  }
}

/** What the job's options say for every kind. */
function common({ kms, context }: JobSpec, { options, signal, claim }: Run) {
  return {
    kms: kms ?? options.kms,
    home: options.home,
    store: options.store,
    encryptionContext: context,
    onProgress: options.onProgress,
    onWarning: options.onWarning,
    signal,
    beforePublish: claim && (() => claim.check()),
  };
}

/** What becomes a file, and uploads to S3. */
const isResumable = (target: string, { claim }: Run): boolean => (isStored(target) ? !isSnapshot(target) : claim !== undefined);

async function encrypt(job: Spec<'encrypt'>, run: Run): Promise<Done> {
  const { encryptImage } = await import('../jobs/encrypt.js');
  return doneWith(await encryptImage(job.source, job.target, { ...encryptOptions(job, run), resume: isResumable(job.target, run) }));
}

/** What the library is asked for by a job. */
export const encryptOptions = (job: Spec<'encrypt'>, run: Run) => ({
  ...common(job, run),
  ...job.choices,
  key: job.key,
  volumeId: volumeIdOfJob(run.jobId),
});

async function decrypt(job: Spec<'decrypt'>, run: Run): Promise<Done> {
  const { decryptImage } = await import('../jobs/decrypt.js');
  const resume = isResumable(job.target, run);
  return doneWith(await decryptImage(job.source, job.target, { ...common(job, run), ...job.choices, resume }));
}

async function verify(job: Spec<'verify'>, run: Run): Promise<Done> {
  return doneWith(await verifyVolume(job.source, { ...common(job, run), ...job.choices }));
}

async function rewrap(job: Spec<'rewrap'>, run: Run): Promise<Done> {
  const { rewrapVolume } = await import('../headers/rewrap.js');
  await rewrapVolume(job.source, { ...common(job, run), ...job.choices, key: job.key });
  return doneWith(await describe(job.source, job.choices?.header, run.options));
}

async function reencrypt(job: Spec<'reencrypt'>, run: Run): Promise<Done> {
  const { reencryptVolume } = await import('../jobs/reencrypt.js');
  return doneWith(await reencryptVolume(job.source, job.target, { ...common(job, run), ...job.choices, key: job.key }));
}

/** The same of what the library made. */
export const doneWith = ({ volumeId, imageBytes }: Pick<JobOutcome, 'volumeId' | 'imageBytes'>): Done => ({
  outcome: 'done',
  volumeId,
  imageBytes,
});

const describe = (path: string, header: string | undefined, { store }: RunJobOptions): Promise<VolumeInfo> =>
  describeVolume(path, { header, store });

/**
 * What an earlier attempt has done; undefined where there is something to do. A volume tells by its header, without
 * KMS. An image has no header: it is compared with its volume. A target that something else has made is not touched:
 * the job fails with `ERR_TARGET_EXISTS`, unless it is to replace it.
 */
export async function findDone(job: JobSpec, jobId: string, options: RunJobOptions): Promise<Done | undefined> {
  const target = targetOf(job);
  if (target === undefined || !(await isThere(target))) return undefined;
  const already = (info: Pick<JobOutcome, 'volumeId' | 'imageBytes'>): Done => ({ ...doneWith(info), outcome: 'already' });
  if (job.kind === 'encrypt') {
    const info = await describe(target, job.choices?.header, options).catch(notAVolume);
    return info?.volumeId === volumeIdOfJob(jobId) ? already(info) : undefined;
  }
  if (job.kind === 'reencrypt') {
    const [made, from] = await Promise.all([
      describe(target, job.choices?.newHeader, options).catch(notAVolume),
      describe(job.source, job.choices?.header, options),
    ]);
    return made !== undefined && made.volumeId === from.volumeId && made.uuid !== from.uuid && made.created > from.created
      ? already(made)
      : undefined;
  }
  if (job.kind === 'decrypt' && !isStored(target)) {
    const { kms = options.kms, context, choices: { header, expectedKey } = {} } = job;
    const { home, signal, store } = options;
    const compared = { kms, home, store, signal, header, expectedKey, encryptionContext: context, against: target };
    return await verifyVolume(job.source, compared).then(already, (error: unknown) => {
      if (error instanceof VolsealError && ['ERR_IMAGE_DIFFERS', 'ERR_IMAGE_SIZE'].includes(error.code)) return undefined;
      throw error;
    });
  }
  return undefined;
}

async function isThere(target: string): Promise<boolean> {
  return isStored(target) || (await ifThere(target, () => stat(target))) !== undefined;
}

/** A device is written where it is; what is no target at all is refused later, by the job itself. */
async function becomesFile(target: string): Promise<boolean> {
  const found = await ifThere(target, () => stat(target));
  return found === undefined ? !isAmongDevices(resolve(target)) : found.isFile();
}

/** Nothing there, or something that is no volume of volseal's. */
function notAVolume(error: unknown): undefined {
  const isNone =
    error instanceof VolsealError &&
    (error.code.startsWith('ERR_HEADER_') ||
      ['ERR_NOT_A_VOLUME', 'ERR_STORE_NOT_FOUND', 'ERR_VOLUME_SIZE', 'ERR_ARGUMENT'].includes(error.code));
  if (!isNone && !(error instanceof VolsealError && error.details.errno === 'ENOENT')) throw error;
}
