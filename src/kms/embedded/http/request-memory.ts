/**
 * The memory that requests pass through on their way into the KMS server: ours, and zeroed.
 *
 * Node reads a connection of a server into arrays that it frees without wiping, and its HTTP parser makes a copy of
 * each piece of a body. Here a connection is read into a buffer of our own (`onread`), and every copy that is made of
 * it is known and zeroed: on each path, also where a request is refused, broken or cut off.
 */
import type { IncomingMessage, Server } from 'node:http';
import { Socket } from 'node:net';
import { serialization } from '../faults.js';

const READ_BYTES = 64 * 1024;
/** V8 keeps shorter arrays on its heap, and moves them about. */
const OFF_HEAP_BYTES_MIN = 128;

/** What Node's accepted sockets have that its types leave out. */
interface AcceptedSocket extends Socket {
  _handle: object | null;
}

/**
 * Makes an HTTP server, and who else listens to its connections so far, use sockets that read into memory of our own.
 */
export function ownConnections(server: Server): void {
  const listeners = server.listeners('connection');
  server.removeAllListeners('connection');
  server.on('connection', (accepted: AcceptedSocket) => {
    const socket = adopt(accepted);
    for (const listener of listeners) listener.call(server, socket);
    // The last listener: the parser has copied what it needs. (That there is one keeps the parser from reading the
    // handle by itself.)
    socket.on('data', (piece: Buffer) => piece.fill(0));
  });
}

const ignored = new WeakSet<Socket>();

/**
 * From now on what the connection still sends is zeroed at once: a parser that nobody listens to any more would copy
 * it.
 */
export function ignoreRest(socket: Socket): void {
  ignored.add(socket);
}

/**
 * A socket that takes over the connection of `accepted`, which goes on counting as one of its server's connections
 * until it closes.
 */
function adopt(accepted: AcceptedSocket): Socket {
  const { _handle: handle } = accepted;
  accepted._handle = null;
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const pieces = new Set<Buffer>();
  const onread = {
    buffer,
    callback: (byteCount: number): boolean => {
      if (ignored.has(socket)) {
        buffer.fill(0, 0, byteCount);
        return true;
      }
      // A copy: the server may stop listening for a while, and the next read needs the buffer.
      const piece = Buffer.allocUnsafeSlow(Math.max(byteCount, OFF_HEAP_BYTES_MIN)).subarray(0, byteCount);
      buffer.copy(piece, 0, 0, byteCount);
      buffer.fill(0, 0, byteCount);
      pieces.add(piece);
      return socket.push(piece);
    },
  };
  // Node's own name for the option; without a handle the constructor makes a socket that is not connected, and no
  // request is served.
  const socket = new Socket({ handle, allowHalfOpen: true, onread } as ConstructorParameters<typeof Socket>[0]);
  socket.on('data', (piece: Buffer) => pieces.delete(piece));
  socket.once('close', () => {
    for (const piece of [buffer, ...pieces]) piece.fill(0);
    accepted.destroy();
  });
  return socket;
}

/** The body of a request, from its first byte on; made when the request comes, so that none of its pieces is missed. */
export class RequestBody {
  readonly #pieces: Buffer[] = [];
  readonly #request: IncomingMessage;
  #byteCount = 0;
  #isOver = false;

  constructor(request: IncomingMessage) {
    this.#request = request;
    request.on('data', (piece: Buffer) => {
      if (this.#isOver) piece.fill(0);
      else this.#pieces.push(piece);
      this.#byteCount += piece.length;
    });
    // Cut off: `whole` says so.
    request.on('error', () => {});
  }

  /**
   * All of the body in one piece, which `wipe` zeroes.
   * @returns undefined where it is longer than `byteCountMax`. @throws {KmsFault} where the connection closes before
   * its end
   */
  async whole(byteCountMax: number): Promise<Buffer | undefined> {
    const isTooLong = await new Promise<boolean>((resolve, reject) => {
      const look = (): void => {
        if (this.#byteCount > byteCountMax) resolve(true);
      };
      this.#request.on('data', look);
      this.#request.once('end', () => resolve(false));
      this.#request.once('close', () => reject(serialization('The connection closed in the middle of the request.')));
      look();
      if (this.#request.readableEnded) resolve(this.#byteCount > byteCountMax);
    });
    if (isTooLong) return undefined;
    const whole = Buffer.allocUnsafeSlow(Math.max(this.#byteCount, OFF_HEAP_BYTES_MIN)).subarray(0, this.#byteCount);
    let endByte = 0;
    for (const piece of this.#pieces) endByte += piece.copy(whole, endByte);
    this.#pieces.push(whole);
    return whole;
  }

  /** Zeroes what has come, and what still comes. */
  wipe(): void {
    this.#isOver = true;
    for (const piece of this.#pieces.splice(0)) piece.fill(0);
  }
}
