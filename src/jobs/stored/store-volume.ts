/** A volume that is a new object or snapshot in a store. */
import { VolsealError } from '../../errors.js';
import { intactHeader, type Luks2Header } from '../../luks2/header.js';
import { type KeyHandle, native } from '../../native.js';
import { findUpload, forgetUpload, keepingUpload, moveRest } from '../../resume/resume-upload.js';
import { isSnapshot } from '../../stores/ebs/location.js';
import { fileSource, zeroSource } from '../../stores/file-source.js';
import { checkStoredName, isStored } from '../../stores/location.js';
import { beginStored } from '../../stores/open.js';
import { ResumableUpload } from '../../stores/s3/resumable.js';
import type { ImageSource, ImageTarget, StoreOptions } from '../../stores/store.js';
import { movePieces, type PieceMove } from '../../transfer/move-pieces.js';
import { recordedSource, whileUnchanged } from '../../transfer/source-watch.js';
import type { JobOptions } from '../../transfer/transform.js';
import { describeHeader } from '../../volume/info.js';
import { claimsOf } from '../../volume/volume-file.js';
import { leasePool, type PoolLease } from '../../workers/pool.js';
import type { EncryptedImage } from '../build-volume.js';
import { madeIn } from '../decrypt-options.js';
import { type HeaderOutput, openHeaderOutput } from '../header-output.js';
import { contextOf, newVolumeKey } from '../new-volume-key.js';
import type { TargetPlan, VolumePlan, VolumeSource } from '../volume-plan.js';
import { type BegunVolume, newOrBegunVolume, openVolumeUpload } from './resumed-volume.js';
import { checkStoredOptions } from './stored-source.js';

/**
 * Encrypts an image into a new object or snapshot that is a volume: header, then data; with the header option the data
 * alone. It appears when it is complete.
 * @throws {VolsealError} as `encryptImage`, and `ERR_STORE_*`. Whatever fails, an object that was there stays
 */
export function storeVolume(plan: VolumePlan, store: StoreOptions | undefined, job: JobOptions): Promise<EncryptedImage> {
  return withRun(plan, store, job, async (run) => {
    if (plan.output.resume === true) return await uploadVolume(run);
    const { volumePath, output } = plan;
    const { headerOutput } = run;
    const wanted = { sizeBytes: run.sizeBytes, force: output.force, snapshot: plan.snapshot };
    await using target = await beginStored(volumePath, wanted, store, job.signal);
    const { key, header } = await newVolumeKey(plan, headerOutput.target, contextOf(plan), run.pool, job.signal);
    try {
      const startedMs = performance.now();
      const write: PieceMove['write'] = (piece, signal) => {
        headerOutput.see(piece);
        return target.write(piece, signal);
      };
      const { pieceBytes, checksum } = target;
      await unchanged(run, () => movePieces({ ...moveOf(run, key, headerOutput.preamble(header)), pieceBytes, checksum, write }, job));
      return await completed(run, target, header, startedMs, key);
    } finally {
      native.keyWipe(key);
    }
  });
}

/** Checks what can be checked before KMS is asked, and opens what a volume is made with. @throws as `storeVolume` */
export async function withRun<T>(
  plan: VolumePlan,
  store: StoreOptions | undefined,
  job: JobOptions,
  use: (run: Run) => Promise<T>,
): Promise<T> {
  const { source, sectorBytes } = plan;
  checkStoredVolume(plan);
  const from = sourceOf(source);
  contextOf(plan);
  await using pool = leasePool(plan.logger);
  await using headerOutput = await openHeaderOutput(plan);
  const sizeBytes = headerOutput.preambleBytes + Math.ceil(source.imageBytes / sectorBytes) * sectorBytes;
  return await use({ plan, from, sizeBytes, store, pool, job, headerOutput });
}

/** What a new volume in a store does not allow. @throws {VolsealError} `ERR_ARGUMENT` */
export function checkStoredVolume({ volumePath, allocation, sha256, header, snapshot, output }: TargetPlan): void {
  const resume = output.resume === true && isSnapshot(volumePath);
  checkStoredOptions(volumePath, { sha256, resume, sparse: allocation === 'sparse' });
  if (header !== undefined && isStored(header))
    throw new VolsealError('ERR_ARGUMENT', `${header}: a detached header is a file`, { details: { path: header } });
  if (header !== undefined && output.resume === true)
    throw new VolsealError('ERR_ARGUMENT', `${volumePath}: an upload with its header in a file is not resumed; leave out one of the two`, {
      details: { path: volumePath },
    });
  if (snapshot?.parent !== undefined || snapshot?.changedAgainst !== undefined)
    throw new VolsealError('ERR_ARGUMENT', `${volumePath}: a new volume has a new key, so that every block differs; leave out the parent`, {
      details: { path: volumePath },
    });
  checkStoredName(volumePath, 'target');
}

/** What a volume is made of and with. */
export interface Run {
  readonly plan: VolumePlan;
  readonly from: ImageSource;
  /** Of the volume, with its header. */
  readonly sizeBytes: number;
  readonly store: StoreOptions | undefined;
  readonly pool: PoolLease;
  readonly job: JobOptions;
  readonly headerOutput: HeaderOutput;
}

/** The same in a way that a later run can go on with, or goes on with what an interrupted run has left. */
async function uploadVolume(run: Run): Promise<EncryptedImage> {
  const { plan, from, sizeBytes, store, pool, job, headerOutput } = run;
  const { source, volumePath, sectorBytes, output } = plan;
  const { signal } = job;
  await using upload = await ResumableUpload.open(volumePath, { sizeBytes, force: output.force }, store, signal);
  return await keepingUpload(upload, async () => {
    const startedMs = performance.now();
    const begun: { volume?: BegunVolume } = {};
    try {
      await unchanged(run, async () => {
        const uploadJob = { kind: 'encrypt', upload, source: await recordedSource(source.file, from), sectorBytes } as const;
        const stored = findUpload(uploadJob);
        const volume = await newOrBegunVolume(plan, uploadJob, stored, headerOutput.target, pool, signal);
        begun.volume = volume;
        await openVolumeUpload(uploadJob, stored, volume, stored?.volumeId ?? plan.volumeId, signal);
        await moveRest(uploadJob, moveOf(run, volume.key, volume.preamble), job, output.onWarning);
      });
      const made = await completed(run, upload, begun.volume!.header, startedMs);
      await forgetUpload(upload, output.onWarning);
      return made;
    } finally {
      if (begun.volume !== undefined) native.keyWipe(begun.volume.key);
    }
  });
}

/** What moves, but for the pieces of the target. */
export function moveOf(
  { plan, from, sizeBytes, pool }: Run,
  key: KeyHandle,
  preamble: Buffer,
): Omit<PieceMove, 'write' | 'pieceBytes' | 'checksum'> {
  const { sectorBytes, source } = plan;
  return {
    ...{ pool, key, encrypt: true, sectorBytes, sparse: false, source: from, sourceOffsetBytes: 0, preamble },
    ...{ dataBytes: source.imageBytes, targetBytes: sizeBytes },
  };
}

/** Runs `move` on a source that must be the same afterwards. @throws {VolsealError} `ERR_SOURCE_CHANGED` */
export async function unchanged<T>({ plan: { source } }: Run, move: () => Promise<T>): Promise<T> {
  return await whileUnchanged(source.file, source.fileBytes ?? source.imageBytes, move);
}

/**
 * Makes the volume visible.
 * @param key undefined: the header is in front of the data, or not this run's to write
 * @throws {VolsealError} as `ImageTarget.complete`, and what `beforePublish` throws
 */
export async function completed(
  { plan, job, headerOutput }: Pick<Run, 'job' | 'headerOutput'> & { plan: TargetPlan },
  target: ImageTarget,
  header: Luks2Header,
  startedMs: number,
  key?: KeyHandle,
): Promise<EncryptedImage> {
  await plan.output.beforePublish?.();
  // First the header: data whose header is lost would be lost.
  const written = key === undefined ? header : await headerOutput.write(key, header);
  try {
    await target.complete(job.signal);
  } catch (error) {
    throw await headerOutput.withContext(error);
  }
  const info = describeHeader(claimsOf(intactHeader(written), headerOutput.target.headerPath), {
    ...{ path: target.name, header: plan.header ?? null },
    ...{ allocatedBytes: null, hasHoles: null },
  });
  return { ...info, ...madeIn(target.name), dataSeconds: (performance.now() - startedMs) / 1000 };
}

function sourceOf({ side, file, path, imageBytes }: VolumeSource): ImageSource {
  if (side.kind === 'stored') return side.source;
  if (side.kind === 'zeros') return zeroSource(path, imageBytes);
  if (file !== undefined && side.kind === 'file' && side.offsetBytes === 0) return fileSource(file, imageBytes);
  throw new VolsealError('ERR_ARGUMENT', `${path}: is not read in ranges, as an upload needs it; save it to a file first`);
}
