/**
 * A new volume in a file whose image is encrypted in ranges, by several processes or machines at once. All of them
 * write to one partial file, each at its own place and under the one key that is in its header.
 *
 * Who writes a range holds a shared lock on the partial file, on the very descriptor that it writes to. Who begins the
 * volume, or publishes it, holds the lock alone: so nobody is left who could write into a volume that its owner uses.
 */
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Directory, directoryOf } from '../directory-entry.js';
import { namingPath, VolsealError } from '../errors.js';
import { readHeader } from '../luks2/store.js';
import { findToken } from '../luks2/token.js';
import { type KeyHandle, native, type TransformOptions } from '../native.js';
import type { NamedFile } from '../output/named-file.js';
import { openTarget } from '../output/open-target.js';
import { cannotResume, choosePartialName, isOwn, openPartial, openSharedPartial } from '../output/partial-file.js';
import { realPathOf } from '../output/resolve-target.js';
import type { TargetFile } from '../output/target.js';
import { type RangedVolume, rangesDone, removeRangeRecords, writeRangeRecord } from '../resume/range-record.js';
import { cutIntoRanges, type ImageRange } from '../transfer/image-ranges.js';
import { recordedSource, whileUnchanged } from '../transfer/source-watch.js';
import { type JobOptions, type Progress, transformImage } from '../transfer/transform.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { type EncryptedImage, finish, headerTargetOf, resolveTargets, writeHeaderFirst } from './build-volume.js';
import { moveStoredRange } from './move-stored.js';
import { contextOf, type KeyedHeader, newVolumeKey, openedVolumeKey, reopenedVolumeKey } from './new-volume-key.js';
import { checkStoredOptions } from './stored/stored-source.js';
import type { Layout, NewVolumeFiles, VolumePlan, VolumeSource } from './volume-plan.js';

/** How often one who writes a range looks whether it is still wanted. */
const PLACE_CHECK_MS = 5_000;

/** What is left to do of a volume that is made in ranges. */
export interface RangesLeft {
  /** Of the header under whose key they are to be encrypted. */
  readonly uuid: string;
  /** How many ranges the image has. */
  readonly count: number;
  readonly left: readonly ImageRange[];
}

/** The finished volume, or what is left. */
export type RangesStep = { readonly volume: EncryptedImage } | { readonly ranges: RangesLeft };

/**
 * Begins a volume, or goes on with it: makes its key and header where there is none, says which ranges are left, and
 * publishes it where none is.
 *
 * @param plan with the id that the job has, whoever runs it
 * @throws {VolsealError} as `encryptImage`; `ERR_STATE_BUSY` somebody is at work on a range, or at this step;
 * `ERR_RESUME` the partial file is of another volume
 */
export async function stepVolume(plan: VolumePlan, rangeBytes: number, job: JobOptions): Promise<RangesStep> {
  const { source, output } = plan;
  const ranges = cutIntoRanges(source.imageBytes, rangeBytes, source.path);
  // Before KMS is asked: a mistake should cost nothing.
  contextOf(plan);
  const { layout, volumeTarget } = await resolveRanged(plan);
  await using volume = await openTarget(volumeTarget, output);
  const files: NewVolumeFiles = { volume, detached: undefined, header: volume, layout };
  await using pool = leasePool(plan.logger);
  try {
    const isBegun = await holdsVolume(plan, volume);
    const keyed = await (isBegun ? reopenedVolumeKey(plan, files, pool, job.signal) : begin(plan, files, pool, job.signal));
    try {
      const startedMs = performance.now();
      const ranged = await rangedVolume(plan, volume.file, layout, keyed);
      const done = isBegun ? await rangesDone(volume, ranged, ranges, keyed.key) : new Set<number>();
      volume.keepForResume();
      const left = ranges.filter(({ index }) => !done.has(index));
      if (left.length > 0) return { ranges: { uuid: keyed.header.uuid, count: ranges.length, left } };
      // Once more, and what comes later is no part of the volume.
      await unchanged(source, async () => {});
      const info = await finish(plan, files, keyed, job);
      await removeRangeRecords(volume);
      return { volume: { ...info, dataSeconds: (performance.now() - startedMs) / 1000 } };
    } finally {
      native.keyWipe(keyed.key);
    }
  } catch (error) {
    throw volume.withContext(error);
  }
}

async function resolveRanged(plan: VolumePlan) {
  const resolved = await resolveTargets(plan);
  const { volumePath: path } = plan;
  if (resolved.volumeTarget.isDevice)
    throw new VolsealError('ERR_ARGUMENT', `${path}: is a block device, which other machines do not have; leave out rangeSize`, {
      details: { path },
    });
  await checkRangedSource(plan);
  if (plan.source.side.kind === 'stored')
    checkStoredOptions(plan.source.path, { sha256: plan.sha256, resume: false, sparse: plan.allocation === 'sparse' });
  return resolved;
}

/** @throws {VolsealError} `ERR_ARGUMENT` the image is not one that several machines can read */
export async function checkRangedSource({ source: { side, file, path } }: VolumePlan): Promise<void> {
  if (side.kind === 'stored' || (await file?.stat())?.isFile() === true) return;
  throw new VolsealError('ERR_ARGUMENT', `${path}: is a block device, which other machines do not have; leave out rangeSize`, {
    details: { path },
  });
}

/**
 * Whether the partial file has the header of this volume. A file without one is what a run has left that was ended
 * before there was anything to keep.
 */
async function holdsVolume(plan: VolumePlan, { file, openPath, hasEarlierData }: TargetFile): Promise<boolean> {
  if (!hasEarlierData) return false;
  const volumeId = await volumeIn(file);
  if (volumeId === undefined || volumeId === plan.volumeId) return volumeId !== undefined;
  throw cannotResume(openPath, `it is of the volume ${volumeId}, not ${plan.volumeId}: its source or its job was another one`);
}

/** The id of the volume whose header a file has; undefined where it has none that is whole. */
async function volumeIn(file: NamedFile): Promise<string | undefined> {
  try {
    return findToken((await readHeader(file.handle, file.path)).header.metadata, file.path).volumeId;
  } catch (error) {
    if (error instanceof VolsealError && /^ERR_(NOT_A_VOLUME|HEADER_)/.test(error.code)) return undefined;
    throw error;
  }
}

async function begin(plan: VolumePlan, files: NewVolumeFiles, pool: PoolLease, signal: AbortSignal | undefined): Promise<KeyedHeader> {
  const keyed = await newVolumeKey(plan, headerTargetOf(files), contextOf(plan), pool, signal);
  try {
    await files.volume.begin();
    await removeRangeRecords(files.volume);
    await writeHeaderFirst(files, keyed.header, true);
    return keyed;
  } catch (error) {
    native.keyWipe(keyed.key);
    throw error;
  }
}

async function rangedVolume(
  { source: { file, fileBytes, imageBytes, side }, sectorBytes }: VolumePlan,
  partial: NamedFile,
  { allocation }: Layout,
  { volumeId, header: { uuid } }: KeyedHeader,
): Promise<RangedVolume> {
  const source = await recordedSource(file, side.kind === 'stored' ? side.source : { sizeBytes: fileBytes ?? imageBytes });
  const { ino } = await partial.identity();
  return { volumeId, uuid, source, partial: { ino }, sectorBytes, allocation };
}

const unchanged = <T>({ file, fileBytes, imageBytes }: VolumeSource, work: () => Promise<T>): Promise<T> =>
  whileUnchanged(file, fileBytes ?? imageBytes, work);

/**
 * Encrypts one range into the partial file, and records it there. A range that is recorded already is not done again.
 * @param uuid of the header, as `stepVolume` gave it
 * @throws {VolsealError} as `encryptImage`; `ERR_RESUME` the partial file is gone, or was begun anew; `ERR_STATE_BUSY`
 * somebody begins or publishes the volume
 */
export async function encryptVolumeRange(plan: VolumePlan, range: ImageRange, uuid: string, job: JobOptions): Promise<void> {
  const { layout, volumeTarget } = await resolveRanged(plan);
  await using directory = await directoryOf(volumeTarget.realPath);
  const name = await choosePartialName(directory, basename(volumeTarget.realPath));
  const openPath = join(directory.path, name);
  await using partial = await openSharedPartial(directory, name).catch((error: unknown) => {
    throw error instanceof VolsealError && error.details.errno === 'ENOENT' ? isGone(openPath, 'it is not there') : error;
  });
  await using pool = leasePool(plan.logger);
  if ((await volumeIn(partial)) !== plan.volumeId) throw isGone(openPath, 'it is of another volume');
  const keyed = await openedVolumeKey(plan, { data: partial, header: partial }, pool, job.signal);
  try {
    if (keyed.header.uuid !== uuid) throw isGone(openPath, 'it was begun anew, under another key');
    const ranged = await rangedVolume(plan, partial, layout, keyed);
    if ((await rangesDone({ directory, openPath }, ranged, onlyAt(range), keyed.key)).has(range.index)) return;
    await whileNamed(partial, { directory, name }, job.signal, (signal) =>
      unchanged(plan.source, () => move(plan, range, { partial, layout, key: keyed.key, pool }, { ...job, signal })),
    );
    await partial.sync();
    await writeRangeRecord({ directory, openPath }, ranged, range, keyed.key);
  } finally {
    native.keyWipe(keyed.key);
  }
}

/**
 * Runs `work`, and ends it where the partial file has lost its name: a lock that a file server has taken away does not
 * keep others from publishing it.
 */
async function whileNamed(
  partial: NamedFile,
  { directory, name }: { directory: Directory; name: string },
  ended: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const lost = new AbortController();
  const look = async (): Promise<void> => {
    if (!(await partial.isAt(directory.at(name)))) lost.abort();
  };
  // A file server that does not answer now is asked again.
  const watch = setInterval(() => void look().catch(() => {}), PLACE_CHECK_MS);
  watch.unref();
  try {
    await work(ended === undefined ? lost.signal : AbortSignal.any([ended, lost.signal]));
    await look();
  } catch (error) {
    if (!lost.signal.aborted) throw error;
  } finally {
    clearInterval(watch);
  }
  if (lost.signal.aborted) throw isGone(partial.path, 'it was published or removed');
}

/** The range at its index in a list, for who looks for its record alone. */
function onlyAt(range: ImageRange): ImageRange[] {
  const list: ImageRange[] = [];
  list[range.index] = range;
  return list;
}

const isGone = (partial: string, why: string): VolsealError =>
  new VolsealError('ERR_RESUME', `${partial}: the volume to which the range belongs is not there any more: ${why}`, {
    details: { path: partial },
  });

interface OpenPartial {
  readonly partial: NamedFile;
  readonly layout: Layout;
  readonly key: KeyHandle;
  readonly pool: PoolLease;
}

async function move(plan: VolumePlan, range: ImageRange, { partial, layout, key, pool }: OpenPartial, job: JobOptions): Promise<void> {
  const { source, sectorBytes } = plan;
  const { startByte, endByte } = range;
  const { side } = source;
  if (side.kind === 'stored') return await moveStoredRange(plan, { file: partial, layout, source: side.source, key, pool, range }, job);
  const isLast = endByte === source.imageBytes;
  const transform: TransformOptions = {
    ...{ key, mode: 'encrypt', sectorBytes, startByte, digest: false },
    source: { kind: 'file', fd: source.file!.fd, offsetBytes: 0, sizeBytes: endByte, sparse: false },
    target: {
      kind: 'file',
      fd: partial.fd,
      offsetBytes: layout.dataOffsetBytes,
      sizeBytes: isLast ? layout.dataBytes : endByte,
      sparse: layout.allocation === 'sparse',
    },
  };
  const ofRange = ({ doneBytes, totalBytes }: Progress): Progress => ({
    doneBytes: doneBytes - startByte,
    totalBytes: totalBytes - startByte,
  });
  const { onProgress } = job;
  const ranged = { ...job, onProgress: onProgress && ((progress: Progress) => onProgress(ofRange(progress))) };
  await transformImage(pool, transform, { source: source.path, target: partial.path }, ranged);
}

/**
 * Removes what there is of a volume that cannot be finished: its source has changed. Does nothing where another volume
 * is there.
 * @throws {VolsealError} `ERR_STATE_BUSY` somebody is still at work on a range; `ERR_RESUME`, `ERR_IO`
 */
export async function removeRangedVolume(target: string, volumeId: string): Promise<void> {
  const realPath = await realPathOf(target);
  await using directory = await directoryOf(realPath);
  const name = await choosePartialName(directory, basename(realPath));
  const openPath = join(directory.path, name);
  if (!(await isOwn(directory, name))) return;
  await using partial = await openPartial(directory, name);
  if ((await volumeIn(partial)) !== volumeId) return;
  await removeRangeRecords({ directory, openPath });
  await namingPath(openPath, () => rm(directory.at(name), { force: true }));
  await directory.sync();
}
