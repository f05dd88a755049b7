/** A small NBD client whose every byte a test can choose: handshake, and requests with simple replies. */
import { once } from 'node:events';
import { connect, type NetConnectOpts, type Socket } from 'node:net';

const OPTION_MAGIC = Buffer.from('IHAVEOPT', 'latin1');

/** A number of so many bytes, big-endian. */
export const big = (value: number | bigint, byteLength: number): Buffer =>
  Buffer.from(
    BigInt(value)
      .toString(16)
      .padStart(byteLength * 2, '0'),
    'hex',
  );

export const OPTION = { exportName: 1, abort: 2, list: 3, startTls: 5, info: 6, go: 7, structuredReply: 8 } as const;
export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, cache: 5, writeZeroes: 6, blockStatus: 7 } as const;

export const optionBytes = (option: number, data: Buffer = Buffer.alloc(0)): Buffer =>
  Buffer.concat([OPTION_MAGIC, big(option, 4), big(data.length, 4), data]);

/** The data of the options info and go. */
export const infoData = (name: string): Buffer => Buffer.concat([big(Buffer.byteLength(name), 4), Buffer.from(name), big(0, 2)]);

export interface RequestFields {
  readonly command: number;
  readonly cookie?: number;
  readonly offset?: number;
  readonly length?: number;
  readonly flags?: number;
}

export const requestBytes = ({ command, cookie = 1, offset = 0, length = 0, flags = 0 }: RequestFields): Buffer =>
  Buffer.concat([big(0x25609513, 4), big(flags, 2), big(command, 2), big(cookie, 8), big(offset, 8), big(length, 4)]);

interface Pending {
  readonly payloadBytes: number;
  readonly resolve: (reply: { error: number; payload: Buffer }) => void;
  readonly reject: (error: Error) => void;
}

/** A connected client. Destroyed by the test that made it, or with its process. */
export class NbdTestClient {
  readonly socket: Socket;
  #input = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  readonly #pending = new Map<number, Pending>();
  #cookie = 0;
  #closed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (data: Buffer) => {
      this.#input = Buffer.concat([this.#input, data]);
      this.#wake?.();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#closed = true;
      this.#wake?.();
    });
  }

  /** Connected, with the greeting taken and the client's flags sent. */
  static async connect(where: string | { host: string; port: number }, clientFlags = 3): Promise<NbdTestClient> {
    const socket = connect(typeof where === 'string' ? { path: where } : (where as NetConnectOpts));
    await once(socket, 'connect');
    return await NbdTestClient.over(socket, clientFlags);
  }

  /** The same over a connected socket. */
  static async over(socket: Socket, clientFlags = 3): Promise<NbdTestClient> {
    const client = new NbdTestClient(socket);
    await client.take(18);
    client.send(big(clientFlags, 4));
    return client;
  }

  send(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Comes back once the server has closed the connection. */
  async ended(): Promise<void> {
    if (!this.#closed) await once(this.socket, 'close');
  }

  /** The next bytes of the server. @throws {Error} where it closed before that */
  async take(byteLength: number): Promise<Buffer> {
    while (this.#input.length < byteLength) {
      if (this.#closed) throw new Error('the server has closed the connection');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const bytes = this.#input.subarray(0, byteLength);
    this.#input = this.#input.subarray(byteLength);
    return bytes;
  }

  /** The next reply to an option. */
  async optionReply(): Promise<{ type: number; data: Buffer }> {
    const header = await this.take(20);
    return { type: header.readUInt32BE(12), data: await this.take(header.readUInt32BE(16)) };
  }

  /**
   * Chooses an export; requests may follow. @throws {Error} with the reply's number in hexadecimal where it is refused
   */
  async go(name: string): Promise<void> {
    this.send(optionBytes(OPTION.go, infoData(name)));
    for (;;) {
      const { type } = await this.optionReply();
      if (type === 1) break;
      if (type >= 0x80000000) throw new Error(`go was refused: 0x${type.toString(16)}`);
    }
    void this.#receive();
  }

  /** Sends a request; its reply's error and payload. @throws {Error} where the connection ends before that */
  request(fields: RequestFields, payload: Buffer = Buffer.alloc(0)): Promise<{ error: number; payload: Buffer }> {
    this.#cookie += 1;
    const cookie = this.#cookie;
    return new Promise((resolve, reject) => {
      this.#pending.set(cookie, { payloadBytes: fields.command === COMMAND.read ? fields.length! : 0, resolve, reject });
      this.send(Buffer.concat([requestBytes({ ...fields, cookie }), payload]));
    });
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const { error, payload } = await this.request({ command: COMMAND.read, offset, length });
    if (error !== 0) throw new Error(`the read failed: ${error}`);
    return payload;
  }

  /** @returns the reply's error, 0 for none */
  async write(offset: number, bytes: Buffer, flags = 0): Promise<number> {
    return (await this.request({ command: COMMAND.write, offset, length: bytes.length, flags }, bytes)).error;
  }

  async #receive(): Promise<void> {
    try {
      for (;;) {
        const header = await this.take(16);
        const cookie = Number(header.readBigUInt64BE(8));
        const pending = this.#pending.get(cookie)!;
        this.#pending.delete(cookie);
        const error = header.readUInt32BE(4);
        const payload = error === 0 ? await this.take(pending.payloadBytes) : Buffer.alloc(0);
        pending.resolve({ error, payload: Buffer.from(payload) });
      }
    } catch (error) {
      for (const { reject } of this.#pending.values()) reject(error as Error);
      this.#pending.clear();
    }
  }
}
