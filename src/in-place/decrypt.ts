/** A volume into the raw image that it holds, in the same file or device. */
import { logged } from '../logging.js';
import { writeHeaderFile } from '../volume/header-area.js';
import type { OpenOptions } from '../volume/unlock.js';
import type { PoolLease } from '../workers/pool.js';
import { type KeyedVolume, recordSamples, restoreHeader, type WholeVolume, withJob } from './existing.js';
import {
  type InPlaceOptions,
  type InPlaceOutcome,
  isAtStart,
  markHeader,
  moveImage,
  type OpenImage,
  partBytesOf,
  removeIfThere,
} from './job.js';
import { type InPlaceRecord, loggedOf } from './record.js';

/** Options of `decryptInPlace`. */
export interface DecryptInPlaceOptions extends OpenOptions, InPlaceOptions {}

/**
 * Decrypts a volume in place, through a journal: at its end the file is the image, of its exact length, and a detached
 * header is gone. Whenever the run ends early, the same call goes on, and with `undo` the volume becomes what it was.
 * The journal holds ciphertext only. Recovery keys and passphrases go with the header.
 *
 * @throws {VolsealError} as `attach`; `ERR_STATE_INTERRUPTED` another job is in the middle of it; `ERR_RESUME`,
 * `ERR_ARGUMENT`, `ERR_IO`, `ERR_ABORTED`. With `details.inPlace` the volume is in the middle of the job.
 */
export async function decryptInPlace(path: string, options: DecryptInPlaceOptions = {}): Promise<InPlaceOutcome> {
  return logged('decrypt in place', { path }, options, (own) => decrypt(path, own));
}

async function decrypt(path: string, options: DecryptInPlaceOptions): Promise<InPlaceOutcome> {
  return withJob(path, 'decrypt', options, async ({ opened, pool, volume }) => {
    const wasResumed = 'record' in volume;
    const record = wasResumed ? volume.record : await begin(opened, volume, options);
    const startedMs = performance.now();
    const undone = options.undo === true;
    await work(opened, volume, record, undone, options, pool);
    const { volumeId, imageBytes } = record;
    return { path, volumeId, imageBytes, wasResumed, undone, dataSeconds: (performance.now() - startedMs) / 1000 };
  });
}

async function begin(opened: OpenImage, volume: WholeVolume, options: DecryptInPlaceOptions): Promise<InPlaceRecord> {
  const { segment, token, sizeBytes, found, key, area } = volume;
  const record: InPlaceRecord = {
    version: 1,
    sequence: 1,
    kind: 'decrypt',
    direction: 'toLow',
    frontierBytes: 0,
    pending: null,
    volumeId: token.volumeId,
    uuid: found.header.uuid,
    ...(await opened.describe()),
    imageBytes: token.imageBytes,
    dataBytes: sizeBytes,
    partBytes: partBytesOf(sizeBytes, segment.offsetBytes, options.partBytes),
    lowOffsetBytes: 0,
    highOffsetBytes: segment.offsetBytes,
    sectorBytes: segment.sectorBytes,
    sparse: token.allocation === 'sparse',
    header: options.header === undefined ? 'embedded' : 'detached',
    ...loggedOf(0, segment.offsetBytes),
  };
  await opened.begin({ first: area }, record, key);
  return record;
}

async function work(
  opened: OpenImage,
  volume: KeyedVolume,
  record: InPlaceRecord,
  undone: boolean,
  options: DecryptInPlaceOptions,
  pool: PoolLease,
): Promise<void> {
  const { image, isDevice } = opened;
  const journal = opened.journal!;
  const { key, headerFile } = volume;
  const { header } = volume.found;
  if (isAtStart(record) && !undone) await markHeader(headerFile!, header, key);
  await moveImage(opened, pool, record, { low: undefined, high: key, proof: key }, undone ? 'toHigh' : 'toLow', options);
  if (!undone) {
    if (!isDevice) await image.truncate(record.imageBytes);
    await image.sync();
    // It opens nothing any more.
    if (headerFile !== undefined && headerFile !== image) await removeIfThere(headerFile.path);
  } else if (headerFile !== undefined) {
    await restoreHeader(headerFile, header, await journal.firstArea());
  } else {
    await writeHeaderFile(options.header!, await journal.firstArea(), false);
  }
  await journal.remove();
  // In the middle of the job its data may have been changed.
  if (undone && options.header !== undefined) await recordSamples(image, options.header, key);
}
