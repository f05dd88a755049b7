/** A volume that is an object in a store: opened by its header, unlocked by KMS, read in pieces. */
import { VolsealError } from '../errors.js';
import { decodeHeader, decodeIntactHeader, HEADER_BYTES_MAX } from '../luks2/header.js';
import { type KeyHandle, native } from '../native.js';
import { s3Location } from '../stores/location.js';
import { S3Connection } from '../stores/s3-client.js';
import { openObject } from '../stores/s3-object.js';
import type { ImageSource, StoreOptions } from '../stores/store.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { describeHeader, type VolumeInfo } from './info.js';
import { type NamedContents, type OpenOptions, unlockByKms } from './unlock.js';
import { asksKeyslot } from './unlock-keyslot.js';
import { claimsOf } from './volume-file.js';

/** Options of what opens a volume, which may be in a store. */
export interface StoredOpenOptions extends OpenOptions {
  /** How a store is reached where the volume is an object. */
  store?: StoreOptions | undefined;
}

/** An open object that is a volume. */
export interface StoredVolume extends NamedContents {
  readonly source: ImageSource;
}

/** Both copies of the smallest header. */
const FIRST_READ_BYTES = 32 * 1024;

/**
 * Reads the header of the object.
 * @throws {VolsealError} `ERR_STORE_*`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_ARGUMENT` (it is a
 * detached header), `ERR_ABORTED`
 */
export async function readStoredVolume(connection: S3Connection, path: string, signal?: AbortSignal): Promise<StoredVolume> {
  const source = await openObject(connection, s3Location(path), signal);
  const read = async (bytesMax: number): Promise<Buffer> => {
    const area = Buffer.alloc(Math.min(bytesMax, source.sizeBytes));
    if (area.length > 0) await source.readRange(0, area, signal);
    return area;
  };
  const found = decodeIntactHeader(await read(FIRST_READ_BYTES)) ?? decodeHeader(await read(HEADER_BYTES_MAX), path);
  const contents = claimsOf(found, path);
  const { segment, sizeBytes } = contents;
  if (segment.offsetBytes === 0)
    throw new VolsealError('ERR_ARGUMENT', `${path}: is a detached header; its data must be in the same object`, { details: { path } });
  const available = source.sizeBytes - segment.offsetBytes;
  if (available < sizeBytes || (segment.sizeBytes !== 'dynamic' && segment.sizeBytes !== sizeBytes))
    throw new VolsealError('ERR_VOLUME_SIZE', `${path}: holds ${Math.max(available, 0)} bytes of data, the volume has ${sizeBytes}`, {
      details: { path, sizeBytes: source.sizeBytes },
    });
  return { ...contents, data: { path }, header: { path }, source };
}

/** What such a volume's header says. @throws {VolsealError} as `readStoredVolume` */
export async function describeStoredVolume(path: string, store: StoreOptions | undefined): Promise<VolumeInfo> {
  using connection = await S3Connection.open(store);
  const volume = await readStoredVolume(connection, path);
  return describeHeader(volume, { path, header: null, allocatedBytes: null, hasHoles: null });
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
  before: (volume: StoredVolume) => Promise<void> = async () => {},
): Promise<T> {
  const refuse = (why: string): never => {
    throw new VolsealError('ERR_ARGUMENT', `${path}: is an object: ${why}`, { details: { path } });
  };
  if (options.header !== undefined) refuse('its header must be in front of its data; leave out the header option');
  if (asksKeyslot(options)) refuse('it is opened by KMS only; to open it by a keyslot, download it first');
  using connection = await S3Connection.open(options.store);
  const volume = await readStoredVolume(connection, path, options.signal);
  await before(volume);
  await using pool = leasePool();
  const key = await unlockByKms(volume, options, pool);
  try {
    return await use({ volume, key, pool });
  } finally {
    native.keyWipe(key);
  }
}
