/** A volume under a new data key, in the same file or device. The data stays in its place. */

import { VolsealError } from '../errors.js';
import { contextOf, newVolumeKey } from '../jobs/new-volume-key.js';
import { planReencryption, type ReencryptOptions } from '../jobs/reencrypt.js';
import { logged } from '../logging.js';
import { type Luks2Header, nextSequence } from '../luks2/header.js';
import { sealHeader } from '../luks2/header-mac.js';
import { headerArea, writeHeader } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import type { PoolLease } from '../workers/pool.js';
import { type KeyedVolume, recordSamples, restoreHeader, unlockSecond, type WholeVolume, withJob } from './existing.js';
import { type InPlaceOptions, type InPlaceOutcome, isAtStart, markHeader, moveImage, type OpenImage, partBytesOf } from './job.js';
import { type InPlaceRecord, loggedOf } from './record.js';

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
 * on, and with `undo` the volume gets its old key back. In the middle `attach` opens the volume, and nothing else does.
 *
 * At the end the old header is overwritten, keyslots included; backups of it, and copies of the volume, keep the old
 * key.
 *
 * @throws {VolsealError} as `attach` and `reencryptVolume`; `ERR_STATE_INTERRUPTED` another job is in the middle of it;
 * `ERR_RESUME`. With `details.inPlace` the volume is in the middle of the job.
 */
export async function reencryptInPlace(path: string, options: ReencryptInPlaceOptions = {}): Promise<ReencryptedInPlace> {
  return logged('reencrypt in place', { path }, options, (own) => reencrypt(path, own));
}

async function reencrypt(path: string, options: ReencryptInPlaceOptions): Promise<ReencryptedInPlace> {
  return withJob(path, 'reencrypt', options, async ({ opened, pool, volume }) => {
    const wasResumed = 'record' in volume;
    const begun: Begun = wasResumed
      ? { newKey: await unlockSecond(opened, options, pool), record: volume.record }
      : await begin(opened, volume, options, pool);
    try {
      const startedMs = performance.now();
      const undone = options.undo === true;
      await work(opened, volume, begun, undone, options, pool);
      const { volumeId, imageBytes } = begun.record;
      const oldKeyslots = Object.keys(volume.found.header.metadata.keyslots).length;
      return { path, volumeId, imageBytes, wasResumed, undone, oldKeyslots, dataSeconds: (performance.now() - startedMs) / 1000 };
    } finally {
      native.keyWipe(begun.newKey);
    }
  });
}

interface Begun {
  /** The caller's to wipe. */
  readonly newKey: KeyHandle;
  readonly record: InPlaceRecord;
}

async function begin(opened: OpenImage, volume: WholeVolume, options: ReencryptInPlaceOptions, pool: PoolLease): Promise<Begun> {
  const { segment, token, sizeBytes, found, key, area, headerFile } = volume;
  const { image } = opened;
  const partBytes = partBytesOf(sizeBytes, 0, options.partBytes);
  const plan = planReencryption({ ...volume, data: image, header: headerFile }, image.path, options);
  const target = {
    headerPath: headerFile.path,
    placement: headerFile === image ? 'embedded' : 'detached',
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
      ...loggedOf(segment.offsetBytes, segment.offsetBytes),
    };
    const second = headerArea(inItsPlace(keyed.header, found.header, segment.offsetBytes, keyed.key, headerFile.path));
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

async function work(
  opened: OpenImage,
  volume: KeyedVolume,
  { newKey, record }: Begun,
  undone: boolean,
  options: ReencryptInPlaceOptions,
  pool: PoolLease,
): Promise<void> {
  const journal = opened.journal!;
  const { key, headerFile, found } = volume;
  if (headerFile === undefined) throw missingHeader(options.header!);
  if (isAtStart(record) && !undone) await markHeader(headerFile, found.header, key);
  await moveImage(opened, pool, record, { low: key, high: newKey, proof: key }, undone ? 'toLow' : 'toHigh', options);
  if (undone) {
    await restoreHeader(headerFile, found.header, await journal.firstArea());
  } else {
    // The old keyslots go first, then the copies of the header, one after the other.
    const area = await journal.firstArea();
    const { header } = await journal.secondHeader();
    const copiesBytes = 2 * found.header.copyBytes;
    await headerFile.change(Buffer.alloc(area.length - copiesBytes), copiesBytes);
    await headerFile.sync();
    await writeHeader(headerFile.handle, header, headerFile.path);
    if (copiesBytes > 2 * header.copyBytes) {
      await headerFile.write(Buffer.alloc(copiesBytes - 2 * header.copyBytes), 2 * header.copyBytes);
      await headerFile.sync();
    }
  }
  await journal.remove();
  if (headerFile !== opened.image) await recordSamples(opened.image, headerFile.path, undone ? key : newKey);
}

const missingHeader = (path: string): VolsealError =>
  new VolsealError('ERR_IO', `${path}: the header of this volume is not there`, { details: { errno: 'ENOENT', syscall: 'open', path } });
