/** Checks a volume: header, key, and on request the data. Nothing is changed. */
import { constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import { openDataFile } from '../output/data-file.js';
import type { InPlaceKind } from '../output/in-place-mark.js';
import type { NamedFile } from '../output/named-file.js';
import { isStored } from '../stores/location.js';
import type { StoreOptions } from '../stores/store.js';
import { type JobOptions, transformImage } from '../transfer/transform.js';
import { type ImageSession, withVolume } from '../volume/session.js';
import type { NamedContents, OpenOptions } from '../volume/unlock.js';

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
  /**
   * The job in place that the volume is in the middle of; null where it is in none. In the middle, both header copies
   * are those in the journal, and the journal's record and what was moved last are proved as well.
   */
  inPlace: InPlaceKind | null;
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
  return withVolume(path, options, { lock: 'shared', ifStopped: UNCHANGED }, (session) => verifyFrom(session, path, options));
}

/** The same of a volume that is open, not unlocked yet. @throws {VolsealError} as `verifyVolume` */
export async function verifyFrom(
  session: ImageSession,
  path: string,
  options: Pick<VerifyOptions, 'against' | 'signal' | 'onProgress'>,
): Promise<VerifiedVolume> {
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
    inPlace: session.inPlace,
  };
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
  const [{ withStoredVolume }, { compareStored }] = await Promise.all([
    import('../volume/stored-volume.js'),
    import('./stored/stored-verify.js'),
  ]);
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
    return { volumeId, path, keyId, imageBytes, dataBound: volume.isBound || against !== null, against, inPlace: null };
  });
}

async function compare(session: ImageSession, against: string, job: JobOptions): Promise<void> {
  const { file, key, pool } = session;
  const { path } = file.data;
  const { imageBytes } = file.token;
  await using image = await openEqualImage(against, path, imageBytes);
  const { sectorBytes } = file.segment;
  const target = { kind: 'file', fd: image.fd, offsetBytes: 0, sizeBytes: imageBytes, sparse: false } as const;
  const { differsAtByte } = await transformImage(
    pool,
    { key, mode: 'compare', sectorBytes, source: session.imageSource(), target, startByte: 0, digest: false },
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
