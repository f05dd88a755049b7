/** Checks a volume: header, key, and on request the data. Nothing is changed. */
import { constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import { openDataFile } from '../output/data-file.js';
import type { NamedFile } from '../output/named-file.js';
import { isStored } from '../stores/location.js';
import type { StoreOptions } from '../stores/store.js';
import { type VolumeSession, withVolume } from '../volume/session.js';
import type { NamedContents, OpenOptions } from '../volume/unlock.js';
import { type JobOptions, transformImage } from './transform.js';

const UNCHANGED = 'nothing was changed';

/** Options of `verifyVolume`. */
export interface VerifyOptions extends OpenOptions, JobOptions {
  /** An image (regular file or block device) that the volume's plaintext must be, byte for byte. */
  against?: string | undefined;
  /** How a store is reached where the volume is an object (`s3://BUCKET/KEY`). */
  store?: StoreOptions | undefined;
}

/** The result of `verifyVolume`: all of it was proved. */
export interface VerifiedVolume {
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** Path of the volume. */
  path: string;
  /** ARN of the KMS key that unwrapped the data key. */
  keyId: string;
  /** Length of the image that was encrypted. */
  imageBytes: number;
  /**
   * Whether the data is known to be this header's. False for a detached header of which nothing tells: there is no data
   * yet, or it looks random and the header has no samples of it.
   */
  dataBound: boolean;
  /** The image that the data was compared with; null where there was none: then the data was not checked. */
  against: string | null;
}

/**
 * Checks both header copies and that a detached header and the data belong together, has KMS unwrap the key, proves
 * digest and MAC with it, and with `against` compares all of the data. XTS has no authentication: without an image to
 * compare with, changed data cannot be told from data that was written.
 *
 * @throws {VolsealError} `ERR_HEADER_DAMAGED` also where one copy is good and the other is not (`details.copies`);
 * `ERR_IMAGE_DIFFERS`; the rest as `decryptImage`
 */
export async function verifyVolume(path: string, options: VerifyOptions = {}): Promise<VerifiedVolume> {
  if (isStored(path)) return verifyStored(path, options);
  return withVolume(path, options, { lock: 'shared', ifStopped: UNCHANGED }, async (session) => {
    await session.unlock();
    checkCopies(session.file);
    if (options.against !== undefined) await compare(session, options.against, options);
    const { volumeId, keyId, imageBytes } = session.file.token;
    return {
      volumeId,
      path,
      keyId,
      imageBytes,
      dataBound: session.isBound || options.against !== undefined,
      against: options.against ?? null,
    };
  });
}

/** @throws {VolsealError} `ERR_HEADER_DAMAGED` where one of the two is not good */
export function checkCopies({ found, data: { path }, header: { path: headerPath } }: NamedContents): void {
  const { primary, secondary } = found.copies;
  if (primary === 'good' && secondary === 'good') return;
  throw new VolsealError(
    'ERR_HEADER_DAMAGED',
    `${headerPath}: one copy of the header is not whole (primary: ${primary}; secondary: ${secondary})`,
    { details: { path, ...(headerPath === path ? {} : { header: headerPath }), copies: { primary, secondary } } },
  );
}

async function verifyStored(path: string, options: VerifyOptions): Promise<VerifiedVolume> {
  const [{ withStoredVolume }, { compareStored }] = await Promise.all([import('../volume/stored-volume.js'), import('./stored-verify.js')]);
  return withStoredVolume(path, options, async (session) => {
    const { volume } = session;
    checkCopies(volume);
    const { volumeId, keyId, imageBytes } = volume.token;
    const { against = null } = options;
    if (against !== null) {
      await using image = await openEqualImage(against, path, imageBytes);
      const differsAtByte = await compareStored(session, image, { ...options, stopped: UNCHANGED });
      if (differsAtByte !== undefined) throw imageDiffers(against, path, differsAtByte, volume.segment.sectorBytes);
    }
    // The header is in front of the data: both are one object.
    return { volumeId, path, keyId, imageBytes, dataBound: true, against };
  });
}

async function compare({ file, key, pool }: VolumeSession, against: string, job: JobOptions): Promise<void> {
  const { path } = file.data;
  const { imageBytes, allocation } = file.token;
  await using image = await openEqualImage(against, path, imageBytes);
  const { sectorBytes, offsetBytes } = file.segment;
  const { differsAtByte } = await transformImage(
    pool,
    {
      key,
      mode: 'compare',
      sectorBytes,
      source: { kind: 'file', fd: file.data.fd, offsetBytes, sizeBytes: file.sizeBytes, sparse: allocation === 'sparse' },
      target: { kind: 'file', fd: image.fd, offsetBytes: 0, sizeBytes: imageBytes, sparse: false },
      startByte: 0,
      digest: false,
    },
    { source: path, target: against },
    { ...job, stopped: UNCHANGED },
  );
  if (differsAtByte !== undefined) throw imageDiffers(against, path, differsAtByte, sectorBytes);
}

/** Opens an image that is as long as the volume's. @throws {VolsealError} `ERR_IMAGE_DIFFERS`, `ERR_IO` */
async function openEqualImage(against: string, path: string, imageBytes: number): Promise<NamedFile> {
  const image = await openDataFile(against, constants.O_RDONLY);
  try {
    const sizeBytes = image.sizeBytes();
    const isDevice = (await image.stat()).isBlockDevice();
    if (sizeBytes >= imageBytes && (sizeBytes === imageBytes || isDevice)) return image;
    throw new VolsealError('ERR_IMAGE_DIFFERS', `${against}: has ${sizeBytes} bytes, the image in ${path} has ${imageBytes}`, {
      details: { path: against, sizeBytes, imageBytes },
    });
  } catch (error) {
    await image.close();
    throw error;
  }
}

function imageDiffers(against: string, path: string, differsAtByte: number, sectorBytes: number): VolsealError {
  const sector = Math.floor(differsAtByte / sectorBytes);
  return new VolsealError(
    'ERR_IMAGE_DIFFERS',
    `${against}: differs from ${path} first at byte ${differsAtByte}, in sector ${sector} of ${sectorBytes} bytes`,
    { details: { path: against, offsetBytes: differsAtByte, sector, sectorBytes } },
  );
}
