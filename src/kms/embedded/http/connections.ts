/**
 * The connections of the HTTP server: how many there may be, and which one gives way.
 *
 * A client without credentials can open connections and send nothing. When all places are taken, a new connection
 * therefore replaces the oldest one that has not completed a signed request, so that such a client cannot shut the
 * others out.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

interface Connection {
  /** Whether a signed request came over it. */
  trusted: boolean;
  /** Requests whose reply is being made or sent. */
  replies: number;
  readonly closed: Promise<void>;
}

export class Connections {
  /** In the order in which they were opened. */
  readonly #open = new Map<Socket, Connection>();
  readonly #max: number;
  #closing = false;

  /** Watches the connections of `server`; at most `max` are open. */
  constructor(server: Server, max: number) {
    this.#max = max;
    server.on('connection', (socket: Socket) => this.#add(socket));
  }

  #add(socket: Socket): void {
    const closed = new Promise<void>((resolve) => {
      socket.once('close', () => {
        this.#open.delete(socket);
        resolve();
      });
    });
    this.#open.set(socket, { trusted: false, replies: 0, closed });
    if (this.#open.size > this.#max) (this.#oldest(false) ?? this.#oldest(true) ?? socket).destroy();
  }

  /** The oldest connection that waits for a request. */
  #oldest(trusted: boolean): Socket | undefined {
    for (const [socket, connection] of this.#open) {
      if (connection.replies === 0 && connection.trusted === trusted && !socket.destroyed) return socket;
    }
    return undefined;
  }

  /** Marks a connection over which a signed request came. */
  trust(socket: Socket): void {
    const connection = this.#open.get(socket);
    if (connection !== undefined) connection.trusted = true;
  }

  /** Fulfilled when a connection has closed: one promise for all who wait. */
  closeOf(socket: Socket): Promise<void> {
    return this.#open.get(socket)?.closed ?? Promise.resolve();
  }

  /** Runs `reply` and protects its connection until it has ended. */
  async during(socket: Socket, reply: () => Promise<void>): Promise<void> {
    const connection = this.#open.get(socket) ?? { trusted: false, replies: 0, closed: Promise.resolve() };
    connection.replies++;
    try {
      await reply();
    } finally {
      connection.replies--;
      if (this.#closing && connection.replies === 0) socket.destroySoon();
    }
  }

  /**
   * Closes the connections: those that wait for a request at once, those with a reply under way when it is sent, and
   * the rest after `graceMs`, since a client may never read its reply.
   */
  close(graceMs: number): void {
    this.#closing = true;
    for (const [socket, { replies }] of this.#open) if (replies === 0) socket.destroy();
    setTimeout(() => {
      for (const socket of this.#open.keys()) socket.destroy();
    }, graceMs).unref();
  }
}
