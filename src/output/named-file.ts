/** An open file that knows its path, and which file a path leads to. */
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Directory, pathOfDescriptor } from '../directory-entry.js';
import { asVolsealError, namingPath, VolsealError, withPath } from '../errors.js';
import { native } from '../native.js';

/** Which file it is, whatever its name: device and inode number, as text because they may exceed 2^53. */
export interface FileIdentity {
  readonly dev: string;
  readonly ino: string;
}

/** The identity of a file by its stat(2). */
export const identityOf = ({ dev, ino }: BigIntStats): FileIdentity => ({ dev: `${dev}`, ino: `${ino}` });

/** Whether both are one file. */
export const isSameFile = (one: FileIdentity, other: FileIdentity): boolean => one.dev === other.dev && one.ino === other.ino;

/** What `look` (stat or lstat) finds at `path`; undefined where there is nothing. @throws {VolsealError} `ERR_IO` */
export async function ifThere<S>(path: string, look: () => Promise<S>): Promise<S | undefined> {
  return namingPath(path, look).catch((error) => {
    if (error instanceof VolsealError && (error.details.errno === 'ENOENT' || error.details.errno === 'ENOTDIR')) return undefined;
    throw error;
  });
}

/** What is compared, and written, at once. */
const CHANGED_BYTES = 64 * 1024;

/** What flock(2) says on a file system without locks, or in a sandbox that forbids it. */
const NO_LOCKS = new Set(['ENOLCK', 'ENOSYS', 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL']);

/** Whether a lock failed because there are none. */
export const hasNoLocks = (error: unknown): boolean =>
  error instanceof VolsealError && error.details.syscall === 'flock' && NO_LOCKS.has(String(error.details.errno));

/** The same error with where in the file it happened. */
function withOffset(error: unknown, offsetBytes: number): unknown {
  if (!(error instanceof VolsealError)) return error;
  return new VolsealError(error.code, error.message, { cause: error.cause, details: { ...error.details, offsetBytes } });
}

/** An open file; every method fails with an `ERR_IO` that names the path. Whoever holds it closes it. */
export class NamedFile {
  readonly handle: FileHandle;
  /** What messages call the file. */
  readonly path: string;

  constructor(handle: FileHandle, path: string) {
    this.handle = handle;
    this.path = path;
  }

  /**
   * Opens the file at `path`.
   * @param flags as for open(2) @param name what messages call it, if not `path` @throws {VolsealError} `ERR_IO`
   */
  static async open(path: string, flags: number, { mode = 0o600, name = path } = {}): Promise<NamedFile> {
    return new NamedFile(await namingPath(name, () => open(path, flags, mode)), name);
  }

  /**
   * Opens `name` in a directory; a symbolic link there is refused.
   * @param shown what messages call it, if not by its path @throws {VolsealError} `ERR_IO`
   */
  static openIn(directory: Directory, name: string, flags: number, shown = join(directory.path, name)): Promise<NamedFile> {
    return NamedFile.open(directory.at(name), flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, { name: shown });
  }

  get fd(): number {
    return this.handle.fd;
  }

  /** Opens the same file once more, whatever its path leads to by now. @throws {VolsealError} `ERR_IO` */
  reopen(flags: number): Promise<NamedFile> {
    return NamedFile.open(pathOfDescriptor(this.fd), flags, { name: this.path });
  }

  /** The same open file under another name in messages. */
  as(name: string): NamedFile {
    return new NamedFile(this.handle, name);
  }

  stat(): Promise<BigIntStats> {
    return namingPath(this.path, () => this.handle.stat({ bigint: true }));
  }

  async identity(): Promise<FileIdentity> {
    return identityOf(await this.stat());
  }

  /**
   * Whether `path` leads to this very file. False where nothing is there.
   * @param own what stat(2) has said of it, where that is known
   */
  async isAt(path: string, own?: BigIntStats): Promise<boolean> {
    const found = await ifThere(path, () => stat(path, { bigint: true }));
    return found !== undefined && isSameFile(identityOf(found), identityOf(own ?? (await this.stat())));
  }

  /** Bytes of the regular file or block device. @throws {VolsealError} also `ERR_ARGUMENT`: it is neither */
  sizeBytes(): number {
    return this.#naming(() => native.fileSize(this.fd));
  }

  /** Whether the file system has no data for some byte of the range. False where it cannot say that. */
  hasHole(offsetBytes: number, lengthBytes: number): boolean {
    return this.#naming(() => native.fileHasHole(this.fd, offsetBytes, lengthBytes));
  }

  /**
   * For work that fills the file to `lengthBytes` over a long time: a disk that is too small says so before it, and not
   * when it is full for everybody. @throws {VolsealError} `ERR_IO` with errno `ENOSPC`
   */
  checkRoom(lengthBytes: number): void {
    if (this.#naming(() => native.fileHasRoom(this.fd, lengthBytes))) return;
    const message = `${this.path}: its file system has no room for ${lengthBytes} bytes: No space left on device`;
    throw new VolsealError('ERR_IO', message, { details: { path: this.path, errno: 'ENOSPC', syscall: 'statvfs' } });
  }

  /** Takes the lock of the open file (flock(2)), without waiting. @throws {VolsealError} also `ERR_STATE_BUSY` */
  lock(kind: 'exclusive' | 'shared'): void {
    this.#naming(() => native.fileLock(this.fd, kind === 'exclusive'));
  }

  /** Whether another open file has a record lock (fcntl(2)) on it. The file is open for writing. */
  hasRecordLock(): boolean {
    return this.#naming(() => native.fileHasRecordLock(this.fd));
  }

  /**
   * Takes the lock, unless the file system has none.
   * @returns false where it has none (flock(2) is not there, as on some network file systems) @throws {VolsealError} as
   * `lock`
   */
  lockIfPossible(kind: 'exclusive' | 'shared'): boolean {
    try {
      this.lock(kind);
      return true;
    } catch (error) {
      if (hasNoLocks(error)) return false;
      throw error;
    }
  }

  /**
   * Gives owner, group, mode and extended attributes of this file to `other`, as far as that is permitted.
   * @returns the names of what could not be given
   */
  giveAttributesTo(other: NamedFile): string[] {
    return this.#naming(() => native.fileCopyAttributes(this.fd, other.fd));
  }

  truncate(sizeBytes: number): Promise<void> {
    return namingPath(this.path, () => this.handle.truncate(sizeBytes));
  }

  /** fsync(2). */
  sync(): Promise<void> {
    return namingPath(this.path, () => this.handle.sync());
  }

  /** fdatasync(2). */
  datasync(): Promise<void> {
    return namingPath(this.path, () => this.handle.datasync());
  }

  /** Replaces the contents by `text`. */
  async writeText(text: string): Promise<void> {
    await this.truncate(0);
    await namingPath(this.path, () => this.handle.writeFile(text));
  }

  /** Up to `bytesMax` bytes from `offsetBytes` on: fewer where the file ends. */
  async read(offsetBytes: number, bytesMax: number): Promise<Buffer> {
    const bytes = Buffer.alloc(bytesMax);
    return bytes.subarray(0, await this.readInto(offsetBytes, bytes));
  }

  /** Fills `target` from `offsetBytes` on. @returns how many bytes it got: fewer than it has where the file ends */
  async readInto(offsetBytes: number, target: Uint8Array): Promise<number> {
    let filledBytes = 0;
    for (let bytesRead = 1; bytesRead > 0 && filledBytes < target.length; filledBytes += bytesRead) {
      const position = offsetBytes + filledBytes;
      ({ bytesRead } = await this.handle.read(target, filledBytes, target.length - filledBytes, position).catch((error: unknown) => {
        throw withOffset(asVolsealError(error, this.path), position);
      }));
    }
    return filledBytes;
  }

  /** Has `bytes` at `offsetBytes`, and writes only what differs: zeros in a hole would take room. Not flushed. */
  async change(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    const current = await this.read(offsetBytes, bytes.length);
    for (let at = 0; at < bytes.length; at += CHANGED_BYTES) {
      const piece = bytes.subarray(at, at + CHANGED_BYTES);
      if (!current.subarray(at, at + CHANGED_BYTES).equals(piece)) await this.write(piece, offsetBytes + at);
    }
  }

  /** Writes all of `bytes` at `offsetBytes`. Not flushed. */
  async write(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    for (let writtenBytes = 0; writtenBytes < bytes.length; ) {
      const position = offsetBytes + writtenBytes;
      const { bytesWritten } = await this.handle
        .write(bytes, writtenBytes, bytes.length - writtenBytes, position)
        .catch((error: unknown) => {
          throw withOffset(asVolsealError(error, this.path), position);
        });
      if (bytesWritten === 0) {
        throw new VolsealError('ERR_IO', `${this.path}: writing stopped at offset ${position}: no byte was taken`, {
          details: { syscall: 'write', path: this.path, offsetBytes: position },
        });
      }
      writtenBytes += bytesWritten;
    }
  }

  /** The first `bytesMax` bytes of the file as text. */
  async readText(bytesMax: number): Promise<string> {
    return (await this.read(0, bytesMax)).toString('utf8');
  }

  /** Never throws: what must be on the disk was flushed before. */
  async close(): Promise<void> {
    await this.handle.close().catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #naming<T>(call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw withPath(error, this.path);
    }
  }
}
