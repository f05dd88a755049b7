/** A volume that is an object or a snapshot in a store: opened by its header, unlocked by KMS, read in pieces. */
import { VolsealError } from '../errors.js';
import { decodeHeader, decodeIntactHeader, HEADER_BYTES_MAX } from '../luks2/header.js';
import { type KeyHandle, native } from '../native.js';
import { openStored } from '../stores/open.js';
import type { ImageSource, StoreOptions } from '../stores/store.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { describeHeader, type VolumeInfo } from './info.js';
import { type NamedContents, type OpenOptions, unlockByKms } from './unlock.js';
import { asksKeyslot } from './unlock-keyslot.js';
import { claimsOf, refuseMixture } from './volume-file.js';

/** Options of what opens a volume, which may be in a store. */
export interface StoredOpenOptions extends OpenOptions {
  /** How a store is reached where the volume is an object. */
  store?: StoreOptions | undefined;
}

/** An open object or snapshot that is a volume. */
export interface StoredVolume extends NamedContents {
  readonly source: ImageSource;
}

/** Both copies of the smallest header. */
const FIRST_READ_BYTES = 32 * 1024;

/**
 * Reads the header of an open object or snapshot.
 * @throws {VolsealError} `ERR_STORE_*`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_ARGUMENT` (it is a
 * detached header), `ERR_ABORTED`
 */
async function readStoredVolume(source: ImageSource, signal?: AbortSignal): Promise<StoredVolume> {
  const { name: path } = source;
  const read = async (bytesMax: number): Promise<Buffer> => {
    const area = Buffer.alloc(Math.min(bytesMax, source.sizeBytes));
    if (area.length > 0) await source.readRange(0, area, signal);
    return area;
  };
  const found = decodeIntactHeader(await read(FIRST_READ_BYTES)) ?? decodeHeader(await read(HEADER_BYTES_MAX), path);
  const contents = claimsOf(found, path);
  const { segment, sizeBytes } = contents;
  if (segment.offsetBytes === 0)
    throw new VolsealError('ERR_ARGUMENT', `${path}: is a detached header; its data must be in the same object or snapshot`, {
      details: { path },
    });
  const available = source.sizeBytes - segment.offsetBytes;
  if (available < sizeBytes || (segment.sizeBytes !== 'dynamic' && segment.sizeBytes !== sizeBytes))
    throw new VolsealError('ERR_VOLUME_SIZE', `${path}: holds ${Math.max(available, 0)} bytes of data, the volume has ${sizeBytes}`, {
      details: { path, sizeBytes: source.sizeBytes },
    });
  return { ...contents, data: { path }, header: { path }, source };
}

/** What such a volume's header says. @throws {VolsealError} as `readStoredVolume` */
export async function describeStoredVolume(path: string, store: StoreOptions | undefined): Promise<VolumeInfo> {
  using source = await openStored(path, store);
  const volume = await readStoredVolume(source);
  return describeHeader(volume, { path, header: null, allocatedBytes: null, hasHoles: null });
}

/** Opens the volume for `use`, without a key. @throws {VolsealError} as `describeStoredVolume`; what `use` throws */
export async function withStoredSource<T>(
  path: string,
  { store, signal }: StoredOpenOptions,
  use: (volume: StoredVolume) => Promise<T>,
): Promise<T> {
  using source = await openStored(path, store, signal);
  const volume = await readStoredVolume(source, signal);
  refuseMixture(volume, path);
  return await use(volume);
}

/** An open volume, its key, and a share of the pool. */
export interface StoredSession {
  readonly volume: StoredVolume;
  readonly key: KeyHandle;
  readonly pool: PoolLease;
}

/**
 * Opens and unlocks the volume for `use`, and wipes the key after that, whatever happens.
 * @param before what can be refused before KMS is asked
 * @throws {VolsealError} as `readStoredVolume` and `unlockVolume`, and whatever `use` throws; `ERR_ARGUMENT` for what a
 * stored volume does not have: a detached header, an opening by keyslot
 */
export async function withStoredVolume<T>(
  path: string,
  options: StoredOpenOptions,
  use: (session: StoredSession) => Promise<T>,
  before?: (volume: StoredVolume) => Promise<void>,
): Promise<T> {
  await using session = await openStoredVolume(path, options, before);
  return await use(session);
}

/** The same, for a caller who closes it. @throws {VolsealError} as `withStoredVolume` */
export async function openStoredVolume(
  path: string,
  options: StoredOpenOptions,
  before: (volume: StoredVolume) => Promise<void> = async () => {},
): Promise<StoredSession & AsyncDisposable> {
  const refuse = (why: string): never => {
    throw new VolsealError('ERR_ARGUMENT', `${path}: is in a store: ${why}`, { details: { path } });
  };
  if (options.header !== undefined) refuse('its header must be in front of its data; leave out the header option');
  if (asksKeyslot(options)) refuse('it is opened by KMS only; to open it by a keyslot, download it first');
  const source = await openStored(path, options.store, options.signal);
  let pool: PoolLease | undefined;
  try {
    const volume = await readStoredVolume(source, options.signal);
    refuseMixture(volume, path);
    await before(volume);
    const lease = leasePool(options.logger);
    pool = lease;
    const key = await unlockByKms(volume, options, lease);
    return {
      ...{ volume, key, pool },
      async [Symbol.asyncDispose]() {
        native.keyWipe(key);
        source[Symbol.dispose]();
        await lease.release();
      },
    };
  } catch (error) {
    source[Symbol.dispose]();
    await pool?.release();
    throw error;
  }
}
