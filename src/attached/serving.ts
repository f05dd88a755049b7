/**
 * An attached volume that is served: the volume, its NBD server, its record, and what else was asked for. They end
 * together.
 */
import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { VolsealError, withPath } from '../errors.js';
import { attach } from '../in-place/attach.js';
import { DETACH_DRAIN_MS } from '../limits.js';
import { serveVolumes } from '../nbd/serve.js';
import type { NbdServer } from '../nbd/server.js';
import { isStored } from '../stores/location.js';
import type { Volume } from '../volume/volume.js';
import { attachWorkspaceVolume } from '../workspaces/lifecycle.js';
import { liveAttachments } from './attachments.js';
import { answerRequests } from './control.js';
import type { ServeOrder } from './order.js';
import type { AttachmentRecord } from './record.js';
import { takeSlot } from './slots.js';
import type { SystemClient } from './system-client.js';
import { type Undo, undoAll } from './undo.js';

/** A volume that this process serves. */
export interface Serving {
  readonly record: AttachmentRecord;
  /** Resolves once the volume is detached, by whatever way, and everybody who asked for that has an answer. */
  readonly ended: Promise<void>;
  /**
   * Detaches: ends the clients of the system, then the others within 5 s; flushes, wipes the key, removes the record.
   * Calling it again gives the same outcome.
   * @throws {VolsealError} what the last flush threw; the volume is detached all the same
   */
  end(): Promise<void>;
}

/**
 * Attaches the volume of `order`, serves it, and writes its record.
 * @param signal ends the call with `ERR_ABORTED`
 * @throws {VolsealError} as `attach`, `serveVolumes`, `takeSlot`, and of what else was ordered; nothing is left
 * attached
 */
export async function startServing(order: ServeOrder, signal: AbortSignal): Promise<Serving> {
  await checkClients(order);
  // What a killed process has left (its socket, its mount) may be in the way of this one.
  await liveAttachments(order.directory);
  const { volume, path } = await attachOrdered(order, signal);
  const undo: Undo[] = [() => volume.detach()];
  try {
    return await serve(volume, path, order, signal, undo);
  } catch (error) {
    await undoAll(undo).catch(() => {});
    throw error;
  }
}

async function serve(volume: Volume, path: string, order: ServeOrder, signal: AbortSignal, undo: Undo[]): Promise<Serving> {
  const slot = await takeSlot(order.directory, volume.volumeId);
  // After the volume is detached: until then its record says where it is.
  undo.unshift(() => slot.release());
  const socket = order.socket === undefined ? slot.socketPath : resolve(order.socket);
  const server = await serveVolumes([{ name: '', volume }], { socket, readOnly: order.readOnly }).catch((error: unknown) => {
    throw withPath(error, socket);
  });
  undo.push(() => server.close({ drainMs: DETACH_DRAIN_MS }));
  const clients = await startClients(order, { socket, path, server, signal, undo });
  const record = (): AttachmentRecord => ({
    version: 1,
    volumeId: volume.volumeId,
    path,
    uri: server.uri,
    socket,
    pid: process.pid,
    sizeBytes: volume.sizeBytes,
    readOnly: order.readOnly,
    since,
    device: clients.find(({ client }) => !client.hasEnded && client.kind === 'device')?.client.path ?? null,
    mountedFile: clients.find(({ client }) => !client.hasEnded && client.kind === 'mount')?.client.path ?? null,
    metrics,
  });
  const since = new Date().toISOString();
  const metrics = order.metrics === undefined ? null : await startMetrics(order.metrics, { volume, path, server, undo });

  let ending: Promise<void> | undefined;
  const end = (): Promise<void> => {
    ending ??= undoAll(undo);
    return ending;
  };
  const control = await answerRequests(slot.controlPath, {
    status() {
      const { connections, requests, errors, bytesRead, bytesWritten } = server.stats();
      return { clients: connections, requests, errors, readBytes: bytesRead, writtenBytes: bytesWritten };
    },
    async detach(force) {
      if (!force && ending === undefined) await endIdleClients(server, clients, path);
      await end();
    },
  });
  undo.push(() => control.stop());
  slot.publish(record());
  for (const { client } of clients) void client.ended.then(() => ending ?? slot.publish(record())).catch(() => {});
  if (signal.aborted)
    throw new VolsealError('ERR_ABORTED', `${path}: stopped on request; the volume is not attached`, { details: { path } });

  const stopped = new Promise<void>((resolve) => undo.unshift(resolve));
  server.once('close', () => void end().catch(() => {}));
  return { record: record(), end, ended: stopped.then(() => control.answered()) };
}

/** A client that this process has started. */
interface OwnClient {
  readonly client: SystemClient;
  /** Its connections to the server. */
  readonly connections: number;
}

/** @throws {VolsealError} `ERR_STATE_BUSY`: clients are connected, or somebody uses the device or the mounted file */
async function endIdleClients(server: NbdServer, clients: readonly OwnClient[], path: string): Promise<void> {
  const own = clients.filter(({ client }) => !client.hasEnded);
  const others = server.stats().connections - own.reduce((sum, { connections }) => sum + connections, 0);
  if (others > 0) {
    throw new VolsealError('ERR_STATE_BUSY', `${path}: ${others === 1 ? 'a client is' : `${others} clients are`} connected`, {
      details: { path, clients: others },
    });
  }
  for (const { client } of own) await client.end(false);
}

interface Surroundings {
  readonly path: string;
  readonly server: NbdServer;
  readonly undo: Undo[];
}

/** What can be known before KMS is asked. @throws {VolsealError} `ERR_REQUIREMENT`, `ERR_ARGUMENT`, `ERR_IO` */
async function checkClients({ device, mount }: ServeOrder): Promise<void> {
  if (device !== undefined) (await import('./kernel-device.js')).checkDevice();
  if (mount !== undefined) (await import('./mount.js')).checkMount(mount);
}

async function startClients(
  { device, mount, readOnly }: ServeOrder,
  { socket, path, server, signal, undo }: Surroundings & { socket: string; signal: AbortSignal },
): Promise<OwnClient[]> {
  const clients: OwnClient[] = [];
  const add = (client: SystemClient): void => {
    const before = clients.reduce((sum, { connections }) => sum + connections, 0);
    clients.push({ client, connections: server.stats().connections - before });
    undo.push(() => client.end(true));
  };
  if (device !== undefined) {
    const { attachDevice } = await import('./kernel-device.js');
    add(await attachDevice(device, { socket, readOnly, signal }));
  }
  if (mount !== undefined) {
    const { mountVolume } = await import('./mount.js');
    add(await mountVolume(mount, { uri: server.uri, path, signal }));
  }
  return clients;
}

async function startMetrics(
  address: NonNullable<ServeOrder['metrics']>,
  { volume, path, server, undo }: Surroundings & { volume: Volume },
): Promise<string> {
  const { serveMetrics } = await import('./metrics.js');
  const metrics = await serveMetrics(address, [{ server, volumes: [{ volumeId: volume.volumeId, path }] }]);
  undo.push(() => metrics.close());
  return metrics.url;
}

async function attachOrdered({ volume, readOnly }: ServeOrder, signal: AbortSignal): Promise<{ volume: Volume; path: string }> {
  if (volume.kind === 'workspace') return attachWorkspaceVolume(volume.workspaceId, volume.which, { readOnly, signal });
  const attached = await attach(volume.path, { ...volume.options, readOnly, signal });
  return { volume: attached, path: isStored(volume.path) ? volume.path : realpathSync(volume.path) };
}
