/** A server of native/nbd with the interface of `NbdServer`. */
import { EventEmitter } from 'node:events';
import { asVolsealError, isError, VolsealError } from '../errors.js';
import { NBD_DRAIN_MS, NBD_DRAIN_MS_MAX } from '../limits.js';
import { type DeviceHandle, type NbdEvent, type NbdServerHandle, native, nativeError } from '../native.js';
import type { NbdClient, NbdServer, NbdServerEvents, NbdStats } from './server.js';

/** What a running server needs to know. */
export interface RunningServerPlan {
  /** Starts the native server with this listener of events. */
  readonly start: (listener: (event: NbdEvent) => void) => { server: NbdServerHandle; port: number };
  /** The URI of an export. */
  readonly uriOf: (exportName: string, port: number) => string;
  /** The export of which `uri` is. */
  readonly firstName: string;
  /** Makes durable what clients have written, once they are gone. */
  readonly flush: () => Promise<void>;
}

/** A server from its start to its end. */
export class RunningNbdServer extends EventEmitter<NbdServerEvents> implements NbdServer {
  readonly #plan: RunningServerPlan;
  readonly #handle: NbdServerHandle;
  readonly #port: number;
  readonly #ended: Promise<void>;
  #endedCalled!: () => void;
  #lastStats: NbdStats | undefined;
  #closing: Promise<void> | undefined;

  /** @throws {VolsealError} what `plan.start` throws */
  constructor(plan: RunningServerPlan) {
    super();
    this.#plan = plan;
    this.#ended = new Promise((resolve) => {
      this.#endedCalled = resolve;
    });
    const { server, port } = plan.start((event) => this.#receive(event));
    this.#handle = server;
    this.#port = port;
  }

  get uri(): string {
    return this.uriOf(this.#plan.firstName);
  }

  uriOf(exportName: string): string {
    return this.#plan.uriOf(exportName, this.#port);
  }

  stats(): NbdStats {
    return this.#lastStats ?? native.nbdStats(this.#handle);
  }

  close({ drainMs = NBD_DRAIN_MS }: { readonly drainMs?: number | undefined } = {}): Promise<void> {
    this.#closing ??= this.#close(drainMs);
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async drop(device: DeviceHandle): Promise<void> {
    if (this.#lastStats !== undefined) return;
    const clients = new Set(native.nbdDrop(this.#handle, device, false));
    if (clients.size === 0) return;
    let isGone = (): void => {};
    const gone = new Promise<void>((resolve) => {
      isGone = resolve;
    });
    const onDisconnect = ({ id }: NbdClient): void => {
      if (clients.delete(id) && clients.size === 0) isGone();
    };
    this.on('disconnect', onDisconnect);
    const late = setTimeout(() => {
      if (this.#lastStats === undefined) native.nbdDrop(this.#handle, device, true);
    }, NBD_DRAIN_MS);
    await Promise.race([gone, this.#ended]);
    this.off('disconnect', onDisconnect);
    clearTimeout(late);
  }

  async #close(drainMs: number): Promise<void> {
    if (!Number.isInteger(drainMs) || drainMs < 0 || drainMs > NBD_DRAIN_MS_MAX) {
      this.#closing = undefined;
      throw new VolsealError('ERR_ARGUMENT', `drainMs is not a whole number from 0 to ${NBD_DRAIN_MS_MAX}: ${drainMs}`);
    }
    if (this.#lastStats === undefined) native.nbdStop(this.#handle, drainMs);
    await this.#ended;
    await this.#plan.flush();
  }

  #receive({ kind, client, exportName, identity, error }: NbdEvent): void {
    const its: NbdClient = { id: client, exportName, identity };
    const failure = error === undefined ? undefined : (asVolsealError(nativeError(error)) as VolsealError);
    if (kind === 'connect') this.emit('connect', its);
    else if (kind === 'disconnect') this.emit('disconnect', its, failure);
    else if (kind === 'error') this.#report(failure);
    else this.#end();
  }

  #report(failure: VolsealError | undefined): void {
    // An event `error` that nobody listens to would end the process.
    if (isError(failure) && this.listenerCount('error') > 0) this.emit('error', failure);
  }

  #end(): void {
    this.#lastStats = native.nbdStats(this.#handle);
    native.nbdRelease(this.#handle);
    this.#endedCalled();
    this.emit('close');
  }
}
