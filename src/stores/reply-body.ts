/**
 * Bodies of replies, read straight into the memory that they are for.
 *
 * Node's HTTP client gets a body over TLS in pieces of 16 KiB; it copies each twice and hands it through two streams,
 * which costs more than to decrypt it. The option `onread` of a socket (and of a TLS socket) makes Node read into a
 * buffer that we own, and asks for the next one after each read. Where a reply has the length that was asked for, that
 * is the rest of its buffer; once it is whole, Node's client gets the reply's head with a length of 0. Requests,
 * heads, errors, time-outs and the reuse of connections stay Node's; a connection that breaks off has, for it, not
 * replied.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Agent, ClientRequest } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { NodeHttpHandler } from '@smithy/node-http-handler';
import { STORE_READ_BYTES, STORE_REPLY_HEAD_BYTES_MAX } from '../limits.js';
import { fillFrom } from './sdk-errors.js';

/** Where the body of the reply to one request goes. */
export class BodyBuffer {
  readonly bytes: Uint8Array;
  filledBytes = 0;

  /** @param bytes their length is the one that the body must have */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get isFull(): boolean {
    return this.filledBytes === this.bytes.length;
  }

  /** @returns what is not filled yet */
  rest(): Uint8Array {
    return this.bytes.subarray(this.filledBytes);
  }

  /** @param body of the reply, as the SDK has it @throws {Error} `IncompleteBody`, as `fillFrom` */
  async fill(body: Readable): Promise<void> {
    // Read to its end, which is here, so that the connection can be used again.
    if (this.isFull) body.resume();
    else await fillFrom(body, this.bytes);
  }
}

/** The options of the SDK's `send`, which it passes to the request handler unchanged. */
export interface BodyOptions extends NonNullable<Parameters<NodeHttpHandler['handle']>[1]> {
  readonly into?: BodyBuffer;
}

/** The buffer of the request that Node's HTTP client is asked to make. */
const asking = new AsyncLocalStorage<BodyBuffer | undefined>();

/** Runs `work`, which makes one request through an agent of `withBodyBuffers`; the reply's body goes into `body`. */
export const askInto = <Result>(body: BodyBuffer | undefined, work: () => Promise<Result>): Promise<Result> => asking.run(body, work);

/** Has the connections of `agent` read bodies into their buffers. */
export function withBodyBuffers<SomeAgent extends Agent>(agent: SomeAgent): SomeAgent {
  const readers = new WeakMap<object, BodyReader>();
  const parts = agent as unknown as {
    createConnection(options: object): Socket;
    addRequest(request: ClientRequest, ...rest: unknown[]): void;
  };
  const { createConnection, addRequest } = parts;
  parts.createConnection = (options) => {
    const reader = new BodyReader();
    const socket = createConnection.call(agent, { ...options, onread: reader.onread });
    reader.follow(socket);
    readers.set(socket, reader);
    return socket;
  };
  parts.addRequest = (request, ...rest) => {
    const body = asking.getStore();
    // Before the request is sent. It may have waited for a connection until then.
    request.once('socket', (socket) => {
      const reader = readers.get(socket);
      reader?.expect(body);
      request.once('close', () => reader?.forget(body));
    });
    addRequest.call(agent, request, ...rest);
  };
  return agent;
}

/** What a reader needs of its socket. */
export type ReadSocket = Pick<Socket, 'push' | 'destroy' | 'destroyed'>;

const NOTHING = Buffer.alloc(0);

/** The replies of one connection, one after the other. */
export class BodyReader {
  readonly #memory = Buffer.allocUnsafeSlow(STORE_READ_BYTES);
  #socket: ReadSocket | undefined;
  /** Undefined: what comes is for Node's HTTP client. */
  #target: BodyBuffer | undefined;
  /** As far as it has come. */
  #head: Buffer = NOTHING;
  #isInBody = false;

  /** The option of `net.connect` and `tls.connect`. */
  readonly onread = {
    /** @returns where the next bytes go: never more than are missing of a body, so that what follows is apart */
    buffer: (): Uint8Array => (this.#target !== undefined && this.#isInBody ? this.#target.rest() : this.#memory),
    /** @returns whether to go on reading */
    callback: (byteCount: number, read: Uint8Array): boolean => {
      if (this.#socket === undefined || this.#socket.destroyed) return false;
      if (read === this.#memory) return this.#take(this.#memory.subarray(0, byteCount));
      return this.#target === undefined || this.#added(this.#target, byteCount);
    },
  };

  /** The socket that was made with `onread`. */
  follow(socket: ReadSocket): void {
    this.#socket = socket;
  }

  /** A request is about to be sent. */
  expect(body: BodyBuffer | undefined): void {
    this.#target = body;
    this.#head = NOTHING;
    this.#isInBody = false;
  }

  /** The request that `body` belongs to is over. */
  forget(body: BodyBuffer | undefined): void {
    if (this.#target !== body) return;
    // Node has the memory of an unfinished body for the next read: there must be none.
    if (this.#target !== undefined && this.#isInBody) this.#socket?.destroy();
    this.#target = undefined;
  }

  #take(bytes: Buffer): boolean {
    if (this.#target === undefined) return this.#passOn(bytes);
    this.#head = Buffer.concat([this.#head, bytes]);
    const end = this.#head.indexOf('\r\n\r\n');
    if (end === -1 && this.#head.length <= STORE_REPLY_HEAD_BYTES_MAX) return true;
    const all = this.#head;
    if (end === -1 || bodyBytesOf(all.toString('latin1', 0, end + 2)) !== this.#target.bytes.length) return this.#passOn(all);
    this.#head = all.subarray(0, end + 4);
    return this.#begin(this.#target, all.subarray(end + 4));
  }

  /** What has come with the head. */
  #begin(body: BodyBuffer, bytes: Buffer): boolean {
    this.#isInBody = true;
    const missing = bytes.subarray(0, body.bytes.length);
    body.bytes.set(missing);
    return this.#added(body, missing.length, bytes.subarray(missing.length));
  }

  /** @param following what has come behind the body: no reply to anything, so Node's client ends the connection */
  #added(body: BodyBuffer, byteCount: number, following: Buffer = NOTHING): boolean {
    body.filledBytes += byteCount;
    if (!body.isFull) return true;
    const head = this.#head.toString('latin1').replace(LENGTH, (_line, name: string) => `${name}0`);
    return this.#passOn(Buffer.concat([Buffer.from(head, 'latin1'), following]));
  }

  #passOn(bytes: Buffer): boolean {
    this.#target = undefined;
    this.#head = NOTHING;
    // A copy: the memory is read into again.
    return this.#socket!.push(Buffer.from(bytes));
  }
}

const LENGTH = /^(content-length:[ \t]*)(\d+)(?=[ \t]*\r$)/im;

/**
 * How long the body behind `head` is. Undefined: it has none, or says it in a way that is left to Node's HTTP client.
 */
function bodyBytesOf(head: string): number | undefined {
  if (!/^HTTP\/1\.1 20[06] /.test(head) || /^(transfer-encoding|[ \t])/im.test(head)) return undefined;
  const [one, ...more] = head.match(/^content-length.*$/gim) ?? [];
  if (one === undefined || more.length > 0) return undefined;
  const digits = LENGTH.exec(head)?.[2];
  return digits === undefined ? undefined : Number(digits);
}
