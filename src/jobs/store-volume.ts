/** A volume that is a new object or snapshot in a store. */
import { VolsealError } from '../errors.js';
import { EMBEDDED_DATA_OFFSET_BYTES } from '../limits.js';
import { intactHeader, type Luks2Header } from '../luks2/header.js';
import { headerArea } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import { isSnapshot } from '../stores/ebs-location.js';
import { fileSource, zeroSource } from '../stores/file-source.js';
import { checkStoredName } from '../stores/location.js';
import { beginStored } from '../stores/open.js';
import { ResumableUpload } from '../stores/s3-resumable.js';
import type { ImageSource, ImageTarget, StoreOptions } from '../stores/store.js';
import { describeHeader } from '../volume/info.js';
import { claimsOf } from '../volume/volume-file.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import type { EncryptedImage } from './build-volume.js';
import { madeIn } from './decrypt-options.js';
import { movePieces, type PieceMove } from './move-pieces.js';
import { contextOf, type HeaderTarget, newVolumeKey } from './new-volume-key.js';
import { findUpload, forgetUpload, keepingUpload, moveRest, uploadSource } from './resume-upload.js';
import { newOrBegunVolume, openVolumeUpload } from './resumed-volume.js';
import { whileUnchanged } from './source-watch.js';
import { checkStoredOptions } from './stored-source.js';
import type { JobOptions } from './transform.js';
import type { VolumePlan, VolumeSource } from './volume-plan.js';

/**
 * Encrypts an image into a new object or snapshot that is a volume: header, then data. It appears when it is complete.
 * @throws {VolsealError} as `encryptImage`, and `ERR_STORE_*`. Whatever fails, an object that was there stays
 */
export function storeVolume(plan: VolumePlan, store: StoreOptions | undefined, job: JobOptions): Promise<EncryptedImage> {
  return withRun(plan, store, job, async (run) => {
    if (plan.output.resume === true) return await uploadVolume(run);
    const { volumePath, output } = plan;
    const wanted = { sizeBytes: run.sizeBytes, force: output.force, snapshot: plan.snapshot };
    await using target = await beginStored(volumePath, wanted, store, job.signal);
    const { key, header } = await newVolumeKey(plan, draftOf(plan), contextOf(plan), run.pool, job.signal);
    try {
      const startedMs = performance.now();
      const write: PieceMove['write'] = (piece, signal) => target.write(piece, signal);
      const { pieceBytes, checksum } = target;
      await unchanged(run, () => movePieces({ ...moveOf(run, key, headerArea(header)), pieceBytes, checksum, write }, job));
      return await completed(run, target, header, startedMs);
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
  const { source, volumePath, sectorBytes, allocation, output } = plan;
  const resume = output.resume === true;
  checkStoredOptions(volumePath, { sha256: plan.sha256, resume: resume && isSnapshot(volumePath), sparse: allocation === 'sparse' });
  if (plan.header !== undefined)
    throw new VolsealError('ERR_ARGUMENT', `${volumePath}: is one piece, which has its header in front; leave out the header option`);
  if (plan.snapshot?.parent !== undefined || plan.snapshot?.changedAgainst !== undefined)
    throw new VolsealError('ERR_ARGUMENT', `${volumePath}: a new volume has a new key, so that every block differs; leave out the parent`, {
      details: { path: volumePath },
    });
  const from = sourceOf(source);
  checkStoredName(volumePath, 'target');
  contextOf(plan);
  await using pool = leasePool(plan.logger);
  const sizeBytes = EMBEDDED_DATA_OFFSET_BYTES + Math.ceil(source.imageBytes / sectorBytes) * sectorBytes;
  return await use({ plan, from, sizeBytes, store, pool, job });
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
}

/** What the header of such a volume must know. */
export const draftOf = ({ volumePath }: VolumePlan): HeaderTarget => ({
  headerPath: volumePath,
  placement: 'embedded',
  allocation: 'full',
});

/** The same in a way that a later run can go on with, or goes on with what an interrupted run has left. */
async function uploadVolume(run: Run): Promise<EncryptedImage> {
  const { plan, from, sizeBytes, store, pool, job } = run;
  const { source, volumePath, sectorBytes, output } = plan;
  const { signal } = job;
  await using upload = await ResumableUpload.open(volumePath, { sizeBytes, force: output.force }, store, signal);
  return await keepingUpload(upload, async () => {
    const startedMs = performance.now();
    const header = await unchanged(run, async () => {
      const uploadJob = { kind: 'encrypt', upload, source: await uploadSource(source.file, from), sectorBytes } as const;
      const stored = findUpload(uploadJob);
      const volume = await newOrBegunVolume(plan, uploadJob, stored, draftOf(plan), pool, signal);
      try {
        await openVolumeUpload(uploadJob, stored, volume, stored?.volumeId ?? plan.volumeId, signal);
        await moveRest(uploadJob, moveOf(run, volume.key, volume.preamble), job, output.onWarning);
        return volume.header;
      } finally {
        native.keyWipe(volume.key);
      }
    });
    const made = await completed(run, upload, header, startedMs);
    await forgetUpload(upload, output.onWarning);
    return made;
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
  return await (source.file === undefined ? move() : whileUnchanged(source.file, source.fileBytes ?? source.imageBytes, move));
}

/** Makes the target visible. @throws {VolsealError} as `ImageTarget.complete` */
export async function completed({ plan, job }: Run, target: ImageTarget, header: Luks2Header, startedMs: number): Promise<EncryptedImage> {
  await plan.output.beforePublish?.();
  await target.complete(job.signal);
  const info = describeHeader(claimsOf(intactHeader(header), plan.volumePath), {
    ...{ path: target.name, header: null },
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
