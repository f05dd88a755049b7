/**
 * Zeroes what a socket read, once the message that it belongs to has been taken in: Node's HTTP parser copies bodies out of
 * these buffers, so that zeroing the body alone would leave the key behind.
 */
import type { Duplex } from 'node:stream';

const read = new WeakMap<Duplex, Buffer[]>();

/**
 * Remembers every chunk that `socket` reads until `wipeSocket` or until the socket closes.
 * A listener on the socket also makes Node's HTTP server read through JavaScript buffers, not through one it keeps for itself.
 */
export function watchSocket<Socket extends Duplex>(socket: Socket): Socket {
  const chunks: Buffer[] = [];
  read.set(socket, chunks);
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
  });
  socket.once('close', () => wipeSocket(socket));
  return socket;
}

/** Zeroes and forgets what a watched socket has read so far. */
export function wipeSocket(socket: Duplex): void {
  const chunks = read.get(socket);
  if (chunks !== undefined) wipeChunks(chunks.splice(0));
}

/** Zeroes every chunk. */
export function wipeChunks(chunks: readonly Uint8Array[]): void {
  for (const chunk of chunks) chunk.fill(0);
}
