/**
 * The one way to open a volume: its files with their lock, a share of the pool, and its key in the vault; all of it is
 * given back together.
 */
import type { UnsealedToken } from '../luks2/token.js';
import { type DeviceHandle, type KeyHandle, native, type TransformVolume } from '../native.js';
import type { InPlaceKind } from '../output/in-place-mark.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { openDevice, refuseOtherData, renewSamples } from './data-binding.js';
import { type OpenOptions, unlockVolume } from './unlock.js';
import {
  type HeaderContents,
  type OpenFiles,
  openVolumeFile,
  refuseCopyOfHeader,
  refuseMixture,
  type VolumeFile,
  type VolumeLock,
} from './volume-file.js';
import { writeToken } from './write-token.js';

/** For what a volume is opened. */
export interface VolumeAccess {
  readonly lock: VolumeLock;
  /** What has become of the caller's files where the signal ends the job. Default: targets are as they were. */
  readonly ifStopped?: string;
  /** The data changes, not the header alone. */
  readonly changesData?: boolean;
  /** Also a volume whose data is a mixture of two snapshots: for the job that ends that. */
  readonly mixture?: boolean;
}

/** An open volume whose image can be read as a whole, also in the middle of a job in place. */
export interface ImageSession {
  readonly file: OpenFiles & HeaderContents;
  readonly pool: PoolLease;
  /** The job in place that the volume is in the middle of; null where it is in none. */
  readonly inPlace: InPlaceKind | null;
  /** The key that proves the header, once `unlock` has returned; the session's to wipe. */
  readonly key: KeyHandle;
  /** Whether the data is known to be the header's, once `unlock` has returned; false where nothing tells. */
  readonly isBound: boolean;
  /** Gets the keys into the vault, and proves the header by them. Once. @throws {VolsealError} as `unlockVolume` */
  unlock(): Promise<KeyHandle>;
  /** @throws {VolsealError} `ERR_ABORTED` once the caller's signal has come */
  throwIfAborted(): void;
  /** The volume's sectors, each with the key that it is under, once `unlock` has returned. */
  imageSource(): TransformVolume;
}

/** An open volume. Whoever opened it closes it. */
export class VolumeSession implements ImageSession {
  readonly inPlace = null;
  #file: VolumeFile;
  readonly pool: PoolLease;
  readonly #options: OpenOptions;
  readonly #ifStopped: string | undefined;
  #key: KeyHandle | undefined;
  #isBound = false;

  private constructor(file: VolumeFile, pool: PoolLease, options: OpenOptions, ifStopped: string | undefined) {
    this.#file = file;
    this.pool = pool;
    this.#options = options;
    this.#ifStopped = ifStopped;
  }

  /**
   * Opens the files, locks them, reads the header and starts the pool. KMS is not asked yet.
   * @throws {VolsealError} as `openVolumeFile`; `ERR_STATE_INTERRUPTED` also where the data is a mixture of two
   * snapshots; `ERR_ARGUMENT` also where the data is to change by a copy of the volume's own header
   */
  static async open(
    path: string,
    options: OpenOptions,
    { lock, ifStopped, changesData = false, mixture = false }: VolumeAccess,
  ): Promise<VolumeSession> {
    const file = await openVolumeFile(path, lock, options.header, options);
    try {
      if (!mixture) refuseMixture(file, path);
      await refuseCopyOfHeader(file, changesData);
      return new VolumeSession(file, leasePool(options.logger), options, ifStopped);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The open files, with what their header says by now. */
  get file(): VolumeFile {
    return this.#file;
  }

  /** Whether the data is known to be the header's, once `unlock` has returned; false where nothing tells. */
  get isBound(): boolean {
    return this.#isBound;
  }

  /** The volume's key, once `unlock` has returned; the session's to wipe. */
  get key(): KeyHandle {
    if (this.#key === undefined) throw new Error('the volume is not unlocked');
    return this.#key;
  }

  /**
   * Has KMS unwrap the volume's key into the vault, and proves the header by it. Once.
   * @throws {VolsealError} as `unlockVolume`; `ERR_DATA_MISMATCH` the header is another volume's
   */
  async unlock(): Promise<KeyHandle> {
    this.throwIfAborted();
    this.#key = await unlockVolume(this.file, this.#options, this.pool);
    this.#isBound = await refuseOtherData(this.file, this.#key, this.#options);
    return this.#key;
  }

  /** @throws {VolsealError} `ERR_ABORTED` once the caller's signal has come */
  throwIfAborted(): void {
    throwIfAborted(this.#options.signal, this.#ifStopped);
  }

  /**
   * Opens a device over the unlocked volume's data, the caller's to close.
   * @param sparse whether a sector whose ciphertext is zeros reads as zeros @throws {VolsealError} `ERR_IO`,
   * `ERR_KEY_GONE`
   */
  openDevice(writable: boolean, sparse?: boolean): DeviceHandle {
    return openDevice(this.file, this.key, { writable, sparse });
  }

  imageSource(): TransformVolume {
    const { data, segment, sizeBytes, token } = this.file;
    const { offsetBytes, sectorBytes } = segment;
    const regions = [{ fd: data.fd, key: this.key, offsetBytes, sizeBytes }];
    return { kind: 'volume', regions, sectorBytes, sizeBytes, sparse: token.allocation === 'sparse' };
  }

  /**
   * Writes the next version of the header, with `changes` in its token, and flushes it.
   * @throws {VolsealError} `ERR_ARGUMENT` as `encodeToken`; `ERR_IO`
   */
  async writeToken(changes: Partial<UnsealedToken>): Promise<void> {
    this.#file = { ...this.file, ...(await writeToken(this.file, this.key, changes)) };
  }

  /**
   * The data is no snapshot's any more, or will not be: the header says so no longer.
   * @throws {VolsealError} `ERR_IO`
   */
  async forgetSnapshot(): Promise<void> {
    if (this.file.token.snapshot !== undefined) await this.writeToken({ snapshot: undefined });
  }

  /** Records anew which data is that of a detached header. @throws {VolsealError} as `renewSamples` */
  async afterFlush(): Promise<void> {
    this.#file = { ...this.file, ...(await renewSamples(this.file, this.key)) };
  }

  /** Wipes the key, closes the files, which releases their lock, and gives back the share of the pool. */
  async close(): Promise<void> {
    if (this.#key !== undefined) native.keyWipe(this.#key);
    await this.file.close();
    await this.pool.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Opens a volume for `use` and closes it after that, whatever happens. `use` unlocks it: what it can check before that
 * costs no call to KMS.
 * @throws {VolsealError} as `VolumeSession.open`, and whatever `use` throws
 */
export async function withVolume<T>(
  path: string,
  options: OpenOptions,
  access: VolumeAccess,
  use: (session: VolumeSession) => Promise<T>,
): Promise<T> {
  await using session = await VolumeSession.open(path, options, access);
  return await use(session);
}
