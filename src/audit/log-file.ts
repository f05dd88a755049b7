/** The file of an audit log: opened under its lock, read by lines, written by whole lines. */
import { closeSync, constants, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeDirectory, syncDirectorySync } from '../directories.js';
import { VolsealError, withPath } from '../errors.js';
import { AUDIT_LINE_BYTES_MAX } from '../limits.js';
import { native } from '../native.js';
import { checkOwnDirectory, openOwnFile } from '../own-files.js';
import { auditError } from './state.js';

const LOCK_TRIES = 20_000;
const LOCK_WAIT_MS = 1;
const CHUNK_BYTES = 64 * 1024;

/** The open log. Every method works on the file itself: nothing is buffered. */
export class LogFile {
  readonly path: string;
  readonly #fd: number;

  constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  get sizeBytes(): number {
    return fstatSync(this.#fd).size;
  }

  /**
   * Appends `text` and a line feed at `startByte`, the end of the file. What was written of a line that fails is
   * removed again.
   */
  append(text: string, startByte: number): void {
    const line = Buffer.from(`${text}\n`);
    try {
      const byteCount = writeSync(this.#fd, line);
      if (byteCount < line.length) throw Object.assign(new Error('the disk is full'), { code: 'ENOSPC' });
    } catch (error) {
      this.cut(startByte);
      throw error;
    }
  }

  /** Removes what follows `startByte`. */
  cut(startByte: number): void {
    ftruncateSync(this.#fd, startByte);
  }

  flush(): void {
    fdatasyncSync(this.#fd);
  }

  /** Whether `text` and a line feed stand at `startByte`. */
  has(text: string, startByte: number): boolean {
    const line = Buffer.from(`${text}\n`);
    const found = Buffer.alloc(line.length);
    return readSync(this.#fd, found, 0, found.length, startByte) === found.length && found.equals(line);
  }

  /** The whole lines from `startByte` on, up to one that is longer than a record can be. */
  *lines(startByte: number): Generator<{ readonly bytes: Buffer; readonly endByte: number }> {
    let rest: Buffer = Buffer.alloc(0);
    let position = startByte;
    for (;;) {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      const byteCount = readSync(this.#fd, chunk, 0, chunk.length, position + rest.length);
      if (byteCount === 0) return;
      rest = Buffer.concat([rest, chunk.subarray(0, byteCount)]);
      for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n')) {
        position += end + 1;
        yield { bytes: rest.subarray(0, end), endByte: position };
        rest = rest.subarray(end + 1);
      }
      if (rest.length > AUDIT_LINE_BYTES_MAX) return;
    }
  }

  /** Moves what follows `startByte` to a file of its own in the same directory, `audit.torn-NUMBER`. */
  setAside(startByte: number, number: number): void {
    const target = this.#newTornFile(number);
    try {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      for (let position = startByte; ; ) {
        const byteCount = readSync(this.#fd, chunk, 0, chunk.length, position);
        if (byteCount === 0) break;
        for (let done = 0; done < byteCount; ) done += writeSync(target, chunk, done, byteCount - done);
        position += byteCount;
      }
      fdatasyncSync(target);
    } finally {
      closeSync(target);
    }
    this.cut(startByte);
  }

  #newTornFile(number: number): number {
    for (let copy = 1; ; copy++) {
      try {
        return openSync(join(dirname(this.path), `audit.torn-${number}${copy === 1 ? '' : `-${copy}`}`), 'wx', 0o600);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
  }
}

/**
 * Runs `use` with the log `path` while no other thread or process writes to it. Waits up to 20 s for its turn.
 * @param mayCreate whether the log is made, with its directory, where it does not exist
 * @throws {VolsealError} `ERR_AUDIT`; `ERR_IO`: the log or its directory belongs to another user; what `use` throws
 */
export function lockedLog<Result>(path: string, mayCreate: () => boolean, use: (file: LogFile) => Result): Result {
  for (;;) {
    // Opened anew each time: flock(2) is between open files, and so between threads too.
    const fd = withFaults(path, () => openLog(path, mayCreate));
    try {
      takeLock(fd, path);
      // Not the log any more where another process has replaced it meanwhile.
      if (fstatSync(fd).ino !== statSync(path, { throwIfNoEntry: false })?.ino) continue;
      return use(new LogFile(path, fd));
    } finally {
      closeSync(fd);
    }
  }
}

function openLog(path: string, mayCreate: () => boolean): number {
  const flags = constants.O_RDWR | constants.O_APPEND;
  checkOwnDirectory(dirname(path));
  try {
    return openOwnFile(path, flags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || !mayCreate()) throw error;
  }
  makeDirectory(dirname(path));
  const fd = openOwnFile(path, flags | constants.O_CREAT);
  syncDirectorySync(dirname(path));
  return fd;
}

function takeLock(fd: number, path: string): void {
  for (let tries = 0; ; tries++) {
    try {
      native.fileLock(fd, true);
      return;
    } catch (error) {
      if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw withPath(error, path);
      if (tries === LOCK_TRIES) throw auditError(path, 'has been locked by another process for too long');
      Atomics.wait(waiting, 0, 0, LOCK_WAIT_MS);
    }
  }
}

const waiting = new Int32Array(new SharedArrayBuffer(4));

/** Runs `run`; its failed system calls are `ERR_AUDIT`. */
export function withFaults<Result>(path: string, run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    if (error instanceof VolsealError) throw error;
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw auditError(path, 'is missing', error);
    throw auditError(path, `cannot be written: ${(error as Error).message}`, error);
  }
}
