/** What jobs in place that begin with a volume, or go on with a journal, have in common: unlocking, and the header. */
import { constants } from 'node:fs';
import { stat } from 'node:fs/promises';
import { withPath } from '../errors.js';
import type { Luks2Header } from '../luks2/header.js';
import { readHeader, repairHeader, writeHeader } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import { openDataFile } from '../output/data-file.js';
import type { InPlaceKind } from '../output/in-place-mark.js';
import { ifThere, NamedFile } from '../output/named-file.js';
import { refuseHalfReplaced } from '../output/pair-journal.js';
import { refuseOtherData, renewSamples } from '../volume/data-binding.js';
import { readHeaderArea } from '../volume/header-area.js';
import { type OpenOptions, unlockVolume } from '../volume/unlock.js';
import { claimsOf, type HeaderContents, isDataOf, readContents, refuseCopyOfHeader, refuseMixture } from '../volume/volume-file.js';
import { writeToken } from '../volume/write-token.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { checkMarkFits, type InPlaceOptions, OpenImage, unfinished } from './job.js';
import type { InPlaceRecord } from './record.js';

/** The header of a volume with its key, and where it is written. */
export interface KeyedVolume extends HeaderContents {
  /** The caller's to wipe. */
  readonly key: KeyHandle;
  /** The file with the header: the image itself, or the detached one. Undefined where that is gone. */
  readonly headerFile: NamedFile | undefined;
}

/** A volume that a job in place has opened, with its key, and with the record where the job goes on. */
export interface OpenJob {
  readonly opened: OpenImage;
  readonly pool: PoolLease;
  readonly volume: JournaledVolume | WholeVolume;
}

/** A volume that no job is in the middle of. */
export interface WholeVolume extends KeyedVolume {
  readonly headerFile: NamedFile;
  /** Its header area, as a journal keeps it. */
  readonly area: Buffer;
}

/** A volume that a job is in the middle of. */
export interface JournaledVolume extends KeyedVolume {
  readonly record: InPlaceRecord;
}

/**
 * Opens a volume for `use`, which begins a job or goes on with it, and closes it after that, whatever happens.
 * @throws {VolsealError} as `OpenImage.open`, `openHeaderFile`, `unlockWhole` and `unlockJournaled`, and whatever
 * `use` throws; the error says where a job can go on
 */
export async function withJob<T>(
  path: string,
  kind: InPlaceKind,
  options: OpenOptions & InPlaceOptions,
  use: (job: OpenJob) => Promise<T>,
): Promise<T> {
  await using opened = await OpenImage.open(path, options);
  await using headerFile = await openHeaderFile(opened, options.header);
  await using pool = leasePool(options.logger);
  try {
    const volume =
      opened.journal === undefined
        ? await unlockWhole(opened, headerFile!, options, pool)
        : await unlockJournaled(opened, headerFile, kind, options, pool);
    try {
      return await use({ opened, pool, volume });
    } finally {
      native.keyWipe(volume.key);
    }
  } catch (error) {
    throw unfinished(withPath(error, path), path, opened.journal?.path);
  }
}

/**
 * Opens the file with the header.
 * @returns undefined where it is gone: the job is at its end @throws {VolsealError} `ERR_IO`, `ERR_STATE_INTERRUPTED`,
 * `ERR_ARGUMENT`
 */
async function openHeaderFile({ image, journal }: OpenImage, header: string | undefined): Promise<NamedFile | undefined> {
  if (header === undefined) return image;
  if (journal !== undefined && (await ifThere(header, () => stat(header))) === undefined) return undefined;
  const headerFile = await openDataFile(header, constants.O_RDWR);
  try {
    await refuseHalfReplaced(headerFile, image.path);
    return headerFile;
  } catch (error) {
    await headerFile.close();
    throw error;
  }
}

/**
 * Unlocks a volume that no job is in the middle of, and repairs its header.
 * @returns also its header area, as a journal keeps it
 * @throws {VolsealError} as `attach`; `ERR_DATA_MISMATCH` the header is another volume's; `ERR_ARGUMENT` it has no room
 * for the mark
 */
async function unlockWhole({ image }: OpenImage, headerFile: NamedFile, options: OpenOptions, pool: PoolLease): Promise<WholeVolume> {
  const files = { data: image, header: headerFile };
  const contents = await readContents(files);
  refuseMixture(contents, image.path);
  await refuseCopyOfHeader({ ...files, ...contents }, true);
  const key = await unlockVolume({ ...files, ...contents }, options, pool);
  try {
    // With the key of another volume the data would become noise, for good.
    await refuseOtherData({ ...files, ...contents, isBound: await isDataOf(files, contents.found) }, key, options);
    await repairHeader(headerFile.handle, contents.found, headerFile.path);
    // A job that is taken back brings the header back, perhaps after somebody has written to the volume.
    const current =
      contents.token.snapshot === undefined ? contents : await writeToken({ ...files, ...contents }, key, { snapshot: undefined });
    checkMarkFits(current.found.header, key, headerFile.path);
    return { ...current, key, headerFile, area: (await readHeaderArea(headerFile)).area };
  } catch (error) {
    native.keyWipe(key);
    throw error;
  }
}

/**
 * Unlocks by the header in the journal, and proves the journal's record.
 * @param kind of the job that may go on; undefined: of any
 * @throws {VolsealError} `ERR_STATE_INTERRUPTED` it is another job; `ERR_RESUME`, and as `attach`
 */
export async function unlockJournaled(
  opened: OpenImage,
  headerFile: NamedFile | undefined,
  kind: InPlaceKind | undefined,
  options: OpenOptions,
  pool: PoolLease,
): Promise<JournaledVolume> {
  const journal = opened.journal!;
  await opened.check(await journal.newest(), kind, options.header);
  const contents = claimsOf(await journal.firstHeader(), journal.path);
  const key = await unlockVolume({ data: opened.image, header: journal.file, ...contents }, options, pool).catch((error: unknown) => {
    throw withPath(error, opened.image.path);
  });
  try {
    const record = await journal.proved(key);
    await opened.check(record, kind, options.header);
    return { ...contents, key, headerFile, record };
  } catch (error) {
    native.keyWipe(key);
    throw error;
  }
}

/**
 * The key of the volume that `reencrypt` makes, by the header in its journal; the caller's to wipe. Its header has no
 * keyslots yet. @throws {VolsealError} as `attach`
 */
export async function unlockSecond(
  { image, journal }: OpenImage,
  { kms, home, kmsAccess, signal }: OpenOptions,
  pool: PoolLease,
): Promise<KeyHandle> {
  const contents = claimsOf(await journal!.secondHeader(), journal!.path);
  return await unlockVolume({ data: image, header: journal!.file, ...contents }, { kms, home, kmsAccess, signal }, pool);
}

/**
 * Records in a detached header which data is its own. The job has ended, so that a kill here loses nothing else.
 * @param key of the volume @throws {VolsealError} as `renewSamples`
 */
export async function recordSamples(data: NamedFile, headerPath: string, key: KeyHandle): Promise<void> {
  await using header = await NamedFile.open(headerPath, constants.O_RDWR);
  await renewSamples({ data, header, isBound: true, ...claimsOf(await readHeader(header.handle, headerPath), headerPath) }, key);
}

/**
 * Puts the header back as it was before the job: its keyslots, then both copies, newer than the marked ones. @throws
 * {VolsealError} `ERR_IO`
 */
export async function restoreHeader(headerFile: NamedFile, header: Luks2Header, area: Buffer): Promise<void> {
  await headerFile.change(area.subarray(2 * header.copyBytes), 2 * header.copyBytes);
  await headerFile.sync();
  await writeHeader(headerFile.handle, { ...header, sequence: BigInt.asUintN(64, header.sequence + 2n) }, headerFile.path);
}
