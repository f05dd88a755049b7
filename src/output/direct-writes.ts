/**
 * Writes of large pieces around the page cache (O_DIRECT), as the engine writes whole images: the system neither copies
 * them nor drops the data of other programs for them.
 */
import { constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import { native } from '../native.js';
import type { NamedFile } from './named-file.js';

/** What nearly every O_DIRECT takes: whole pages in memory and in the file. */
const ALIGNMENT_BYTES = 4096;

/** @returns memory that the threads share and that `DirectWrites` need not copy: it begins at a page */
export function sharedPages(byteCount: number): Uint8Array<SharedArrayBuffer> {
  const all = new Uint8Array(new SharedArrayBuffer(byteCount + ALIGNMENT_BYTES));
  const skipped = (ALIGNMENT_BYTES - native.pageOffset(all)) % ALIGNMENT_BYTES;
  return all.subarray(skipped, skipped + byteCount);
}

/** A file's second way in. What cannot go directly goes through the page cache; the kernel keeps the two consistent. */
export class DirectWrites implements AsyncDisposable {
  readonly #file: NamedFile;
  readonly #direct: NamedFile | undefined;

  private constructor(file: NamedFile, direct: NamedFile | undefined) {
    this.#file = file;
    this.#direct = direct;
  }

  /** @param file open for writing; stays the caller's */
  static async open(file: NamedFile): Promise<DirectWrites> {
    // Some file systems refuse it, some sandboxes have no /proc: then everything goes through the page cache.
    const direct = await file.reopen(constants.O_WRONLY | constants.O_DIRECT).catch(() => undefined);
    return new DirectWrites(file, direct);
  }

  /** Writes all of `bytes` at `offsetBytes`. Not flushed. @throws {VolsealError} `ERR_IO` */
  async write(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    const isAligned = offsetBytes % ALIGNMENT_BYTES === 0 && native.pageOffset(bytes) === 0;
    const wholeBytes = isAligned ? bytes.length - (bytes.length % ALIGNMENT_BYTES) : 0;
    const written = (await this.#writeDirectly(bytes.subarray(0, wholeBytes), offsetBytes)) ? wholeBytes : 0;
    await this.#file.write(bytes.subarray(written), offsetBytes + written);
  }

  /** @returns false where the file system wants another alignment */
  async #writeDirectly(bytes: Uint8Array, offsetBytes: number): Promise<boolean> {
    if (this.#direct === undefined) return false;
    try {
      await this.#direct.write(bytes, offsetBytes);
      return true;
    } catch (error) {
      if (error instanceof VolsealError && error.details.errno === 'EINVAL') return false;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#direct?.close();
  }
}
