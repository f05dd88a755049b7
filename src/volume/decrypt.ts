/** A volume back into a raw image. The volume is only read. */
import type { EncryptionContext } from '../kms/encryption-context.js';
import { type KeyHandle, native } from '../native.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { checkTarget, openTarget } from './target-file.js';
import { type JobOptions, throwIfAborted, transformImage } from './transform-image.js';
import { openVolumeFile, unlockVolume } from './volume-file.js';

export interface DecryptOptions extends JobOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /** Where the key is unwrapped; default: what the header records, unless that is a URL. */
  kms?: string | undefined;
  /** Where the embedded KMS lies if neither `kms` nor the header says. Default: the user's data folder. */
  embeddedHome?: string | undefined;
  /** Pairs that the volume's encryption context must have. */
  encryptionContext?: EncryptionContext | undefined;
  /** Replaces an existing image once its successor is whole. */
  force?: boolean | undefined;
}

/** What `decryptImage` made. */
export interface DecryptedImage {
  volumeId: string;
  path: string;
  imageBytes: number;
}

/**
 * Decrypts a volume into a raw image of its exact old length.
 *
 * @throws {VolsealError} `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_STATE_BUSY` (attached for writing), `ERR_KMS_*`,
 * `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_TARGET_EXISTS`, `ERR_IO`, `ERR_ABORTED`, `ERR_SELF_TEST`. Whatever fails, the target is as it was.
 */
export async function decryptImage(volumePath: string, imagePath: string, options: DecryptOptions = {}): Promise<DecryptedImage> {
  const force = options.force === true;
  const volume = await openVolumeFile(volumePath, { header: options.header, writable: false, lock: 'shared' });
  let pool: PoolLease | undefined;
  let key: KeyHandle | undefined;
  try {
    pool = leasePool();
    await checkTarget(imagePath, force);
    throwIfAborted(options.signal);
    key = await unlockVolume(volume, options, pool);
    const { imageBytes } = volume.token;
    await using target = await openTarget(imagePath, force);
    await transformImage(
      pool,
      {
        key,
        mode: 'decrypt',
        sourceFd: volume.data.fd,
        sourceOffsetBytes: volume.segment.offsetBytes,
        sourceBytes: volume.sizeBytes,
        targetFd: target.file.fd,
        targetOffsetBytes: 0,
        targetBytes: imageBytes,
        sectorBytes: volume.segment.sectorBytes,
        startByte: 0,
        sparseSource: false,
        sparseTarget: false,
        digest: false,
      },
      { source: volumePath, target: imagePath },
      options,
    );
    throwIfAborted(options.signal);
    await target.publish();
    return { volumeId: volume.token.volumeId, path: imagePath, imageBytes };
  } finally {
    if (key !== undefined) native.keyWipe(key);
    await pool?.release();
    await volume.close();
  }
}
