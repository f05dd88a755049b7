/**
 * Making volumes: from a raw image (`encryptImage`) or empty (`createVolume`). Checks the options; build-volume.ts does
 * the work.
 */
import { constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import { chooseKms, forNewKeys } from '../kms/shared/endpoint.js';
import { DEFAULT_SECTOR_BYTES, SECTOR_SIZES, type SectorBytes } from '../limits.js';
import { logged } from '../logging.js';
import type { Allocation } from '../luks2/token.js';
import { openDataFile } from '../output/data-file.js';
import { checkResumable } from '../resume/resume.js';
import { refuseSnapshotOptions } from '../stores/ebs/location.js';
import { isStored } from '../stores/location.js';
import type { SnapshotOptions, StoreOptions } from '../stores/store.js';
import { withChunks } from '../transfer/chunk-pump.js';
import { chunksOf } from '../transfer/descriptor.js';
import { readEdges, refuseOtherFormats } from '../transfer/image-format.js';
import type { SourceChunks, SourceStream, TargetStream } from '../transfer/image-stream.js';
import { sourceWarnings } from '../transfer/source-warnings.js';
import type { JobOptions } from '../transfer/transform.js';
import type { VolumeInfo } from '../volume/info.js';
import { type KmsAccess, withAccess } from '../volume/unlock.js';
import { isVolumeId, newVolumeId } from '../volume/volume-id.js';
import { sizeProblem } from '../volume/volume-size.js';
import { buildVolume, type EncryptedImage } from './build-volume.js';
import { streamVolume } from './stream-volume.js';
import type { TargetPlan, VolumePlan, VolumeSource } from './volume-plan.js';

/** The AWS managed key that EBS uses where its user names none. */
export const DEFAULT_KEY = 'alias/aws/ebs';

/** What `encryptImage` and `createVolume` have in common. */
export interface NewVolumeOptions extends JobOptions {
  /**
   * `embedded`, `embedded:/HOME`, `aws`, `aws:REGION`, `http://HOST:PORT`. Default: `$VOLSEAL_KMS`, else `embedded`.
   */
  kms?: string | undefined;
  /**
   * Where volseal keeps its own files: the embedded KMS and the audit log. Default: `$VOLSEAL_HOME`, else the user's
   * data directory.
   */
  home?: string | undefined;
  /** KMS key id, ARN, alias name or alias ARN. Default: `alias/aws/ebs`. */
  key?: string | undefined;
  /** With which rights KMS is asked, where they are not those of the credentials alone. */
  kmsAccess?: KmsAccess | undefined;
  /**
   * For a caller who needs it beforehand, for a grant that names it: `vol-` and 17 hexadecimal digits. Default: a new
   * one.
   */
  volumeId?: string | undefined;
  /** Pairs beside `aws:ebs:id`, for instance the volume's user. */
  encryptionContext?: EncryptionContext | undefined;
  /** 512 (default), 1024, 2048 or 4096. */
  sectorBytes?: number | undefined;
  /**
   * `full`: every sector is written, so that nobody sees which ones are in use. `sparse`: zeros of the image stay
   * holes, and the volume grows as it is written. Default: `full` for `encryptImage`, `sparse` for `createVolume`
   * (`full` on a block device).
   */
  allocation?: Allocation | undefined;
  /** Puts the header into a file of its own instead of the volume's first MiB. */
  header?: string | undefined;
  /**
   * Replaces existing targets, once the new files are complete. A block device is overwritten where it is. A detached
   * header is replaced only together with its own data.
   */
  force?: boolean | undefined;
  /**
   * Default true: what is reported as done is on the disk. Without it, a power cut may leave anything at the targets'
   * paths.
   */
  fsync?: boolean | undefined;
  /**
   * Called when the target file or object is complete, before it can be seen at its path; what it throws ends the job,
   * and the target is as it was. A device has no such moment.
   */
  beforePublish?: (() => Promise<void>) | undefined;
  /** What a new snapshot (`ebs:new`) is given. */
  snapshot?: SnapshotOptions | undefined;
  /** How a store is reached where image or volume is in one (`s3://BUCKET/KEY`, `ebs:snap-...`, `ebs:new`). */
  store?: StoreOptions | undefined;
  /** Called with a warning, one sentence, about something that does not stop the job. */
  onWarning?: ((warning: string) => void) | undefined;
}

/** Options of `encryptImage`. */
export interface EncryptOptions extends NewVolumeOptions {
  /** Fills an image up to whole sectors; `decryptImage` gives back its exact length. */
  pad?: boolean | undefined;
  /**
   * Takes an image file as it is, also where it looks like a container (qcow2, VHDX, ...), a compressed file or a
   * volume.
   */
  raw?: boolean | undefined;
  /** Hashes the image on the way: `sha256` of the result. As fast as one processor hashes. */
  sha256?: boolean | undefined;
  /**
   * A run that is interrupted keeps what it has done in the target's directory, or in S3 with a record beside the
   * object (`KEY.volseal-resume`); the same call resumes it. Not for streams, block devices and snapshots as targets,
   * not with `sha256`, not without `fsync`, not for an object with `header`.
   */
  resume?: boolean | undefined;
}

/** Options of `createVolume`. */
export interface CreateOptions extends NewVolumeOptions {
  /** Size of the volume, a multiple of `sectorBytes`. */
  sizeBytes: number;
}

/**
 * Encrypts a raw image (a regular file, a block device, an object or a stream) into a new volume. The image is only
 * read.
 *
 * @param image a path, `s3://BUCKET/KEY`, `ebs:snap-...`, an open stream, or chunks of bytes, whose length may be
 * unknown where the volume goes to S3
 * @param volume a path, `s3://BUCKET/KEY`, `ebs:new`, or an open stream, which gets the volume in order; what it got
 * before a failure it keeps
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IMAGE_SIZE`, `ERR_TARGET_EXISTS`, `ERR_STATE_BUSY`, `ERR_KMS_*`, `ERR_IO`
 * (of a stream also `ENODATA`: it ends early, and `EFBIG`: it is longer), `ERR_SOURCE_CHANGED`, `ERR_TARGET_SIZE`,
 * `ERR_RESUME`, `ERR_STORE_*`, `ERR_ABORTED`, `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`. Whatever fails, target files are as
 * they were; a block device is not, and the message says so.
 */
export async function encryptImage(
  image: string | SourceStream | SourceChunks,
  volume: string | TargetStream,
  options: EncryptOptions = {},
): Promise<EncryptedImage> {
  const facts = { source: nameOf(image), target: nameOf(volume) };
  return logged('encrypt', facts, options, (own) => encrypt(image, volume, own));
}

const nameOf = (side: string | { readonly name?: string | undefined }): string =>
  typeof side === 'string' ? side : (side.name ?? 'a stream');

async function encrypt(
  image: string | SourceStream | SourceChunks,
  volume: string | TargetStream,
  options: EncryptOptions,
): Promise<EncryptedImage> {
  const sectorBytes = checkSectorBytes(options.sectorBytes);
  if (typeof image !== 'string' && typeof volume === 'string' && isStored(volume)) {
    if ('chunks' in image) return await encryptStream(image, volume, sectorBytes, options);
    const own = chunksOf(image);
    return await encryptStream(own, volume, sectorBytes, options).finally(() => own.close());
  }
  if (typeof image !== 'string' && 'chunks' in image) {
    const { sizeBytes, name = 'the stream' } = image;
    if (sizeBytes === undefined)
      throw new VolsealError('ERR_ARGUMENT', `${name}: the size of the image must be known, unless the volume goes to S3`);
    return await withChunks({ ...image, sizeBytes }, (stream) => encrypt(stream, volume, options));
  }
  if (typeof image !== 'string') {
    const { fd, name, sizeBytes } = image;
    checkImageSize(sizeBytes, name, sectorBytes, options.pad === true);
    const stream: VolumeSource = { path: name, imageBytes: sizeBytes, side: { kind: 'stream', fd, sizeBytes } };
    return await makeVolume(stream, volume, sectorBytes, options);
  }
  return await withImage(image, options, (source) => makeVolume(source, volume, sectorBytes, options));
}

/**
 * Opens an image for `use`, which encrypts it, once it is known to be one.
 * @param image a path, or a name in a store @throws {VolsealError} as `encryptImage`, and what `use` throws
 */
export async function withImage<T>(image: string, options: EncryptOptions, use: (source: VolumeSource) => Promise<T>): Promise<T> {
  const sectorBytes = checkSectorBytes(options.sectorBytes);
  const pad = options.pad === true;
  if (isStored(image)) {
    const { withStoredImage } = await import('./stored/stored-source.js');
    const { store, raw = false, signal } = options;
    return await withStoredImage(image, { store, raw, signal }, (source) => {
      checkImageSize(source.imageBytes, image, sectorBytes, pad);
      return use(source);
    });
  }
  await using file = await openDataFile(image, constants.O_RDONLY);
  const imageBytes = file.sizeBytes();
  const { raw = false, onWarning } = options;
  const edges = raw && onWarning === undefined ? undefined : await readEdges(file, imageBytes);
  if (edges !== undefined && !raw) refuseOtherFormats(edges, image);
  checkImageSize(imageBytes, image, sectorBytes, pad);
  if (edges !== undefined && onWarning !== undefined)
    for (const warning of await sourceWarnings(file, edges, sectorBytes)) onWarning(warning);
  const side = { kind: 'file' as const, fd: file.fd, offsetBytes: 0, sizeBytes: imageBytes, sparse: false };
  return await use({ path: image, imageBytes, side, file });
}

/** A stream into a store. */
async function encryptStream(
  image: SourceChunks,
  volume: string,
  sectorBytes: SectorBytes,
  options: EncryptOptions,
): Promise<EncryptedImage> {
  const { name = 'the stream', sizeBytes } = image;
  const checkSize = (bytes: number): void => checkImageSize(bytes, name, sectorBytes, options.pad === true);
  if (sizeBytes !== undefined) checkSize(sizeBytes);
  if (options.resume === true) checkResumable(name, true, options);
  refuseSnapshotOptions(volume, options.snapshot);
  const plan = planTarget(volume, { ...options, sectorBytes });
  const job = { signal: options.signal, onProgress: options.onProgress };
  return (await import('./stored/store-stream.js')).storeStream(plan, image, checkSize, options.store, job);
}

/**
 * Makes a new volume that reads as zeros.
 *
 * @throws {VolsealError} as `encryptImage`
 */
export async function createVolume(volumePath: string, options: CreateOptions): Promise<VolumeInfo & Pick<EncryptedImage, 'snapshotId'>> {
  const sectorBytes = checkSectorBytes(options.sectorBytes);
  const { sizeBytes } = options;
  const problem = sizeProblem(sizeBytes, sectorBytes);
  if (problem !== undefined)
    throw new VolsealError('ERR_IMAGE_SIZE', `${volumePath}: ${problem}`, { details: { path: volumePath, sizeBytes, sectorBytes } });
  const zeros: VolumeSource = { path: volumePath, imageBytes: sizeBytes, side: { kind: 'zeros', sizeBytes } };
  return logged('create', { target: volumePath }, options, async (own) => {
    const { dataSeconds: _, ...info } = await makeVolume(zeros, volumePath, sectorBytes, own);
    return info;
  });
}

async function makeVolume(
  source: VolumeSource,
  target: string | TargetStream,
  sectorBytes: SectorBytes,
  options: NewVolumeOptions & Pick<EncryptOptions, 'sha256' | 'resume'>,
): Promise<EncryptedImage> {
  refuseSnapshotOptions(typeof target === 'string' ? target : target.name, options.snapshot);
  if (options.resume === true) {
    const isObject = source.side.kind === 'stored' && typeof target === 'string';
    checkResumable(source.path, source.file === undefined && !isObject, options);
  }
  const plan = planVolume(source, typeof target === 'string' ? target : target.name, { ...options, sectorBytes });
  const job = { signal: options.signal, onProgress: options.onProgress };
  if (typeof target !== 'string') return streamVolume(plan, target, job);
  if (isStored(target)) return (await import('./stored/store-volume.js')).storeVolume(plan, options.store, job);
  if (source.side.kind === 'stored') {
    const { checkStoredOptions } = await import('./stored/stored-source.js');
    const { sha256, allocation } = plan;
    checkStoredOptions(source.path, { sha256, resume: false, sparse: allocation === 'sparse' });
  }
  return buildVolume(plan, job);
}

/** The caller's options, checked, with their defaults. @throws {VolsealError} `ERR_ARGUMENT` */
export function planVolume(
  source: VolumeSource,
  volumePath: string,
  options: NewVolumeOptions & Pick<EncryptOptions, 'sha256' | 'resume'>,
): VolumePlan {
  return { source, ...planTarget(volumePath, options) };
}

function planTarget(volumePath: string, options: NewVolumeOptions & Pick<EncryptOptions, 'sha256' | 'resume'>): TargetPlan {
  const { header, allocation, onWarning, beforePublish, logger } = options;
  if (allocation !== undefined && allocation !== 'full' && allocation !== 'sparse')
    throw new VolsealError('ERR_ARGUMENT', `an allocation of ${JSON.stringify(allocation)} is neither full nor sparse`);
  return {
    volumePath,
    header,
    sectorBytes: checkSectorBytes(options.sectorBytes),
    allocation,
    endpoint: withAccess(forNewKeys(chooseKms(options)), options.kmsAccess),
    kmsAccess: options.kmsAccess,
    volumeId: checkVolumeId(options.volumeId ?? newVolumeId()),
    hasChosenId: options.volumeId !== undefined,
    keyId: options.key ?? DEFAULT_KEY,
    contextPairs: options.encryptionContext ?? {},
    snapshot: options.snapshot,
    sha256: options.sha256 === true,
    output: {
      force: options.force === true,
      fsync: options.fsync !== false,
      resume: options.resume === true,
      onWarning,
      beforePublish,
    },
    logger,
  };
}

/** @throws {VolsealError} `ERR_ARGUMENT` where it is none */
export function checkVolumeId(volumeId: string): string {
  if (isVolumeId(volumeId)) return volumeId;
  throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(volumeId)} is not a volume id: expected vol- and 17 hexadecimal digits`);
}

/** @throws {VolsealError} `ERR_ARGUMENT` where a volume cannot have such sectors */
export function checkSectorBytes(sectorBytes: number = DEFAULT_SECTOR_BYTES): SectorBytes {
  const known = SECTOR_SIZES.find((size) => size === sectorBytes);
  if (known === undefined)
    throw new VolsealError('ERR_ARGUMENT', `a sector size of ${sectorBytes} is not one of ${SECTOR_SIZES.join(', ')}`);
  return known;
}

/** @throws {VolsealError} `ERR_IMAGE_SIZE` where a volume cannot have such a size */
export function checkImageSize(sizeBytes: number, path: string, sectorBytes: number, pad: boolean): void {
  const problem = sizeBytes === 0 ? 'the image is empty' : sizeProblem(sizeBytes, pad ? 1 : sectorBytes);
  if (problem === undefined) return;
  throw new VolsealError('ERR_IMAGE_SIZE', `${path}: ${problem}`, { details: { path, sizeBytes, sectorBytes } });
}
