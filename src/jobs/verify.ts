/** Whether a volume is whole and its owner's: header, key, and on request the data. Nothing is changed. */
import { constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import { type KeyHandle, native } from '../native.js';
import { dataFileBytes, openDataFile } from '../output/data-file.js';
import { openVolumeFile, unlockVolume, type VolumeFile } from '../volume/volume-file.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { type JobOptions, transformImage } from './transform.js';

/** Options of `verifyVolume`. */
export interface VerifyOptions extends JobOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /** Where the key is unwrapped; default: what the header records, unless that is a URL. */
  kms?: string | undefined;
  /** Where the embedded KMS lies if neither `kms` nor the header says. Default: the user's data folder. */
  embeddedHome?: string | undefined;
  /** Pairs that the volume's encryption context must have. */
  encryptionContext?: EncryptionContext | undefined;
  /** An image (regular file or block device) that the volume's plaintext must be, byte for byte. */
  against?: string | undefined;
}

/** What held. */
export interface VerifiedVolume {
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** Path of the volume. */
  path: string;
  /** ARN of the KMS key that unwrapped the data key. */
  keyId: string;
  /** Length of the image that was encrypted. */
  imageBytes: number;
  /** The image that the data was compared with; null where there was none: then nothing is said about the data. */
  against: string | null;
}

/**
 * Checks both header copies, has KMS unwrap the key, proves digest and MAC with it, and with `against` compares all of the data. XTS has no
 * authentication: without an image to compare with, data that somebody changed cannot be told from data that was written.
 *
 * @throws {VolsealError} `ERR_HEADER_DAMAGED` also where one copy is good and the other is not (`details.copies`); `ERR_IMAGE_DIFFERS`; the
 * rest as `decryptImage`
 */
export async function verifyVolume(path: string, options: VerifyOptions = {}): Promise<VerifiedVolume> {
  const volume = await openVolumeFile(path, { header: options.header, writable: false, lock: 'shared' });
  let pool: PoolLease | undefined;
  let key: KeyHandle | undefined;
  try {
    pool = leasePool();
    throwIfAborted(options.signal, 'nothing was changed');
    key = await unlockVolume(volume, options, pool);
    checkCopies(volume);
    if (options.against !== undefined) await compare(volume, options.against, key, pool, options);
    const { volumeId, keyId, imageBytes } = volume.token;
    return { volumeId, path, keyId, imageBytes, against: options.against ?? null };
  } finally {
    if (key !== undefined) native.keyWipe(key);
    await pool?.release();
    await volume.close();
  }
}

function checkCopies({ found, path, headerPath }: VolumeFile): void {
  const { primary, secondary } = found.copies;
  if (primary === 'good' && secondary === 'good') return;
  throw new VolsealError(
    'ERR_HEADER_DAMAGED',
    `${headerPath}: one copy of the header is not whole (primary: ${primary}; secondary: ${secondary})`,
    { details: { path, ...(headerPath === path ? {} : { header: headerPath }), copies: { primary, secondary } } },
  );
}

async function compare(volume: VolumeFile, against: string, key: KeyHandle, pool: PoolLease, job: JobOptions): Promise<void> {
  await using image = await openDataFile(against, constants.O_RDONLY);
  const { imageBytes, allocation } = volume.token;
  const sizeBytes = dataFileBytes(image, against);
  const isDevice = (await image.stat()).isBlockDevice();
  if (sizeBytes < imageBytes || (sizeBytes > imageBytes && !isDevice)) {
    throw new VolsealError('ERR_IMAGE_DIFFERS', `${against}: has ${sizeBytes} bytes, the image in ${volume.path} has ${imageBytes}`, {
      details: { path: against, sizeBytes, imageBytes },
    });
  }
  const { sectorBytes, offsetBytes } = volume.segment;
  const { differsAtByte } = await transformImage(
    pool,
    {
      key,
      mode: 'compare',
      sectorBytes,
      source: { kind: 'file', fd: volume.data.fd, offsetBytes, sizeBytes: volume.sizeBytes, sparse: allocation === 'sparse' },
      target: { kind: 'file', fd: image.fd, offsetBytes: 0, sizeBytes: imageBytes, sparse: false },
      startByte: 0,
      digest: false,
    },
    { source: volume.path, target: against },
    { ...job, stopped: 'nothing was changed' },
  );
  if (differsAtByte === undefined) return;
  const sector = Math.floor(differsAtByte / sectorBytes);
  throw new VolsealError(
    'ERR_IMAGE_DIFFERS',
    `${against}: differs from ${volume.path} first at byte ${differsAtByte}, in sector ${sector} of ${sectorBytes} bytes`,
    { details: { path: against, offsetBytes: differsAtByte, sector, sectorBytes } },
  );
}
