/**
 * A raw image into a volume, in the same file or device: with the header in front, for which the data moves 1 MiB
 * towards the end, or with a detached header, where the data stays in its place.
 */

import { constants } from 'node:fs';
import { stat } from 'node:fs/promises';
import { VolsealError, withPath } from '../errors.js';
import { checkImageSize, type EncryptOptions, planVolume } from '../jobs/encrypt.js';
import { resolveNewHeader } from '../jobs/header-output.js';
import { contextOf, newVolumeKey } from '../jobs/new-volume-key.js';
import { EMBEDDED_DATA_OFFSET_BYTES } from '../limits.js';
import { logged } from '../logging.js';
import { headerArea } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import { ifThere, NamedFile } from '../output/named-file.js';
import { readEdges, refuseOtherFormats } from '../transfer/image-format.js';
import { sourceWarnings } from '../transfer/source-warnings.js';
import { writeHeaderFile } from '../volume/header-area.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { recordSamples, unlockJournaled } from './existing.js';
import { type InPlaceOptions, type InPlaceOutcome, moveImage, OpenImage, partBytesOf, removeIfThere, unfinished } from './job.js';
import { type InPlaceRecord, loggedOf } from './record.js';

/** Options of `encryptInPlace`. */
export interface EncryptInPlaceOptions
  extends InPlaceOptions,
    Omit<EncryptOptions, 'force' | 'fsync' | 'sha256' | 'resume' | 'signal' | 'onProgress' | 'onWarning'> {
  /**
   * Bytes of the image where it does not fill its device: with the header in front, 1 MiB behind it must be free.
   * Default: all of the file or device.
   */
  sizeBytes?: number | undefined;
}

/**
 * Encrypts an image in place, through a journal. Whenever the run ends early, kill -9 and power cuts included, the same
 * call goes on, and with `undo` the image becomes what it was. The journal holds ciphertext only.
 *
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IMAGE_SIZE`, `ERR_TARGET_SIZE`, `ERR_TARGET_EXISTS` (the header),
 * `ERR_STATE_BUSY`, `ERR_STATE_INTERRUPTED` (another job is in the middle of it), `ERR_RESUME`, `ERR_KMS_*`, `ERR_IO`,
 * `ERR_ABORTED`, `ERR_MEMORY_LOCK`. With `details.inPlace` the image is in the middle of the job.
 */
export async function encryptInPlace(path: string, options: EncryptInPlaceOptions = {}): Promise<InPlaceOutcome> {
  return logged('encrypt in place', { path }, options, (own) => encrypt(path, own));
}

async function encrypt(path: string, options: EncryptInPlaceOptions): Promise<InPlaceOutcome> {
  await using opened = await OpenImage.open(path, options);
  await using pool = leasePool(options.logger);
  const wasResumed = opened.journal !== undefined;
  const { key, record } = await (wasResumed ? resume(opened, options, pool) : begin(opened, options, pool)).catch((error: unknown) => {
    throw unfinished(withPath(error, path), path, opened.journal?.path);
  });
  try {
    const startedMs = performance.now();
    const undone = options.undo === true;
    await moveImage(opened, pool, record, { low: undefined, high: key, proof: key }, undone ? 'toLow' : 'toHigh', options);
    await (undone ? finishUndone(opened, record, options) : finish(opened, options)).catch((error: unknown) => {
      throw unfinished(withPath(error, path), path, opened.journal?.path);
    });
    if (options.header !== undefined && !undone) await recordSamples(opened.image, options.header, key);
    const { volumeId, imageBytes } = record;
    return { path, volumeId, imageBytes, wasResumed, undone, dataSeconds: (performance.now() - startedMs) / 1000 };
  } finally {
    native.keyWipe(key);
  }
}

interface Begun {
  /** The volume's, the caller's to wipe. */
  readonly key: KeyHandle;
  readonly record: InPlaceRecord;
}

async function begin(opened: OpenImage, options: EncryptInPlaceOptions, pool: PoolLease): Promise<Begun> {
  const { image, isDevice } = opened;
  const { path } = image;
  const imageBytes = options.sizeBytes ?? image.sizeBytes();
  const plan = planVolume({ path, imageBytes, side: { kind: 'zeros', sizeBytes: imageBytes }, file: image }, path, options);
  const { sectorBytes, header } = plan;
  checkImageSize(imageBytes, path, sectorBytes, options.pad === true);
  await checkContents(image, imageBytes, sectorBytes, options);
  const dataBytes = Math.ceil(imageBytes / sectorBytes) * sectorBytes;
  const highOffsetBytes = header === undefined ? EMBEDDED_DATA_OFFSET_BYTES : 0;
  const { fileBytes, image: identity } = await opened.describe();
  checkRoom(path, fileBytes, imageBytes, highOffsetBytes + dataBytes, isDevice);
  if (isDevice && plan.allocation === 'sparse')
    throw new VolsealError('ERR_ARGUMENT', `${path}: is a block device, which has no holes to leave`, { details: { path } });
  if (header !== undefined) await resolveNewHeader(header);
  const allocation = plan.allocation ?? 'full';
  const draft = { headerPath: header ?? path, placement: header === undefined ? 'embedded' : 'detached', allocation } as const;
  const keyed = await newVolumeKey(plan, draft, contextOf(plan), pool, options.signal);
  try {
    const record: InPlaceRecord = {
      version: 1,
      sequence: 1,
      kind: 'encrypt',
      direction: 'toHigh',
      frontierBytes: dataBytes,
      pending: null,
      volumeId: keyed.volumeId,
      uuid: keyed.header.uuid,
      image: identity,
      fileBytes,
      imageBytes,
      dataBytes,
      partBytes: partBytesOf(dataBytes, highOffsetBytes, options.partBytes),
      lowOffsetBytes: 0,
      highOffsetBytes,
      sectorBytes,
      sparse: allocation === 'sparse',
      header: draft.placement,
      ...loggedOf(0, highOffsetBytes),
    };
    await opened.begin({ first: headerArea(keyed.header) }, record, keyed.key);
    return { key: keyed.key, record };
  } catch (error) {
    native.keyWipe(keyed.key);
    throw error;
  }
}

async function checkContents(
  image: NamedFile,
  imageBytes: number,
  sectorBytes: number,
  { raw, onWarning }: EncryptInPlaceOptions,
): Promise<void> {
  const edges = await readEdges(image, imageBytes);
  if (raw !== true) refuseOtherFormats(edges, image.path);
  for (const warning of await sourceWarnings(image, edges, sectorBytes)) {
    // The device is open for this job alone, so it is not in use by another one.
    if (!warning.includes('is in use')) onWarning?.(warning);
  }
}

function checkRoom(path: string, fileBytes: number, imageBytes: number, neededBytes: number, isDevice: boolean): void {
  const details = { path, sizeBytes: fileBytes, neededBytes };
  if (imageBytes > fileBytes) throw new VolsealError('ERR_IMAGE_SIZE', `${path}: has ${fileBytes} bytes, not ${imageBytes}`, { details });
  if (!isDevice && imageBytes < fileBytes)
    throw new VolsealError('ERR_IMAGE_SIZE', `${path}: has ${fileBytes} bytes; a size of its own is for block devices`, { details });
  if (!isDevice || fileBytes >= neededBytes) return;
  throw new VolsealError(
    'ERR_TARGET_SIZE',
    `${path}: has ${fileBytes} bytes, and ${neededBytes} are needed for header and data; make what is on it 1 MiB smaller and give its size (--size), or put the header into a file of its own (--header)`,
    { details },
  );
}

/** By the options that say how KMS is reached: the context is that of the volume to make. */
function resume(opened: OpenImage, { kms, home, kmsAccess, header, signal }: EncryptInPlaceOptions, pool: PoolLease): Promise<Begun> {
  return unlockJournaled(opened, undefined, 'encrypt', { kms, home, kmsAccess, header, signal }, pool);
}

/** Everything is ciphertext: the header is written, and the journal goes. */
async function finish({ image, journal }: OpenImage, { header }: EncryptInPlaceOptions): Promise<void> {
  const area = await journal!.firstArea();
  if (header === undefined) {
    await image.write(area, 0);
    await image.sync();
  } else if (!(await isWritten(header, area))) {
    await writeHeaderFile(header, area, false);
  }
  await journal!.remove();
}

/** Everything is plaintext again, at its old length. */
async function finishUndone(
  { image, journal, isDevice }: OpenImage,
  { fileBytes }: InPlaceRecord,
  options: EncryptInPlaceOptions,
): Promise<void> {
  const { header } = options;
  if (header !== undefined && (await isWritten(header, await journal!.firstArea()))) await removeIfThere(header);
  if (!isDevice) await image.truncate(fileBytes);
  await image.sync();
  await journal!.remove();
}

/** Whether an earlier run has published the header before it was killed. */
async function isWritten(path: string, area: Buffer): Promise<boolean> {
  if ((await ifThere(path, () => stat(path))) === undefined) return false;
  await using file = await NamedFile.open(path, constants.O_RDONLY);
  return (await file.read(0, area.length + 1)).equals(area);
}
