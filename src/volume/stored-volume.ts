/**
 * A volume that is an object or a snapshot in a store: opened by its header, which may be in a file, unlocked by KMS or
 * a keyslot, read in pieces.
 */
import { constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import { decodeHeader, decodeIntactHeader, type FoundHeader, HEADER_BYTES_MAX } from '../luks2/header.js';
import { hasMagic, readHeader } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import { openDataFile } from '../output/data-file.js';
import { countMatches } from '../output/data-samples.js';
import { readable } from '../stores/file-source.js';
import { openStored } from '../stores/open.js';
import type { ImageSource, StoreOptions } from '../stores/store.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { describeHeader, type VolumeInfo } from './info.js';
import { type OpenOptions, unlockVolume } from './unlock.js';
import type { KeyslotVolume } from './unlock-keyslot.js';
import { claimsOf, otherData, refuseMixture } from './volume-file.js';

/** Options of what opens a volume, which may be in a store. */
export interface StoredOpenOptions extends OpenOptions {
  /** How a store is reached where the volume is an object. */
  store?: StoreOptions | undefined;
}

/** An open object or snapshot that is a volume, or the data of one. */
export interface StoredVolume extends KeyslotVolume {
  readonly source: ImageSource;
  /** Whether the data is known to be the header's; false where nothing tells. */
  readonly isBound: boolean;
}

/** Both copies of the smallest header. */
const FIRST_READ_BYTES = 32 * 1024;

/** Where the header is, and what may be believed of it. */
type HeaderOptions = Pick<StoredOpenOptions, 'header' | 'anyData' | 'signal'>;

/**
 * Reads the header of an open object or snapshot: in front of the data, or in a file.
 * @throws {VolsealError} `ERR_STORE_*`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_ARGUMENT` (it is a
 * detached header, or has one of its own), `ERR_DATA_MISMATCH` (the header in the file is another volume's),
 * `ERR_IO`, `ERR_ABORTED`
 */
async function readStoredVolume(source: ImageSource, options: HeaderOptions): Promise<StoredVolume> {
  const { name: path } = source;
  const data = readable(source, options.signal);
  const { found, header } = options.header === undefined ? await ownHeader(source, data) : await headerInFile(options.header);
  const contents = claimsOf(found, header.path);
  const { segment, sizeBytes } = contents;
  if (segment.offsetBytes === 0 && options.header === undefined)
    throw new VolsealError('ERR_ARGUMENT', `${path}: is a detached header; its data is elsewhere`, { details: { path } });
  const volume = { ...contents, data: { path }, header, source };
  const isBound = options.header === undefined || (await isDataOf(volume, data, options));
  const available = source.sizeBytes - segment.offsetBytes;
  if (available < sizeBytes || (segment.sizeBytes !== 'dynamic' && segment.sizeBytes !== sizeBytes))
    throw new VolsealError('ERR_VOLUME_SIZE', `${path}: holds ${Math.max(available, 0)} bytes of data, the volume has ${sizeBytes}`, {
      details: { path, sizeBytes: source.sizeBytes },
    });
  return { ...volume, isBound };
}

type Data = ReturnType<typeof readable>;

interface OpenHeader {
  readonly found: FoundHeader;
  readonly header: KeyslotVolume['header'];
}

async function ownHeader({ name: path }: ImageSource, data: Data): Promise<OpenHeader> {
  const found = decodeIntactHeader(await data.read(0, FIRST_READ_BYTES)) ?? decodeHeader(await data.read(0, HEADER_BYTES_MAX), path);
  return { found, header: { path, read: data.read } };
}

/** The file is opened anew for each read: what is read is proved by the key. */
async function headerInFile(path: string): Promise<OpenHeader> {
  await using file = await openDataFile(path, constants.O_RDONLY);
  const found = await readHeader(file.handle, path);
  const read = async (offsetBytes: number, bytesMax: number): Promise<Buffer> => {
    await using again = await openDataFile(path, constants.O_RDONLY);
    return await again.read(offsetBytes, bytesMax);
  };
  return { found, header: { path, read } };
}

/**
 * Whether a header in a file is known to be that of the data; false where nothing tells.
 * @throws {VolsealError} `ERR_DATA_MISMATCH`, `ERR_ARGUMENT`, `ERR_STORE_*`
 */
async function isDataOf(volume: Omit<StoredVolume, 'isBound'>, data: Data, { anyData }: HeaderOptions): Promise<boolean> {
  const { found, segment, token, header } = volume;
  const { path } = volume.data;
  const front = await data.read(0, FIRST_READ_BYTES);
  const hasOwn = await hasMagic(async (offsetBytes, bytes) => front.subarray(offsetBytes, offsetBytes + bytes));
  if (segment.offsetBytes > 0) {
    // The copy of a header, perhaps because the one in front is damaged.
    const own = decodeIntactHeader(front);
    if (own === undefined || own.header.uuid === found.header.uuid) return own !== undefined;
    throw otherData(path, header.path, token, 'it has the header of another volume');
  }
  if (hasOwn)
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${path}: has a LUKS header of its own, so it is not the data of ${header.path}; leave that out`,
      {
        details: { path, header: header.path },
      },
    );
  if (token.dataSamples === undefined) return false;
  if ((await countMatches(data, segment, token.dataSamples)) > 0) return true;
  if (anyData === true) return false;
  throw otherData(path, header.path, token, 'none of the sectors that the header recorded is there');
}

/** What such a volume's header says. @throws {VolsealError} as `readStoredVolume` */
export async function describeStoredVolume(
  path: string,
  { store, header }: { store?: StoreOptions | undefined; header?: string | undefined },
): Promise<VolumeInfo> {
  using source = await openStored(path, store);
  const volume = await readStoredVolume(source, { header });
  return describeHeader(volume, { path, header: header ?? null, allocatedBytes: null, hasHoles: null });
}

/** Opens the volume for `use`, without a key. @throws {VolsealError} as `describeStoredVolume`; what `use` throws */
export async function withStoredSource<T>(path: string, options: StoredOpenOptions, use: (volume: StoredVolume) => Promise<T>): Promise<T> {
  using source = await openStored(path, options.store, options.signal);
  const volume = await readStoredVolume(source, options);
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
 * @throws {VolsealError} as `readStoredVolume` and `unlockVolume`, and whatever `use` throws
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
  const source = await openStored(path, options.store, options.signal);
  let pool: PoolLease | undefined;
  try {
    const volume = await readStoredVolume(source, options);
    refuseMixture(volume, path);
    await before(volume);
    const lease = leasePool(options.logger);
    pool = lease;
    const key = await unlockVolume(volume, options, lease);
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
