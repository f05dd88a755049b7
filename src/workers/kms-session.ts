/**
 * A KMS that stays open in one thread of the pool for as long as a request of several calls takes (WorkSpaces): the
 * embedded KMS is opened once, which takes 0.4 s with a passphrase and up to 30 s with a command, and never blocks the
 * main thread.
 *
 * A task (`serveKms`) starts the session and returns; orders then come through a message port, so that the thread stays
 * free for other tasks. Every order names its caller in its endpoint.
 */
import { MessageChannel, type MessagePort, type TransferListItem } from 'node:worker_threads';
import { VolsealError } from '../errors.js';
import type { KmsEndpoint } from '../kms/shared/endpoint.js';
import type { TaskResult } from './task-result.js';

/** What goes through the port to the thread: an order of the pool, or the end. */
export type SessionMessage<Order> = { readonly id: number; readonly order: Order } | 'close';
/** What comes back: the outcome of an order. */
export interface SessionReply {
  readonly id: number;
  readonly result: TaskResult<unknown>;
}

/** The main thread's end of a session. */
export class KmsSession {
  /** The thread's end of the port: it goes to the task that starts the session. */
  readonly threadPort: MessagePort;
  readonly #port: MessagePort;
  readonly #waiting = new Map<number, (result: TaskResult<unknown>) => void>();
  readonly #ended: Promise<void>;
  #nextId = 0;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.threadPort = port2;
    port1.on('message', ({ id, result }: SessionReply) => {
      this.#waiting.get(id)?.(result);
      this.#waiting.delete(id);
    });
    this.#ended = new Promise((resolve) => {
      port1.once('close', () => {
        const error = new VolsealError('ERR_KMS_UNREACHABLE', 'the worker thread that had the KMS open has ended; try again').toPlain();
        for (const answer of this.#waiting.values()) answer({ ok: false, error });
        this.#waiting.clear();
        resolve();
      });
    });
  }

  /** Has the session's thread do an order. @param transferList what moves to the thread with it */
  run(order: unknown, transferList: readonly TransferListItem[]): Promise<TaskResult<unknown>> {
    return new Promise((resolve) => {
      const id = this.#nextId++;
      this.#waiting.set(id, resolve);
      this.#port.postMessage({ id, order } satisfies SessionMessage<unknown>, transferList);
    });
  }

  /** Closes the KMS. Resolves once the thread has let go of it. */
  async close(): Promise<void> {
    this.#port.postMessage('close' satisfies SessionMessage<unknown>);
    await this.#ended;
  }

  /** For a session that no thread serves. */
  discard(): void {
    this.#port.close();
  }
}

/** Which KMS an endpoint leads to, whoever asks: what a session is found by. */
export function sessionKey(endpoint: KmsEndpoint): string {
  return JSON.stringify({ ...endpoint, principal: undefined, credentials: undefined, viaService: undefined, create: undefined });
}
