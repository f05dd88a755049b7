/** Chunks of bytes that come in order, once: as many bytes at a time as somebody asks for. */
import type { Readable } from 'node:stream';
import { isUint8Array } from 'node:util/types';
import { VolsealError } from '../errors.js';
import type { SourceChunks } from './image-stream.js';

/** Reads a stream to its end, or until it is closed. */
export class ChunkReader {
  readonly name: string;
  readonly #source: SourceChunks['chunks'];
  readonly #chunks: AsyncIterator<unknown>;
  readonly #signal: AbortSignal;
  #rest: Uint8Array = new Uint8Array();
  #readBytes = 0;

  /** @param signal ends a wait for the next chunk */
  constructor({ chunks, name = 'the stream' }: SourceChunks, signal: AbortSignal) {
    this.name = name;
    this.#source = chunks;
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#signal = signal;
  }

  /**
   * Fills `target`. @returns fewer bytes only where the chunks end
   * @throws {VolsealError} `ERR_IO` with the stream's own error as `cause`; `ERR_ARGUMENT` a chunk is not of bytes
   */
  async fill(target: Uint8Array): Promise<number> {
    let filledBytes = 0;
    while (filledBytes < target.length) {
      if (this.#rest.length === 0) {
        const { done, value } = await this.#next();
        if (done === true) break;
        if (!isUint8Array(value)) throw new VolsealError('ERR_ARGUMENT', `${this.name}: gave a chunk that is not a Uint8Array`);
        this.#rest = value;
      }
      const taken = this.#rest.subarray(0, target.length - filledBytes);
      target.set(taken, filledBytes);
      filledBytes += taken.length;
      this.#rest = this.#rest.subarray(taken.length);
    }
    this.#readBytes += filledBytes;
    return filledBytes;
  }

  /** `ERR_IO` with `ENODATA`: it has ended before it had `wantedBytes`. */
  endsEarly(wantedBytes: number): VolsealError {
    return this.#failure('ENODATA', `ends at ${this.#readBytes}, ${wantedBytes - this.#readBytes} bytes early`);
  }

  /** @throws {VolsealError} `ERR_IO`, with `EFBIG`: it goes on */
  async expectEnd(): Promise<void> {
    if ((await this.fill(new Uint8Array(1))) === 0) return;
    throw this.#failure('EFBIG', `goes on at ${this.#readBytes - 1}, where it should end`);
  }

  /** Ends the stream; nobody waits for that. Never throws. */
  close(): void {
    const { destroy } = this.#source as Partial<Readable>;
    if (destroy !== undefined) destroy.call(this.#source);
    else this.#chunks.return?.().catch(() => {});
  }

  async #next(): Promise<IteratorResult<unknown>> {
    const signal = this.#signal;
    try {
      signal.throwIfAborted();
      return await new Promise((resolve, reject) => {
        const stop = (): void => reject(signal.reason);
        signal.addEventListener('abort', stop);
        // Not a race: that would keep something for each chunk as long as the signal lives.
        const settled = this.#chunks.next().finally(() => signal.removeEventListener('abort', stop));
        settled.then(resolve, reject);
      });
    } catch (error) {
      throw new VolsealError('ERR_IO', `${this.name}: the stream failed: ${String(error)}`, { cause: error, details: { path: this.name } });
    }
  }

  #failure(errno: string, what: string): VolsealError {
    return new VolsealError('ERR_IO', `${this.name}: ${what}`, {
      details: { path: this.name, errno, syscall: 'read', offsetBytes: this.#readBytes },
    });
  }
}
