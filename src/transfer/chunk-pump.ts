/** A stream of JavaScript as the engine takes images: through a pipe, which the engine reads in its own threads. */
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { VolsealError } from '../errors.js';
import { native } from '../native.js';
import type { SourceChunks, SourceStream } from './image-stream.js';

/**
 * Runs `use` with the chunks as a stream with a descriptor, and closes that.
 *
 * @throws {VolsealError} what `use` throws; `ERR_IO` with the stream's own error as `cause` where the stream fails
 */
export async function withChunks<Result>(
  source: SourceChunks & { sizeBytes: number },
  use: (stream: SourceStream) => Promise<Result>,
): Promise<Result> {
  const { chunks, sizeBytes, name = 'the stream' } = source;
  const { readFd, writeFd } = native.openPipe();
  const pipe = new Socket({ fd: writeFd, readable: false, writable: true });
  const stop = new AbortController();
  let failure: unknown;
  const pumped = pipeline(Readable.from(chunks), pipe, { signal: stop.signal }).catch((error: NodeJS.ErrnoException) => {
    // That the reader has ended, for its own reasons, is not the stream's failure.
    if (!stop.signal.aborted && error.code !== 'EPIPE') failure = error;
  });
  try {
    return await use({ fd: readFd, sizeBytes, name });
  } catch (error) {
    // The engine sees a stream that ends early.
    if (failure === undefined) throw error;
    throw new VolsealError('ERR_IO', `${name}: the stream failed: ${String(failure)}`, { cause: failure, details: { path: name } });
  } finally {
    stop.abort();
    native.closePipeEnd(readFd);
    await pumped;
  }
}
