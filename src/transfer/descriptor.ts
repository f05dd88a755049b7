/** Open descriptors of a caller, read and written in order. They stay open. */
import { fstatSync, read, write } from 'node:fs';
import { Socket } from 'node:net';
import { promisify } from 'node:util';
import { asVolsealError, VolsealError } from '../errors.js';
import { native } from '../native.js';
import type { SourceChunks, SourceStream, TargetStream } from './image-stream.js';

const CHUNK_BYTES = 1024 * 1024;
const readBytes = promisify(read);
const writeBytes = promisify(write);

/**
 * The bytes as chunks. Whoever reads them ends them, also unread.
 * @throws {VolsealError} `ERR_IO`, `ERR_ARGUMENT` the descriptor is a directory's
 */
export function chunksOf({ fd, sizeBytes, name }: SourceStream): SourceChunks & { close(): void } {
  const pipe = pipeAgain(fd, name, false);
  return { chunks: pipe ?? chunksFrom(fd), sizeBytes, name, close: () => void pipe?.destroy() };
}

async function* chunksFrom(fd: number): AsyncGenerator<Uint8Array> {
  for (;;) {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    const { bytesRead } = await readBytes(fd, chunk, 0, chunk.length, null);
    if (bytesRead === 0) return;
    yield chunk.subarray(0, bytesRead);
  }
}

/**
 * Writes pieces in order.
 * @throws {VolsealError} `ERR_IO`, `ERR_ARGUMENT` the descriptor is a directory's; `ERR_ABORTED`
 */
export async function writeInOrder(
  { fd, name }: TargetStream,
  pieces: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const pipe = pipeAgain(fd, name, true);
  // Whoever waits for a write is told.
  pipe?.on('error', () => {});
  try {
    for await (const piece of pieces) await unlessAborted(pipe === undefined ? intoFile(fd, piece) : intoPipe(pipe, piece), signal);
  } catch (error) {
    if (signal?.aborted !== true || error !== signal.reason) throw asVolsealError(error, name);
    throw new VolsealError('ERR_ABORTED', `${name}: stopped on request`, { cause: error, details: { path: name } });
  } finally {
    pipe?.destroy();
  }
}

async function intoFile(fd: number, piece: Uint8Array): Promise<void> {
  for (let at = 0; at < piece.length; ) at += (await writeBytes(fd, piece, at, piece.length - at, null)).bytesWritten;
}

/** Resolves once the system has got all of it. */
const intoPipe = (pipe: Socket, piece: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => {
    pipe.write(piece, (error) => (error ? reject(error) : resolve()));
  });

/** @throws the reason of `signal`, even while `work` does not end */
function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason);
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    work.finally(() => signal.removeEventListener('abort', stop)).then(resolve, reject);
  });
}

/**
 * A pipe, opened once more: that it does not block then does not reach everybody who shares the descriptor, and a wait
 * for the other end can be ended. Undefined for what is no pipe, and for another user's. The addon opens it: in a
 * worker thread Node warns of a descriptor of its own that a socket closes.
 */
function pipeAgain(fd: number, name: string, writable: boolean): Socket | undefined {
  try {
    const found = fstatSync(fd);
    if (found.isDirectory()) throw new VolsealError('ERR_ARGUMENT', `${name}: is a directory, not a stream`, { details: { path: name } });
    if (!found.isFIFO()) return undefined;
    return new Socket({ fd: native.reopenPipe(fd, writable), readable: !writable, writable });
  } catch (error) {
    const { errno, syscall } = error instanceof VolsealError ? error.details : {};
    if (errno === 'ENXIO')
      throw new VolsealError('ERR_IO', `${name}: nobody reads it`, {
        cause: error,
        details: { path: name, errno: 'EPIPE', syscall: 'open' },
      });
    if (syscall === 'open') return undefined;
    throw asVolsealError(error, name);
  }
}
