/** A volume back into a raw image. The volume is only read. */
import { VolsealError } from '../errors.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import { type KeyHandle, native, type TransformOptions } from '../native.js';
import { openTarget } from '../output/atomic-file.js';
import { dataFileBytes } from '../output/data-file.js';
import { checkTarget, refuseOwnDevice, type TargetWish } from '../output/resolve-target.js';
import type { TargetFile } from '../output/target.js';
import { openVolumeFile, unlockVolume, type VolumeFile } from '../volume/volume-file.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import type { TargetStream } from './image-stream.js';
import { beginOrGoOn, forgetProgress, type ResumableJob } from './resume.js';
import { whileUnchanged } from './source-watch.js';
import { type JobOptions, transformImage } from './transform.js';

/** Options of `decryptImage`. */
export interface DecryptOptions extends JobOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /** Where the key is unwrapped; default: what the header records, unless that is a URL. */
  kms?: string | undefined;
  /** Where the embedded KMS lies if neither `kms` nor the header says. Default: the user's data folder. */
  embeddedHome?: string | undefined;
  /** Pairs that the volume's encryption context must have. */
  encryptionContext?: EncryptionContext | undefined;
  /** Replaces an existing image once its successor is whole. A block device is overwritten where it is. */
  force?: boolean | undefined;
  /** Default true: what is reported as done is on the disk. Without, a power cut may leave anything in the image's place. */
  fsync?: boolean | undefined;
  /**
   * A run that is interrupted leaves what it has done beside the image; the same call again goes on there. Not for streams and block devices
   * as targets, not with `sha256`, not without `fsync`.
   */
  resume?: boolean | undefined;
  /** Called with a warning, one sentence, about something that does not stop the job. */
  onWarning?: ((warning: string) => void) | undefined;
  /** Leaves blocks of zeros in the image as holes. A sparse volume's image file is left so in any case. */
  sparse?: boolean | undefined;
  /** Hashes the image on the way: `sha256` of the result. */
  sha256?: boolean | undefined;
}

/** What `decryptImage` made. */
export interface DecryptedImage {
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** Absolute path of the image, or the name of the stream. */
  path: string;
  /** Length of the image. */
  imageBytes: number;
  /** What the data took, from the first byte to the last one flushed and in its place: not the program's start, not KMS. */
  dataSeconds: number;
  /** SHA-256 of the image in hexadecimal, where it was asked for. */
  sha256?: string;
}

/**
 * Decrypts a volume into a raw image of its exact old length.
 *
 * @param image a path, or an open stream, which gets the image in order; what it got before a failure it keeps
 * @throws {VolsealError} `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_STATE_BUSY` (attached for writing), `ERR_KMS_*`,
 * `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_TARGET_EXISTS`, `ERR_TARGET_SIZE`, `ERR_SOURCE_CHANGED`, `ERR_RESUME`, `ERR_ARGUMENT`, `ERR_IO`,
 * `ERR_ABORTED`, `ERR_SELF_TEST`. Whatever fails, a target file is as it was; a block device is not, and the message says so.
 */
export async function decryptImage(
  volumePath: string,
  image: string | TargetStream,
  options: DecryptOptions = {},
): Promise<DecryptedImage> {
  const imagePath = typeof image === 'string' ? image : image.name;
  const resume = options.resume === true;
  if (resume) checkResumable(image, imagePath, options);
  if (typeof image !== 'string' && options.sparse === true)
    throw new VolsealError('ERR_ARGUMENT', `${imagePath}: is a stream, which cannot have holes; leave out the option sparse`);
  const volume = await openVolumeFile(volumePath, { header: options.header, writable: false, lock: 'shared' });
  let pool: PoolLease | undefined;
  let key: KeyHandle | undefined;
  let target: TargetFile | undefined;
  try {
    const { imageBytes, volumeId } = volume.token;
    const wish = {
      force: options.force === true,
      fsync: options.fsync !== false,
      resume,
      onWarning: options.onWarning,
      deviceBytes: imageBytes,
    };
    pool = leasePool();
    if (typeof image === 'string') await checkPlace(volume, image, wish, options.sparse === true);
    throwIfAborted(options.signal);
    key = await unlockVolume(volume, options, pool);
    if (typeof image === 'string') target = await openTarget(image, wish);
    const startedMs = performance.now();
    const isSparse = volume.token.allocation === 'sparse';
    const transform: TransformOptions = {
      key,
      mode: 'decrypt',
      sectorBytes: volume.segment.sectorBytes,
      source: { kind: 'file', fd: volume.data.fd, offsetBytes: volume.segment.offsetBytes, sizeBytes: volume.sizeBytes, sparse: isSparse },
      target:
        target === undefined
          ? { kind: 'stream', fd: (image as TargetStream).fd, sizeBytes: imageBytes }
          : {
              kind: 'file',
              fd: target.file.fd,
              offsetBytes: 0,
              sizeBytes: imageBytes,
              // A device does not read as zeros where nothing was written.
              sparse: options.sparse === true || (isSparse && !target.place.isDevice),
            },
      startByte: 0,
      digest: options.sha256 === true,
    };
    const paths = { source: volumePath, target: imagePath };
    const job = { pool, signal: options.signal, onProgress: options.onProgress };
    const resumable = resume ? resumableJob(volume, target!, transform) : undefined;
    const run = async () => {
      if (resumable === undefined) await target?.begin();
      const identity = { volumeId, uuid: volume.found.header.uuid };
      const checkpoint = resumable && (await beginOrGoOn(resumable, identity, transform, job, options.onWarning));
      const stopped = target === undefined ? `${imagePath} has got a part of the image` : undefined;
      return transformImage(job.pool, transform, paths, { ...job, checkpoint, stopped });
    };
    const { sha256 } = await whileUnchanged(volume.data, volumePath, dataFileBytes(volume.data, volumePath), run);
    throwIfAborted(options.signal);
    await target?.publish();
    if (resumable !== undefined) await forgetProgress(target!);
    const made = { volumeId, path: imagePath, imageBytes, dataSeconds: (performance.now() - startedMs) / 1000 };
    return sha256 === undefined ? made : { ...made, sha256 };
  } catch (error) {
    throw target === undefined ? error : target.explained(error);
  } finally {
    await target?.[Symbol.asyncDispose]();
    if (key !== undefined) native.keyWipe(key);
    await pool?.release();
    await volume.close();
  }
}

function checkResumable(image: string | TargetStream, name: string, { fsync, sha256 }: DecryptOptions): void {
  const refuse = (why: string): never => {
    throw new VolsealError('ERR_ARGUMENT', `${name}: cannot be made so that it can be resumed: ${why}`);
  };
  if (typeof image !== 'string') refuse('a stream goes only once');
  if (sha256) refuse('a SHA-256 cannot begin in the middle of an image');
  if (fsync === false) refuse('without fsync nobody knows what is on the disk');
}

async function checkPlace(volume: VolumeFile, imagePath: string, wish: TargetWish, sparse: boolean): Promise<void> {
  await refuseOwnDevice(volume.data, volume.path, imagePath);
  await refuseOwnDevice(volume.header, volume.headerPath, imagePath);
  if (!(await checkTarget(imagePath, wish)).isDevice || !sparse) return;
  throw new VolsealError('ERR_ARGUMENT', `${imagePath}: is a block device, whose old bytes would stay where an image has holes`, {
    details: { path: imagePath },
  });
}

function resumableJob(volume: VolumeFile, target: TargetFile, transform: TransformOptions): ResumableJob {
  return {
    kind: 'decrypt',
    source: volume.data,
    sourcePath: volume.path,
    sourceBytes: dataFileBytes(volume.data, volume.path),
    target,
    sectorBytes: transform.sectorBytes,
    choices: {
      sparse: String(transform.target.kind === 'file' && transform.target.sparse),
      header: volume.header === volume.data ? 'embedded' : 'detached',
    },
  };
}
