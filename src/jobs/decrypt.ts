/** A volume back into a raw image. The volume is only read. */
import { VolsealError } from '../errors.js';
import type { TransformOptions } from '../native.js';
import { openTarget } from '../output/open-target.js';
import { type ResolvedTarget, refuseOwnDevice, resolveTarget, type TargetOptions } from '../output/resolve-target.js';
import type { OpenTargetOptions, TargetFile } from '../output/target.js';
import { beginOrResume, checkResumable, forgetProgress, type ResumableJob, resumableFile } from '../resume/resume.js';
import { refuseSnapshotOptions } from '../stores/ebs/location.js';
import { isStored } from '../stores/location.js';
import type { TargetStream } from '../transfer/image-stream.js';
import { whileUnchanged } from '../transfer/source-watch.js';
import { type JobOptions, transformImage } from '../transfer/transform.js';
import { type ImageSession, withVolume } from '../volume/session.js';
import type { OpenFiles } from '../volume/volume-file.js';
import type { DecryptedImage, DecryptOptions } from './decrypt-options.js';

/**
 * Decrypts a volume into a raw image of its exact old length.
 *
 * @param volumePath of a file or device, or `s3://BUCKET/KEY`, `ebs:snap-...`
 * @param image a path, `s3://BUCKET/KEY`, `ebs:new`, or an open stream, which gets the image in order; what it got
 * before a failure it keeps
 * @throws {VolsealError} `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_STATE_BUSY` (attached for
 * writing), `ERR_KMS_*`, `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_TARGET_EXISTS`, `ERR_TARGET_SIZE`,
 * `ERR_SOURCE_CHANGED`, `ERR_RESUME`, `ERR_STORE_*`, `ERR_ARGUMENT`, `ERR_IO`, `ERR_ABORTED`, `ERR_SELF_TEST`. Whatever
 * fails, a target file is as it was; a block device is not, and the message says so.
 */
export async function decryptImage(
  volumePath: string,
  image: string | TargetStream,
  options: DecryptOptions = {},
): Promise<DecryptedImage> {
  refuseSnapshotOptions(typeof image === 'string' ? image : image.name, options.snapshot);
  if (options.asIs === true) return await asIs(volumePath, image, options);
  if (isStored(volumePath) || (typeof image === 'string' && isStored(image)))
    return (await import('./stored/stored-decrypt.js')).decryptStored(volumePath, image, options);
  checkImage(image, options);
  return withVolume(volumePath, options, { lock: 'shared' }, (session) => decryptFrom(session, image, options));
}

/**
 * The same of a volume that is open, not unlocked yet.
 * @param image no name of a store @throws {VolsealError} as `decryptImage`
 */
export async function decryptFrom(
  session: ImageSession,
  image: string | TargetStream,
  options: Omit<DecryptOptions, 'header' | 'store' | 'snapshot' | 'asIs'>,
): Promise<DecryptedImage> {
  checkImage(image, options);
  const path = typeof image === 'string' ? image : image.name;
  const { sparse = false, targetIsZero = false, sha256: digest = false, resume = false, onWarning, beforePublish } = options;
  const { volumeId, imageBytes } = session.file.token;
  const { force = false, fsync = true } = options;
  const output = { force, fsync, resume, onWarning, beforePublish, deviceBytes: imageBytes };
  const target = typeof image === 'string' ? await resolveImage(session.file, image, output) : undefined;
  if (targetIsZero && target?.isDevice !== true)
    throw new VolsealError('ERR_ARGUMENT', `${path}: is no block device; that a target reads as zeros is said of devices only`);
  await session.unlock();
  const startedMs = performance.now();
  const sha256 =
    target === undefined
      ? await toStream(session, image as TargetStream, digest, options)
      : await toTarget(session, target, output, { digest, sparse, targetIsZero }, options);
  const made = { volumeId, path, imageBytes, dataSeconds: (performance.now() - startedMs) / 1000 };
  return sha256 === undefined ? made : { ...made, sha256 };
}

/** @throws {VolsealError} `ERR_ARGUMENT` */
function checkImage(image: string | TargetStream, options: Pick<DecryptOptions, 'sparse' | 'resume' | 'sha256' | 'fsync'>): void {
  const path = typeof image === 'string' ? image : image.name;
  if (options.sparse && typeof image !== 'string')
    throw new VolsealError('ERR_ARGUMENT', `${path}: is a stream, which cannot have holes; leave out the option sparse`);
  if (options.resume) checkResumable(path, typeof image !== 'string', options);
}

async function asIs(volumePath: string, image: string | TargetStream, options: DecryptOptions): Promise<DecryptedImage> {
  const name = typeof image === 'string' ? image : image.name;
  if (typeof image === 'string' && isStored(image)) return (await import('./stored/store-as-is.js')).storeAsIs(volumePath, image, options);
  throw new VolsealError('ERR_ARGUMENT', `${name}: is not in a store; a volume as it is is copied with cp`, { details: { path: name } });
}

async function resolveImage({ data, header }: OpenFiles, imagePath: string, output: TargetOptions): Promise<ResolvedTarget> {
  await refuseOwnDevice(data, imagePath);
  await refuseOwnDevice(header, imagePath);
  return resolveTarget(imagePath, output);
}

async function toStream(session: ImageSession, { fd, name }: TargetStream, digest: boolean, job: JobOptions): Promise<string | undefined> {
  const { file, pool } = session;
  const target = { kind: 'stream', fd, sizeBytes: file.token.imageBytes } as const;
  const transform: TransformOptions = { ...transformFrom(session), target, digest };
  const stopped = `${name} has got a part of the image`;
  const paths = { source: file.data.path, target: name };
  const { sha256 } = await whileUnchanged(file.data, file.data.sizeBytes(), () =>
    transformImage(pool, transform, paths, { ...job, stopped }),
  );
  session.throwIfAborted();
  return sha256;
}

async function toTarget(
  session: ImageSession,
  resolved: ResolvedTarget,
  output: OpenTargetOptions,
  { digest, sparse, targetIsZero }: { digest: boolean; sparse: boolean; targetIsZero: boolean },
  job: JobOptions,
): Promise<string | undefined> {
  const { file, pool } = session;
  await using target = await openTarget(resolved, output);
  try {
    // A device does not read as zeros where nothing was written, unless its owner says so.
    const holes = target.isDevice ? sparse || targetIsZero : sparse || file.token.allocation === 'sparse';
    const discard = target.isDevice && holes && !targetIsZero;
    const side = { kind: 'file', fd: target.file.fd, offsetBytes: 0, sizeBytes: file.token.imageBytes, sparse: holes, discard } as const;
    const transform: TransformOptions = { ...transformFrom(session), target: side, digest };
    const resumable = output.resume ? resumableJob(file, target, holes) : undefined;
    const { sha256 } = await whileUnchanged(file.data, file.data.sizeBytes(), async () => {
      if (resumable === undefined) await target.begin();
      const identity = { volumeId: file.token.volumeId, uuid: file.found.header.uuid };
      const run = { pool, signal: job.signal };
      const checkpoint = resumable && (await beginOrResume(resumable, identity, transform, run, output.onWarning));
      return transformImage(pool, transform, { source: file.data.path, target: target.path }, { ...job, checkpoint });
    });
    session.throwIfAborted();
    await target.publish();
    if (resumable !== undefined) await forgetProgress(target);
    return sha256;
  } catch (error) {
    throw target.withContext(error);
  }
}

function transformFrom(session: ImageSession): Omit<TransformOptions, 'target' | 'digest'> {
  const { sectorBytes } = session.file.segment;
  return { key: session.key, mode: 'decrypt', sectorBytes, source: session.imageSource(), startByte: 0 };
}

function resumableJob({ data, header, segment }: ImageSession['file'], target: TargetFile, sparse: boolean): ResumableJob {
  return {
    kind: 'decrypt',
    source: resumableFile(data, data.sizeBytes()),
    target,
    sectorBytes: segment.sectorBytes,
    choices: { sparse: String(sparse), header: header === data ? 'embedded' : 'detached' },
  };
}
