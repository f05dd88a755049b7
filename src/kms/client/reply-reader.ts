/**
 * Reads a connection to KMS into memory of our own, and takes the keys out of the replies.
 *
 * Node reads a socket into arrays that it copies and frees without wiping, each version in its own way. The option
 * `onread` of a socket (and of a TLS socket) makes it read into a buffer that we own. A reply is collected there,
 * headers and body. When it is whole, the addon takes the key into the vault and the buffer is zeroed; then Node's HTTP
 * client gets the reply with "AAAA..." for the key. Whatever else happens to the connection, the buffer is zeroed when
 * it closes.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Agent, ClientRequest } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { VolsealError } from '../../errors.js';
import { type KeyHandle, native } from '../../native.js';
import { REPLY_MEMORY_BYTES, type Reply, ReplyParser, replyError } from './reply-parser.js';

/** A call that waits for its reply. */
export interface WaitingCall {
  /** Whether its reply carries a key. */
  readonly expectsKey: boolean;
  /** Takes ownership of the key, before the reply is handed on. */
  deliver(key: KeyHandle): void;
}

/** The call on whose behalf Node's HTTP client asks an agent for a connection. */
const asking = new AsyncLocalStorage<WaitingCall>();

/** Runs `work`, which makes one request through an agent of `withReaders`; its reply belongs to `call`. */
export const askFor = <Result>(call: WaitingCall, work: () => Promise<Result>): Promise<Result> => asking.run(call, work);

/** Makes every connection of `agent` read its replies with a `ReplyReader`. */
export function withReaders<SomeAgent extends Agent>(agent: SomeAgent): SomeAgent {
  const readers = new WeakMap<Duplex, ReplyReader>();
  const parts = agent as unknown as {
    createConnection(options: object): Socket;
    reuseSocket(socket: Duplex, request: ClientRequest): void;
  };
  const { createConnection, reuseSocket } = parts;
  parts.createConnection = (options) => {
    const reader = new ReplyReader();
    const socket = createConnection.call(agent, { ...options, onread: reader.onread });
    readers.set(socket, reader);
    // Node copies several chunks into one for TLS, and never wipes that: a request may carry a key (key-request.ts).
    Object.assign(socket, { _writev: null });
    reader.follow(socket);
    reader.expectFor(asking.getStore());
    return socket;
  };
  parts.reuseSocket = (socket, request) => {
    readers.get(socket)?.expectFor(asking.getStore());
    reuseSocket.call(agent, socket, request);
  };
  return agent;
}

/** What a reader needs of its socket. */
export type ReadSocket = Pick<Socket, 'once' | 'push' | 'destroy' | 'destroySoon'>;

/** The replies of one connection, one after the other. */
export class ReplyReader {
  // Longer than 64 bytes and of its own: V8 moves shorter arrays about, and shares pooled ones. Zeros, not what the
  // heap held before.
  readonly #memory = Buffer.alloc(REPLY_MEMORY_BYTES);
  #usedBytes = 0;
  #parser = new ReplyParser(this.#memory);
  #call: WaitingCall | undefined;
  #socket: ReadSocket | undefined;

  /** The option of `net.connect` and `tls.connect`. */
  readonly onread = {
    buffer: (): Uint8Array => this.#memory.subarray(this.#usedBytes),
    callback: (byteCount: number): boolean => {
      this.#usedBytes += byteCount;
      try {
        this.#take();
      } catch (error) {
        this.#wipe();
        this.#socket!.destroy(error as Error);
      }
      return true;
    },
  };

  /** The socket that was made with `onread`. */
  follow(socket: ReadSocket): void {
    this.#socket = socket;
    // After `destroy` Node may still have put bytes here without telling us.
    socket.once('close', () => this.#memory.fill(0));
  }

  /** A request is about to be sent, whose reply belongs to `call`. */
  expectFor(call: WaitingCall | undefined): void {
    this.#call = call;
  }

  #take(): void {
    const call = this.#call;
    // Kept, it would be taken for the reply to the next request.
    if (call === undefined) throw replyError('no request asked for it');
    const reply = this.#parser.parse(this.#usedBytes);
    if (reply === undefined) return;
    const isUsable = reply.body !== undefined;
    if (isUsable && reply.endByte !== this.#usedBytes) throw replyError('more follows behind its end');
    const body = takeKey(reply, call);
    const head = `HTTP/1.1 ${reply.status} \r\n${reply.headers}content-length: ${body.length}\r\n${isUsable ? '' : 'connection: close\r\n'}\r\n`;
    this.#wipe();
    this.#call = undefined;
    this.#socket!.push(Buffer.concat([Buffer.from(head, 'latin1'), body]));
    if (!isUsable) this.#socket!.destroySoon();
  }

  #wipe(): void {
    this.#memory.fill(0, 0, this.#usedBytes);
    this.#usedBytes = 0;
    this.#parser = new ReplyParser(this.#memory);
  }
}

/** Moves the key of a reply to its call. @returns the body that JavaScript may see */
function takeKey({ status, body }: Reply, call: WaitingCall): Buffer {
  if (body === undefined) return Buffer.alloc(0);
  const isError = status >= 300;
  try {
    // Other replies may rightly have an encryption context with a member of that name.
    const imported = native.keyImportJson([body], 'Plaintext', isError || call.expectsKey);
    if (imported.key !== undefined) {
      if (call.expectsKey && !isError) call.deliver(imported.key);
      else native.keyWipe(imported.key);
    }
    return imported.body;
  } catch (error) {
    if (!(error instanceof VolsealError) || error.code !== 'ERR_ARGUMENT') throw error;
    // What is not JSON of KMS says nothing that its status does not say.
    if (isError) return Buffer.alloc(0);
    // No cause: nothing of the reply may travel with the error.
    throw replyError(error.message);
  }
}
