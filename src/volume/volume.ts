/**
 * An attached volume: plaintext reads and writes at any offset, over sectors that are ciphertext on the disk. Requests
 * are served by the engine's threads; the data key is in the vault for as long as the volume is attached.
 */
import type { Readable, Writable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { VolsealError, withPath } from '../errors.js';
import { EXTENT_COUNT_MAX } from '../limits.js';
import { type Logger, logged } from '../logging.js';
import type { Allocation } from '../luks2/token.js';
import { type DeviceExtent, type DeviceHandle, native } from '../native.js';
import type { NbdServeOptions } from '../nbd/options.js';
import { serveVolumes } from '../nbd/serve.js';
import { type DeviceLender, type DeviceUser, type NbdServer, servedDevice } from '../nbd/server.js';
import { type ReadStreamOptions, readableWebStream, readStream, type WriteStreamOptions, writeStream } from './streams.js';
import type { VolumeFile } from './volume-file.js';

/** The files and keys of an unlocked volume. */
export interface OpenVolume {
  readonly file: Pick<VolumeFile, 'segment' | 'token' | 'sizeBytes'> & { readonly data: { readonly path: string } };
  /** What is left to do once a writer's last flush has come back. @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE` */
  afterFlush(): Promise<void>;
  /** Wipes the keys and closes the files. Never throws. */
  close(): Promise<void>;
}

/** What a volume owns while it is attached; `detach` gives all of it back. */
export interface Attachment {
  readonly session: OpenVolume;
  readonly device: DeviceHandle;
  readonly writable: boolean;
  readonly logger: Logger | undefined;
}

/**
 * Every method fails with `ERR_STATE_DETACHED` once `detach` was called. Requests may run side by side; where a write
 * overlaps another request, each sector is seen either before or after it, never in between.
 */
export class Volume {
  readonly #attachment: Attachment;
  readonly #users = new Set<DeviceUser>();
  #underWay = 0;
  /** Set while `detach` waits for the requests under way. */
  #allEnded: (() => void) | undefined;
  #detaching: Promise<void> | undefined;

  /** For `attach`: takes over what it is given. */
  constructor(attachment: Attachment) {
    this.#attachment = attachment;
  }

  /** `vol-` and 17 hexadecimal digits. */
  get volumeId(): string {
    return this.#attachment.session.file.token.volumeId;
  }

  /** Bytes of plaintext that the volume holds. */
  get sizeBytes(): number {
    return this.#attachment.session.file.sizeBytes;
  }

  /** Bytes of a sector. Reads and writes need no alignment; aligned ones are faster. */
  get sectorBytes(): number {
    return this.#attachment.session.file.segment.sectorBytes;
  }

  /** `sparse`: sectors that were never written, zeroed or trimmed take no room. */
  get allocation(): Allocation {
    return this.#attachment.session.file.token.allocation;
  }

  /**
   * `lengthBytes` bytes of plaintext from `offsetBytes` on; any offset, any length within the volume.
   *
   * @returns a new array, the caller's
   * @throws {VolsealError} `ERR_ARGUMENT` (outside the volume), `ERR_IO`, `ERR_STATE_DETACHED`
   */
  async read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    this.#check(offsetBytes, lengthBytes);
    return this.#track(native.deviceRead(this.#attachment.device, offsetBytes, lengthBytes));
  }

  /**
   * Fills `target` with plaintext from `offsetBytes` on. A view of a SharedArrayBuffer is read into directly. Memory of
   * any other kind could be detached or freed meanwhile, so it gets a copy, by the calling thread, when the bytes are
   * there: large reads are then better made by `read`, which copies nothing.
   *
   * @param target not to be used until the promise settles; after a failure it may hold part of the bytes
   * @throws {VolsealError} as `read`; `ERR_ARGUMENT` also where `target` was detached or resized meanwhile
   */
  async readInto(offsetBytes: number, target: Uint8Array): Promise<void> {
    this.#check(offsetBytes, target.length);
    await this.#track(native.deviceReadInto(this.#attachment.device, offsetBytes, target));
  }

  /**
   * Fills `targets`, one behind the other, with plaintext from `offsetBytes` on, each as `readInto` does; they are read
   * side by side.
   *
   * @throws {VolsealError} as `readInto`, once all have ended
   */
  async readv(offsetBytes: number, targets: readonly Uint8Array[]): Promise<void> {
    this.#check(offsetBytes, totalLength(targets));
    let at = offsetBytes;
    const reads = targets.map((target) => {
      const start = at;
      at += target.length;
      return this.readInto(start, target);
    });
    for (const outcome of await Promise.allSettled(reads)) if (outcome.status === 'rejected') throw outcome.reason;
  }

  /**
   * Writes plaintext at `offsetBytes`; any offset, any length within the volume. It lasts once `flush` has come back.
   *
   * @param bytes copied before this returns: the caller may change them at once
   * @throws {VolsealError} as `read`, and `ERR_STATE_READ_ONLY`, `ERR_STATE_POISONED`
   */
  async write(offsetBytes: number, bytes: Uint8Array): Promise<void> {
    this.#check(offsetBytes, bytes.length);
    this.#checkWritable();
    await this.#track(native.deviceWrite(this.#attachment.device, offsetBytes, bytes));
  }

  /**
   * Writes `sources`, one behind the other, from `offsetBytes` on, as one `write` of all of them would.
   *
   * @param sources copied before this returns: the caller may change them at once
   * @throws {VolsealError} as `write`
   */
  async writev(offsetBytes: number, sources: readonly Uint8Array[]): Promise<void> {
    this.#check(offsetBytes, totalLength(sources));
    this.#checkWritable();
    await this.#track(native.deviceWritev(this.#attachment.device, offsetBytes, sources));
  }

  /**
   * What was written before this call lasts once it comes back (fdatasync; one for all flushes that wait at the same
   * time). After a failure no write and no flush succeeds any more: what was written since the last good flush may be
   * lost.
   *
   * @throws {VolsealError} `ERR_IO`, `ERR_STATE_POISONED`, `ERR_STATE_READ_ONLY`, `ERR_STATE_DETACHED`
   */
  async flush(): Promise<void> {
    this.#checkWritable();
    await this.#track(native.deviceFlush(this.#attachment.device));
  }

  /**
   * Makes a range read as zeros; any offset, any length within the volume. A sparse volume's whole sectors become
   * holes; another one's are written, as `write` would. It lasts once `flush` has come back.
   *
   * @throws {VolsealError} as `write`
   */
  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#check(offsetBytes, lengthBytes);
    this.#checkWritable();
    await this.#track(native.deviceZero(this.#attachment.device, offsetBytes, lengthBytes));
  }

  /**
   * Says that a range is not needed any more. A sparse volume's whole sectors become holes and read as zeros; part
   * sectors at its ends stay. Otherwise every sector stays written, so that nobody sees which ones are in use: the
   * range keeps its contents and its room on the disk, as a discard that dm-crypt does not pass down.
   *
   * @throws {VolsealError} as `write`
   */
  async trim(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#check(offsetBytes, lengthBytes);
    this.#checkWritable();
    await this.#track(native.deviceTrim(this.#attachment.device, offsetBytes, lengthBytes));
  }

  /**
   * Where a range is known to be zeros: pieces without gaps from `offsetBytes` on, of alternating `zero`. A piece that
   * is not `zero` may hold zeros as well; a volume that is not sparse is one such piece.
   *
   * @param countMax pieces at most, 1 to 65536 (default): where they end before the range does, ask again from there on
   * @throws {VolsealError} as `read`
   */
  async extents(offsetBytes: number, lengthBytes: number, countMax: number = EXTENT_COUNT_MAX): Promise<DeviceExtent[]> {
    this.#check(offsetBytes, lengthBytes);
    return this.#track(native.deviceExtents(this.#attachment.device, offsetBytes, lengthBytes, countMax));
  }

  /**
   * The bytes from `start` to `end` (the last byte that is read, as in `fs.createReadStream`) as a Node stream. After
   * `detach` it fails with `ERR_STATE_DETACHED`.
   *
   * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_STATE_DETACHED`
   */
  createReadStream(options: ReadStreamOptions = {}): Readable {
    this.#refuseIfDetached();
    return readStream(this, options);
  }

  /**
   * The same as a Web stream.
   *
   * @throws {VolsealError} as `createReadStream`
   */
  readableWebStream(options: ReadStreamOptions = {}): ReadableStream<Uint8Array> {
    this.#refuseIfDetached();
    return readableWebStream(this, options);
  }

  /**
   * A Node stream that writes from `start` on. When it emits `finish`, everything is flushed, unless `flush` is false.
   * What goes beyond the volume's end fails with `ERR_ARGUMENT`.
   *
   * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_STATE_READ_ONLY`, `ERR_STATE_DETACHED`
   */
  createWriteStream(options: WriteStreamOptions = {}): Writable {
    this.#checkWritable();
    return writeStream(this, options);
  }

  /**
   * Serves the volume to NBD clients (QEMU, libvirt, the Linux kernel, nbdcopy ...) as the default export. The volume
   * stays attached when the server ends; detaching it ends the server.
   *
   * @throws {VolsealError} as `serveVolumes`
   */
  serve(options: NbdServeOptions): Promise<NbdServer> {
    return serveVolumes([{ name: '', volume: this }], options);
  }

  /** For servers: the device behind this volume. */
  get [servedDevice](): DeviceLender {
    return {
      lend: () => {
        this.#refuseIfDetached();
        return { device: this.#attachment.device, description: this.volumeId };
      },
      use: (user) => {
        this.#users.add(user);
        return () => this.#users.delete(user);
      },
      settle: async () => {
        if (this.#attachment.writable && this.#detaching === undefined) await this.flush();
      },
    };
  }

  /**
   * Waits for requests under way, flushes, wipes the key and lets the file go. The last volume of a process ends the
   * pool. Calling it again gives the same outcome.
   *
   * @throws {VolsealError} `ERR_IO` where the last flush failed; the volume is detached all the same
   */
  detach(): Promise<void> {
    const { logger } = this.#attachment;
    this.#detaching ??= logged('detach', { path: this.#path, volumeId: this.volumeId }, { logger }, () => this.#detach());
    return this.#detaching;
  }

  /** As `detach`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach();
  }

  get #path(): string {
    return this.#attachment.session.file.data.path;
  }

  async #detach(): Promise<void> {
    const { session, device, writable } = this.#attachment;
    await Promise.allSettled(Array.from(this.#users, (user) => user.drop(device)));
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#allEnded = resolve;
      });
    }
    try {
      if (writable) {
        await native.deviceFlush(device);
        await session.afterFlush();
      }
    } catch (error) {
      throw withPath(error, this.#path);
    } finally {
      native.deviceClose(device);
      await session.close();
    }
  }

  #check(offsetBytes: number, lengthBytes: number): void {
    this.#refuseIfDetached();
    const inside = [offsetBytes, lengthBytes].every((number) => Number.isSafeInteger(number) && number >= 0);
    if (inside && offsetBytes + lengthBytes <= this.sizeBytes) return;
    const path = this.#path;
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${path}: ${lengthBytes} bytes at ${offsetBytes} are not inside the volume's ${this.sizeBytes}`,
      {
        details: { path, offsetBytes, lengthBytes, sizeBytes: this.sizeBytes },
      },
    );
  }

  #checkWritable(): void {
    this.#refuseIfDetached();
    if (this.#attachment.writable) return;
    const path = this.#path;
    throw new VolsealError('ERR_STATE_READ_ONLY', `${path}: the volume is attached for reading only`, { details: { path } });
  }

  #refuseIfDetached(): void {
    if (this.#detaching === undefined) return;
    const path = this.#path;
    throw new VolsealError('ERR_STATE_DETACHED', `${path}: the volume ${this.volumeId} is detached`, { details: { path } });
  }

  async #track<T>(request: Promise<T>): Promise<T> {
    this.#underWay += 1;
    try {
      return await request;
    } catch (error) {
      throw withPath(error, this.#path);
    } finally {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#allEnded?.();
    }
  }
}

const totalLength = (arrays: readonly Uint8Array[]): number => arrays.reduce((sum, { length }) => sum + length, 0);
