/**
 * An attached volume: plaintext reads and writes at any offset, over sectors that are ciphertext on the disk. Each
 * request is a task of the pool; the data key is in the vault for as long as the volume is attached.
 */
import { VolsealError, withPath } from '../errors.js';
import { EXTENT_COUNT_MAX, HOLE_BYTES_MAX, REQUEST_BYTES_MAX } from '../limits.js';
import type { Allocation } from '../luks2/token.js';
import { type DeviceExtent, type DeviceHandle, native } from '../native.js';
import type { NbdServeOptions } from '../nbd/options.js';
import { serveVolumes } from '../nbd/serve.js';
import { type DeviceLender, type DeviceUser, type NbdServer, servedDevice } from '../nbd/server.js';
import type { Task, TaskValue } from '../workers/tasks.js';
import type { VolumeSession } from './session.js';

/** What a volume owns while it is attached; `detach` gives all of it back. */
export interface Attachment {
  /** Unlocked. */
  readonly session: VolumeSession;
  readonly device: DeviceHandle;
  readonly writable: boolean;
}

/**
 * Every method fails with `ERR_STATE_DETACHED` once `detach` was called. Requests may run side by side; where a write
 * overlaps another request, each sector is seen either before or after it, never in between.
 */
export class Volume {
  readonly #attachment: Attachment;
  readonly #pending = new Set<Promise<unknown>>();
  readonly #users = new Set<DeviceUser>();
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
    const device = this.#attachment.device;
    const readPiece = (piece: Piece): Promise<Uint8Array> => this.#run({ kind: 'read', device, ...piece });
    if (lengthBytes <= REQUEST_BYTES_MAX) return readPiece({ offsetBytes, lengthBytes });
    const whole = new Uint8Array(lengthBytes);
    await Promise.all(
      Array.from(piecesOf(offsetBytes, lengthBytes), async (piece) => whole.set(await readPiece(piece), piece.offsetBytes - offsetBytes)),
    );
    return whole;
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
    const device = this.#attachment.device;
    await Promise.all(
      Array.from(piecesOf(offsetBytes, bytes.length), (piece) => {
        const start = piece.offsetBytes - offsetBytes;
        const copy = Uint8Array.prototype.slice.call(bytes, start, start + piece.lengthBytes);
        return this.#run({ kind: 'write', device, offsetBytes: piece.offsetBytes, bytes: copy });
      }),
    );
  }

  /**
   * What was written before this call lasts once it comes back (fdatasync). After a failure no write and no flush
   * succeeds any more: what was written since the last good flush may be lost.
   *
   * @throws {VolsealError} `ERR_IO`, `ERR_STATE_POISONED`, `ERR_STATE_READ_ONLY`, `ERR_STATE_DETACHED`
   */
  async flush(): Promise<void> {
    this.#checkWritable();
    await this.#run({ kind: 'flush', device: this.#attachment.device });
  }

  /**
   * Makes a range read as zeros; any offset, any length within the volume. A sparse volume's whole sectors become
   * holes; another one's are written, as `write` would. It lasts once `flush` has come back.
   *
   * @throws {VolsealError} as `write`
   */
  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#changeRange('zero', offsetBytes, lengthBytes);
  }

  /**
   * Says that a range is not needed any more. A sparse volume's whole sectors become holes and read as zeros; part
   * sectors at its ends stay. Otherwise every sector stays written, so that nobody sees which ones are in use: the
   * range keeps its contents and its room on the disk, as a discard that dm-crypt does not pass down.
   *
   * @throws {VolsealError} as `write`
   */
  async trim(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#changeRange('trim', offsetBytes, lengthBytes);
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
    return this.#run({ kind: 'extents', device: this.#attachment.device, offsetBytes, lengthBytes, countMax });
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
    this.#detaching ??= this.#detach();
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
    await Promise.allSettled(this.#pending);
    try {
      if (writable) await session.pool.run({ kind: 'flush', device });
    } catch (error) {
      throw withPath(error, this.#path);
    } finally {
      native.deviceClose(device);
      await session.close();
    }
  }

  async #changeRange(kind: 'zero' | 'trim', offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#check(offsetBytes, lengthBytes);
    this.#checkWritable();
    const { device, session } = this.#attachment;
    if (kind === 'trim' && this.allocation === 'full') return;
    const pieces = piecesOf(offsetBytes, lengthBytes, this.allocation === 'sparse' ? HOLE_BYTES_MAX : REQUEST_BYTES_MAX);
    // The range may be the whole volume: no more tasks at a time than threads, so that other requests get their turn.
    const changePieces = async (): Promise<void> => {
      for (const piece of pieces) await this.#run({ kind, device, ...piece });
    };
    await Promise.all(Array.from({ length: session.pool.threads }, changePieces));
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

  async #run<T extends Task>(task: T): Promise<TaskValue<T>> {
    const running = this.#attachment.session.pool.run(task);
    this.#pending.add(running);
    try {
      return await running;
    } catch (error) {
      throw withPath(error, this.#path);
    } finally {
      this.#pending.delete(running);
    }
  }
}

interface Piece {
  offsetBytes: number;
  lengthBytes: number;
}

/**
 * Cuts a request where the pool's threads can share it: at multiples of the largest task, one piece after the other as
 * they are asked for.
 */
function* piecesOf(offsetBytes: number, lengthBytes: number, pieceBytesMax: number = REQUEST_BYTES_MAX): Generator<Piece> {
  const endByte = offsetBytes + lengthBytes;
  for (let at = offsetBytes; at < endByte; ) {
    const pieceEnd = Math.min(endByte, (Math.floor(at / pieceBytesMax) + 1) * pieceBytesMax);
    yield { offsetBytes: at, lengthBytes: pieceEnd - at };
    at = pieceEnd;
  }
}
