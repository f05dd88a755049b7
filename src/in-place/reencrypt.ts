/** A volume under a new data key, in the same file or device. The data stays in its place. */
import { VolsealError, withPath } from '../errors.js';
import { contextOf, newVolumeKey } from '../jobs/new-volume-key.js';
import { planReencryption, type ReencryptOptions } from '../jobs/reencrypt.js';
import { type Luks2Header, nextSequence } from '../luks2/header.js';
import { sealHeader } from '../luks2/header-mac.js';
import { headerArea, readHeader, writeHeader } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import type { NamedFile } from '../output/named-file.js';
import { renewSamples } from '../volume/data-binding.js';
import { unlockVolume } from '../volume/unlock.js';
import { claimsOf } from '../volume/volume-file.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { type KeyedVolume, openHeaderPlace, restoreHeader, unlockJournaled, unlockWhole } from './existing.js';
import { type InPlaceOptions, type InPlaceOutcome, isAtStart, markHeader, moveImage, OpenImage, partBytesOf, unfinished } from './job.js';
import type { InPlaceRecord } from './record.js';

/** Options of `reencryptInPlace`. */
export interface ReencryptInPlaceOptions
  extends InPlaceOptions,
    Omit<ReencryptOptions, 'sectorBytes' | 'allocation' | 'newHeader' | 'force' | 'fsync' | 'signal' | 'onProgress' | 'onWarning'> {}

/** What `reencryptInPlace` has done. */
export interface ReencryptedInPlace extends InPlaceOutcome {
  /** How many keyslots the volume had; they do not open it any more, unless the job was taken back. */
  oldKeyslots: number;
}

/**
 * Gives a volume a new data key in place, through a journal; both keys are in the vault, and the journal holds
 * ciphertext only. UUID, id, context, sector size and allocation stay. Whenever the run ends early, the same call goes
 * on, and with `undo` the volume gets its old key back. In the middle nothing else opens the volume.
 *
 * At the end the old header is overwritten, keyslots included; backups of it, and copies of the volume, keep the old
 * key.
 *
 * @throws {VolsealError} as `attach` and `reencryptVolume`; `ERR_STATE_INTERRUPTED` another job is in the middle of it;
 * `ERR_RESUME`. With `details.inPlace` the volume is in the middle of the job.
 */
export async function reencryptInPlace(path: string, options: ReencryptInPlaceOptions = {}): Promise<ReencryptedInPlace> {
  await using opened = await OpenImage.open(path, options);
  await using place = await openHeaderPlace(opened, options.header);
  await using pool = leasePool();
  const wasResumed = opened.journal !== undefined;
  const inContext = (error: unknown): never => {
    throw unfinished(withPath(error, path), path, opened.journal?.path);
  };
  const volume = await (wasResumed
    ? unlockJournaled(opened, place, 'reencrypt', options, pool)
    : unlockWhole(opened, place!, options, pool)
  ).catch(inContext);
  let newKey: KeyHandle | undefined;
  try {
    const begun = await ('record' in volume ? reopen(opened, volume.record, options, pool) : begin(opened, volume, options, pool)).catch(
      inContext,
    );
    newKey = begun.newKey;
    const startedMs = performance.now();
    const undone = options.undo === true;
    await work(opened, volume, begun, undone, options, pool).catch(inContext);
    const { volumeId, imageBytes } = begun.record;
    const oldKeyslots = Object.keys(volume.found.header.metadata.keyslots).length;
    return { path, volumeId, imageBytes, wasResumed, undone, oldKeyslots, dataSeconds: (performance.now() - startedMs) / 1000 };
  } finally {
    if (newKey !== undefined) native.keyWipe(newKey);
    native.keyWipe(volume.key);
  }
}

interface Begun {
  /** The caller's to wipe. */
  readonly newKey: KeyHandle;
  readonly record: InPlaceRecord;
}

async function begin(
  opened: OpenImage,
  volume: KeyedVolume & { place: NamedFile; area: Buffer },
  options: ReencryptInPlaceOptions,
  pool: PoolLease,
): Promise<Begun> {
  const { segment, token, sizeBytes, found, key, area, place } = volume;
  const { image } = opened;
  const partBytes = partBytesOf(sizeBytes, 0, options.partBytes);
  const plan = planReencryption({ ...volume, data: image, header: place }, image.path, options);
  const target = {
    headerPath: place.path,
    placement: place === image ? 'embedded' : 'detached',
    allocation: token.allocation,
  } as const;
  const keyed = await newVolumeKey(plan, target, contextOf(plan), pool, options.signal);
  try {
    const record: InPlaceRecord = {
      version: 1,
      sequence: 1,
      kind: 'reencrypt',
      direction: 'toHigh',
      frontierBytes: sizeBytes,
      pending: null,
      volumeId: token.volumeId,
      uuid: found.header.uuid,
      ...(await opened.describe()),
      imageBytes: token.imageBytes,
      dataBytes: sizeBytes,
      partBytes,
      lowOffsetBytes: segment.offsetBytes,
      highOffsetBytes: segment.offsetBytes,
      sectorBytes: segment.sectorBytes,
      sparse: token.allocation === 'sparse',
      header: target.placement,
    };
    const second = headerArea(inItsPlace(keyed.header, found.header, segment.offsetBytes, keyed.key, place.path));
    await opened.begin({ first: area, second }, record, key);
    return { newKey: keyed.key, record };
  } catch (error) {
    native.keyWipe(keyed.key);
    throw error;
  }
}

/** The new header as the next version of the old one: the same UUID and labels, and the data where it is. */
function inItsPlace(header: Luks2Header, old: Luks2Header, dataOffsetBytes: number, key: KeyHandle, path: string): Luks2Header {
  const { uuid, label, subsystem } = old;
  const segment = { ...header.metadata.segments['0']!, offset: String(dataOffsetBytes) };
  const metadata = { ...header.metadata, segments: { '0': segment } };
  const sequence = BigInt.asUintN(64, nextSequence(old) + 1n);
  return sealHeader(key, { ...header, uuid, label, subsystem, sequence, metadata }, path);
}

async function reopen(opened: OpenImage, record: InPlaceRecord, options: ReencryptInPlaceOptions, pool: PoolLease): Promise<Begun> {
  const journal = opened.journal!;
  const contents = claimsOf(await journal.secondHeader(), journal.path);
  const { kms, home, kmsAccess, signal } = options;
  const access = { kms, home, kmsAccess, signal };
  const newKey = await unlockVolume({ data: opened.image, header: journal.file, ...contents }, access, pool);
  return { newKey, record };
}

async function work(
  opened: OpenImage,
  volume: KeyedVolume,
  { newKey, record }: Begun,
  undone: boolean,
  options: ReencryptInPlaceOptions,
  pool: PoolLease,
): Promise<void> {
  const journal = opened.journal!;
  const { key, place, found } = volume;
  if (place === undefined) throw missingHeader(options.header!);
  if (isAtStart(record) && !undone) await markHeader(place, found.header, key);
  await moveImage(opened, pool, record, { low: key, high: newKey, proof: key }, undone ? 'toLow' : 'toHigh', options);
  if (undone) {
    await restoreHeader(place, found.header, await journal.firstArea());
  } else {
    // The old keyslots go first, then the copies of the header, one after the other.
    const area = await journal.firstArea();
    const { header } = await journal.secondHeader();
    const copiesBytes = 2 * found.header.copyBytes;
    await place.write(Buffer.alloc(area.length - copiesBytes), copiesBytes);
    await place.sync();
    await writeHeader(place.handle, header, place.path);
    if (copiesBytes > 2 * header.copyBytes) {
      await place.write(Buffer.alloc(copiesBytes - 2 * header.copyBytes), 2 * header.copyBytes);
      await place.sync();
    }
  }
  await journal.remove();
  if (undone || place === opened.image) return;
  // Which data belongs to the detached header. The job has ended, so that a kill here loses nothing else.
  const contents = claimsOf(await readHeader(place.handle, place.path), place.path);
  await renewSamples({ data: opened.image, header: place, isBound: true, ...contents }, newKey);
}

const missingHeader = (path: string): VolsealError =>
  new VolsealError('ERR_IO', `${path}: the header of this volume is not there`, { details: { errno: 'ENOENT', syscall: 'open', path } });
