/** Checks a volume: header, key, and on request the data. Nothing is changed. */
import { constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import { openDataFile } from '../output/data-file.js';
import { type VolumeSession, withVolume } from '../volume/session.js';
import type { OpenOptions } from '../volume/unlock.js';
import type { VolumeFile } from '../volume/volume-file.js';
import { type JobOptions, transformImage } from './transform.js';

const UNCHANGED = 'nothing was changed';

/** Options of `verifyVolume`. */
export interface VerifyOptions extends OpenOptions, JobOptions {
  /** An image (regular file or block device) that the volume's plaintext must be, byte for byte. */
  against?: string | undefined;
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

function checkCopies({ found, data: { path }, header: { path: headerPath } }: VolumeFile): void {
  const { primary, secondary } = found.copies;
  if (primary === 'good' && secondary === 'good') return;
  throw new VolsealError(
    'ERR_HEADER_DAMAGED',
    `${headerPath}: one copy of the header is not whole (primary: ${primary}; secondary: ${secondary})`,
    { details: { path, ...(headerPath === path ? {} : { header: headerPath }), copies: { primary, secondary } } },
  );
}

async function compare({ file, key, pool }: VolumeSession, against: string, job: JobOptions): Promise<void> {
  await using image = await openDataFile(against, constants.O_RDONLY);
  const { path } = file.data;
  const { imageBytes, allocation } = file.token;
  const sizeBytes = image.sizeBytes();
  const isDevice = (await image.stat()).isBlockDevice();
  if (sizeBytes < imageBytes || (sizeBytes > imageBytes && !isDevice)) {
    throw new VolsealError('ERR_IMAGE_DIFFERS', `${against}: has ${sizeBytes} bytes, the image in ${path} has ${imageBytes}`, {
      details: { path: against, sizeBytes, imageBytes },
    });
  }
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
  if (differsAtByte === undefined) return;
  const sector = Math.floor(differsAtByte / sectorBytes);
  throw new VolsealError(
    'ERR_IMAGE_DIFFERS',
    `${against}: differs from ${path} first at byte ${differsAtByte}, in sector ${sector} of ${sectorBytes} bytes`,
    { details: { path: against, offsetBytes: differsAtByte, sector, sectorBytes } },
  );
}
