/**
 * Attaching a volume that is an object or a snapshot, for reading: blocks of ciphertext are fetched when they are first
 * read, some of them are kept, and each read decrypts what it needs.
 */
import { messageOf, VolsealError, withPath } from '../errors.js';
import { STORE_CACHE_BLOCK_BYTES, STORE_CACHE_BLOCKS } from '../limits.js';
import { type DeviceHandle, native } from '../native.js';
import { openStoredVolume, type StoredOpenOptions, type StoredSession } from './stored-volume.js';
import { type OpenVolume, Volume } from './volume.js';

/** Options of `attachStored`. */
export interface AttachStoredOptions extends StoredOpenOptions {
  /** Must be true: what lies in a store cannot be written in place. */
  readOnly?: boolean | undefined;
}

/**
 * Attaches the volume at `s3://BUCKET/KEY` or `ebs:snap-...`, in the state that it has now: an object that is replaced
 * meanwhile fails reads of what is not in the cache. At most 64 MiB of ciphertext are kept.
 *
 * @returns the volume; the caller detaches it. What cannot be fetched fails with `ERR_IO`, and is fetched again by the
 * next read
 * @throws {VolsealError} `ERR_ARGUMENT` also where it is not for reading only; as `withStoredVolume`
 */
export async function attachStored(path: string, options: AttachStoredOptions): Promise<Volume> {
  if (options.readOnly !== true)
    throw new VolsealError('ERR_ARGUMENT', `${path}: is in a store, where it can be attached for reading only`, { details: { path } });
  try {
    const session = await openStoredVolume(path, options);
    try {
      const opened = new AttachedStored(session);
      return new Volume({ session: opened, device: opened.device, writable: false, logger: options.logger });
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    throw withPath(error, path);
  }
}

class AttachedStored implements OpenVolume {
  readonly #session: StoredSession & AsyncDisposable;
  readonly #ended = new AbortController();
  readonly device: DeviceHandle;

  constructor(session: StoredSession & AsyncDisposable) {
    this.#session = session;
    const { volume, key } = session;
    const { segment, sizeBytes, source, token } = volume;
    const options = {
      ...{ key, sizeBytes, sourceBytes: source.sizeBytes, offsetBytes: segment.offsetBytes, sectorBytes: segment.sectorBytes },
      ...{ sparse: token.allocation === 'sparse', blockBytes: STORE_CACHE_BLOCK_BYTES, blocksMax: STORE_CACHE_BLOCKS },
    };
    native.xtsPrepare(key);
    this.device = native.cachedDeviceOpen(options, (index) => void this.#fetch(index));
  }

  get file(): OpenVolume['file'] {
    return this.#session.volume;
  }

  /** Nothing: it is never written. */
  async afterFlush(): Promise<void> {}

  async close(): Promise<void> {
    this.#ended.abort();
    await this.#session[Symbol.asyncDispose]();
  }

  async #fetch(index: number): Promise<void> {
    const { source } = this.#session.volume;
    const offsetBytes = index * STORE_CACHE_BLOCK_BYTES;
    const bytes = new Uint8Array(Math.min(STORE_CACHE_BLOCK_BYTES, source.sizeBytes - offsetBytes));
    const failure = await source.readRange(offsetBytes, bytes, this.#ended.signal).then(() => undefined, messageOf);
    // Once it is detached, nobody waits.
    if (this.#ended.signal.aborted) return;
    if (failure === undefined) native.cachedDeviceStored(this.device, index, bytes);
    else native.cachedDeviceFailed(this.device, index, failure);
  }
}
