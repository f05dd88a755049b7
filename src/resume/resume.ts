/**
 * Resumes jobs from where an interrupted run stopped. A checkpoint records that point. It is used only if source,
 * partial target and options are those it was written for, its MAC holds, and the last part that it calls done is what
 * the source gives.
 */
import assert from 'node:assert/strict';
import { VolsealError } from '../errors.js';
import { CHECKPOINT_INTERVAL_MS, RESUME_UNIT_BYTES } from '../limits.js';
import type { KeyHandle, TransformOptions } from '../native.js';
import type { NamedFile } from '../output/named-file.js';
import { cannotResume } from '../output/partial-file.js';
import type { OpenTargetOptions, TargetFile } from '../output/target.js';
import type { ImageSource } from '../stores/store.js';
import { type RecordedSource, recordedSource, sourceDifference } from '../transfer/source-watch.js';
import { type Checkpoint, transformImage } from '../transfer/transform.js';
import type { PoolLease } from '../workers/pool.js';
import {
  type CheckpointRecord,
  proveCheckpoint,
  readCheckpoint,
  removeCheckpoint,
  type StoredCheckpoint,
  writeCheckpoint,
} from './checkpoint.js';

/** A source as a later run must find it again. */
export interface ResumableSource {
  /** What messages call it. */
  readonly name: string;
  /** Its state now. @throws {VolsealError} `ERR_IO` */
  identify(): Promise<RecordedSource>;
}

/** @param sizeBytes of the file or device */
export const resumableFile = (file: NamedFile, sizeBytes: number): ResumableSource => ({
  name: file.path,
  identify: () => recordedSource(file, { sizeBytes }),
});

/** An object or a snapshot, which is read in one state. */
export const resumableStored = (source: ImageSource): ResumableSource => ({
  name: source.name,
  identify: () => recordedSource(undefined, source),
});

/** A job as a later run must find it again. */
export interface ResumableJob {
  readonly kind: CheckpointRecord['kind'];
  readonly source: ResumableSource;
  /** What is written to. */
  readonly target: TargetFile;
  readonly sectorBytes: number;
  /** What the caller chose and the result depends on, by the options' names. */
  readonly choices: Readonly<Record<string, string>>;
}

/** Whose data moves. */
export interface VolumeIdentity {
  readonly volumeId: string;
  readonly uuid: string;
}

/**
 * What an interrupted run of this job has left, not proved yet.
 * @returns undefined where the job begins at its beginning
 * @throws {VolsealError} `ERR_RESUME` the checkpoint is another job's, or not readable; `ERR_IO`
 */
export async function findCheckpoint(job: ResumableJob): Promise<StoredCheckpoint | undefined> {
  if (!job.target.hasEarlierData) return undefined;
  const partial = job.target.openPath;
  const stored = await readCheckpoint(job.target);
  if (stored === undefined) return undefined;
  const why = await differsFrom(stored, job);
  if (why !== undefined) throw cannotResume(partial, why);
  return stored;
}

async function differsFrom(stored: StoredCheckpoint, job: ResumableJob): Promise<string | undefined> {
  const { source, target } = job;
  if (stored.kind !== job.kind) return `it is of a run of volseal ${stored.kind}`;
  if (stored.partial.ino !== (await target.file.identity()).ino) return 'it is not the file that the checkpoint was written for';
  const difference = sourceDifference(stored.source, await source.identify());
  if (difference !== undefined) return `the source ${source.name} is not as it was: ${difference}`;
  const names = new Set([...Object.keys(stored.choices), ...Object.keys(job.choices)]);
  const other = [...names].find((name) => stored.choices[name] !== job.choices[name]);
  if (other !== undefined) return `it was begun with ${other} ${stored.choices[other] ?? 'unset'}, not ${job.choices[other] ?? 'unset'}`;
  return stored.sectorBytes === job.sectorBytes ? undefined : `it was begun with sectors of ${stored.sectorBytes} bytes`;
}

/**
 * @param path of the stream or target, for the message @throws {VolsealError} `ERR_ARGUMENT` a job with these options
 * cannot be resumed
 */
export function checkResumable(
  path: string,
  isStream: boolean,
  { fsync, sha256 }: { fsync?: boolean | undefined; sha256?: boolean | undefined },
): void {
  const why = isStream
    ? 'a stream can be read or written only once'
    : sha256
      ? 'a SHA-256 cannot begin in the middle of an image'
      : fsync === false
        ? 'without fsync it is not known what is on the disk'
        : undefined;
  if (why !== undefined) throw new VolsealError('ERR_ARGUMENT', `${path}: this job cannot be resumed: ${why}`);
}

/** What a job runs with. */
export interface Run {
  readonly pool: PoolLease;
  readonly signal?: AbortSignal | undefined;
}

type OnWarning = OpenTargetOptions['onWarning'];

/** What a checkpoint is proved by. */
export interface Proof {
  readonly key: KeyHandle;
  /** Bytes of the whole target. */
  readonly sizeBytes: number;
  /**
   * Compares the last part before `safeBytes` in the partial target with what the source gives. @returns the first byte
   * that differs
   */
  compare(safeBytes: number): Promise<number | undefined>;
}

/**
 * Proves a checkpoint, and that the last part before it is in the partial target what the source gives.
 * @returns where to go on @throws {VolsealError} `ERR_RESUME`, and what `compare` throws
 */
export async function proveProgress(
  job: ResumableJob,
  stored: StoredCheckpoint,
  volume: VolumeIdentity,
  { key, sizeBytes, compare }: Proof,
  onWarning: OnWarning,
): Promise<number> {
  const { openPath: partial } = job.target;
  // Once more: KMS may have taken long to answer.
  const why = await differsFrom(stored, job);
  if (why !== undefined) throw cannotResume(partial, why);
  proveCheckpoint(stored, key, partial);
  const { safeBytes } = stored;
  if (stored.volumeId !== volume.volumeId || stored.uuid !== volume.uuid)
    throw cannotResume(partial, `it is of the volume ${stored.volumeId}`);
  if (safeBytes >= sizeBytes) throw cannotResume(partial, `its checkpoint stands at ${safeBytes}, behind the end`);
  const differsAtByte = await compare(safeBytes);
  if (differsAtByte !== undefined)
    throw cannotResume(partial, `at byte ${differsAtByte} of the image it holds what ${job.source.name} does not give`);
  onWarning?.(`${partial}: resuming at byte ${safeBytes} of ${sizeBytes}`);
  if (stored.source.kind === 'device')
    onWarning?.(
      `${job.source.name}: is a block device, which does not tell whether it was written to since: begin again if it may have been`,
    );
  return safeBytes;
}

/**
 * The same of a transform from file to file; sets `transform.startByte`.
 *
 * @param transform the job's whole transform
 * @throws {VolsealError} `ERR_RESUME`, and as `transformImage`
 */
export async function resumeJob(
  job: ResumableJob,
  stored: StoredCheckpoint,
  volume: VolumeIdentity,
  transform: TransformOptions,
  { pool, signal }: Run,
  onWarning: OnWarning,
): Promise<void> {
  const { openPath: partial, file } = job.target;
  const { key, target } = transform;
  const compare = async (safeBytes: number): Promise<number | undefined> => {
    const paths = { source: job.source.name, target: partial };
    return (await transformImage(pool, comparison(transform, safeBytes), paths, { signal })).differsAtByte;
  };
  const safeBytes = await proveProgress(job, stored, volume, { key, sizeBytes: target.sizeBytes, compare }, onWarning);
  // What lies behind was never flushed, and a sparse target is written only where there is something to write.
  if (target.kind === 'file' && target.sparse) await file.truncate(target.offsetBytes + safeBytes);
  transform.startByte = safeBytes;
}

/** Of the last part before `safeBytes`: the ciphertext's side, decrypted, against the image's. */
function comparison(transform: TransformOptions, safeBytes: number): TransformOptions {
  const { source, target } = transform;
  const [volume, image] = transform.mode === 'encrypt' ? [target, source] : [source, target];
  const isVolume = volume.kind === 'file' || volume.kind === 'volume';
  assert(isVolume && image.kind === 'file', 'only a job from file to file is resumed');
  return {
    ...transform,
    mode: 'compare',
    source: { ...volume, sizeBytes: safeBytes },
    target: { ...image, sizeBytes: safeBytes, sparse: false },
    startByte: safeBytes - RESUME_UNIT_BYTES,
    digest: false,
  };
}

/**
 * Records the job's progress in the directory of its target, from now to its end. The files stay for a later run once
 * there is a record.
 *
 * @param others other files that a later run needs: a detached header
 */
export async function recordProgress(
  job: ResumableJob,
  volume: VolumeIdentity,
  { key, sizeBytes }: Pick<Proof, 'key' | 'sizeBytes'>,
  others: readonly TargetFile[],
): Promise<Checkpoint> {
  const { kind, target, sectorBytes, choices } = job;
  const source = await job.source.identify();
  const { ino } = await target.file.identity();
  let lastBytes = 0;
  return {
    intervalMs: CHECKPOINT_INTERVAL_MS,
    recordsEnd: others.length > 0,
    async save(doneBytes) {
      // Never the end: there is always something left to do, and to prove.
      const safeBytes = RESUME_UNIT_BYTES * Math.floor(Math.min(doneBytes, sizeBytes - 1) / RESUME_UNIT_BYTES);
      if (safeBytes <= lastBytes) return;
      await target.flush();
      const record = { version: 1 as const, kind, ...volume, source, partial: { ino }, sectorBytes, safeBytes, choices: { ...choices } };
      await writeCheckpoint(target, record, key);
      for (const file of [target, ...others]) file.keepForResume();
      lastBytes = safeBytes;
    },
  };
}

/**
 * Begins a job whose key is known anyway, or resumes it: sets `transform.startByte`, and returns what records the rest.
 * @throws {VolsealError} as `findCheckpoint` and `resumeJob`
 */
export async function beginOrResume(
  job: ResumableJob,
  volume: VolumeIdentity,
  transform: TransformOptions,
  run: Run,
  onWarning: OnWarning,
): Promise<Checkpoint> {
  const stored = await findCheckpoint(job);
  if (stored === undefined) {
    await job.target.begin();
    await forgetProgress(job.target);
  } else {
    await resumeJob(job, stored, volume, transform, run, onWarning);
  }
  return recordProgress(job, volume, { key: transform.key, sizeBytes: transform.target.sizeBytes }, []);
}

/** Removes the record of a job that has ended, or is to begin again. @throws {VolsealError} `ERR_IO` */
export async function forgetProgress(target: TargetFile): Promise<void> {
  await removeCheckpoint(target);
}
