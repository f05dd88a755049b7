/** A running NBD server, as its owner sees it. The work is done by native/nbd. */
import type { EventEmitter } from 'node:events';
import type { VolsealError } from '../errors.js';
import type { DeviceHandle } from '../native.js';

/** What a server has done so far, and with whom. */
export interface NbdStats {
  /** Clients connected now, those that are still shaking hands included. */
  readonly connections: number;
  /** Clients that ever connected. */
  readonly connectionsTotal: number;
  /** Clients that were turned away: too many at once, or a handshake that failed. */
  readonly connectionsRefused: number;
  /** Requests that were answered, errors included. */
  readonly requests: number;
  /** Requests that were answered with an error. */
  readonly errors: number;
  /** Bytes of plaintext that clients have read. */
  readonly bytesRead: number;
  /** Bytes of plaintext that clients have written; zeroed and trimmed ranges do not count. */
  readonly bytesWritten: number;
  /** How long requests took, by kind. */
  readonly latencies: Readonly<Record<NbdRequestKind, NbdLatencies>>;
}

/** What clients ask for. */
export type NbdRequestKind = 'read' | 'write' | 'flush' | 'trim' | 'cache' | 'writeZeroes' | 'blockStatus';

/** How long the requests of one kind took, from a request's arrival until its reply is ready to be sent. */
export interface NbdLatencies {
  /** How many: element i those of up to 2^i microseconds that no earlier one has, the last (of 25) all longer ones. */
  readonly counts: readonly number[];
  /** Seconds of all of them together. */
  readonly seconds: number;
}

/** A client, in events. */
export interface NbdClient {
  /** Counts the clients of this server from 1 on. */
  readonly id: number;
  /** The export that it uses. */
  readonly exportName: string;
  /** The name or identity by which TLS knows it; empty without one. */
  readonly identity: string;
}

/** The events of a server, with what each one carries. */
export interface NbdServerEvents {
  /** A client has chosen an export and may send requests. */
  connect: [client: NbdClient];
  /** Such a client is gone; `error` says why, where it did not simply leave. */
  disconnect: [client: NbdClient, error: VolsealError | undefined];
  /**
   * Something failed that is not one client's: reading or writing the volume, accepting. Without a listener nothing
   * happens.
   */
  error: [error: VolsealError];
  /** The server has ended: `close` was called, or the client of `stdio` has gone. */
  close: [];
}

/** A running server. Its volumes stay attached until their owner detaches them; that ends their clients. */
export interface NbdServer extends EventEmitter<NbdServerEvents>, AsyncDisposable {
  /**
   * Where clients find it: `nbd+unix:///NAME?socket=PATH`, `nbd://host:port/NAME`, `nbds://...` with TLS. Of the first
   * export.
   */
  readonly uri: string;
  /** The URI of another export. */
  uriOf(exportName: string): string;
  /** What it has done so far. */
  stats(): NbdStats;
  /**
   * Ends the server: no new clients; requests under way are answered; after that, or after `drainMs` (default 5000),
   * the clients are cut off; each volume is flushed and the socket removed. Calling it again gives the same outcome.
   *
   * @throws {VolsealError} `ERR_IO` a last flush failed; the server has ended all the same
   */
  close(options?: { readonly drainMs?: number | undefined }): Promise<void>;
}

/** Key under which a volume has what servers need of it. */
export const servedDevice: unique symbol = Symbol('volseal.servedDevice');

/** A server, as a volume that it serves sees it. */
export interface DeviceUser {
  /** The volume is being detached: no client uses it any more once this comes back. */
  drop(device: DeviceHandle): Promise<void>;
}

/** What a volume lends to servers. */
export interface DeviceLender {
  /**
   * The volume's open device, and what clients are told of it. @throws {VolsealError} `ERR_STATE_DETACHED`
   */
  lend(): { readonly device: DeviceHandle; readonly description: string };
  /** Says who uses the device: `drop` is called when the volume is detached. Call what it returns once the use ends. */
  use(user: DeviceUser): () => void;
  /**
   * Flushes what clients have written, unless the volume is detached or read-only. @throws {VolsealError} as
   * `Volume.flush`
   */
  settle(): Promise<void>;
}

/** A volume that can be served: `Volume` is one. */
export interface ServableVolume {
  /** For servers. */
  readonly [servedDevice]: DeviceLender;
}
