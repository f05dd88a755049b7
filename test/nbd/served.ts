/** A new volume, attached and served on a unix socket, for the tests of a client. */
import { onTestFinished } from 'vitest';
import { attach, createVolume, type NbdServeOptions, type NbdServer, type Volume } from '../../src/index.js';
import type { SectorBytes } from '../../src/limits.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

export interface Served {
  readonly box: Sandbox;
  readonly volume: Volume;
  readonly server: NbdServer;
  readonly uri: string;
}

export interface ServedVolumeOptions {
  readonly sizeBytes?: number;
  readonly allocation?: 'full' | 'sparse';
  readonly sectorBytes?: SectorBytes;
  readonly readOnly?: boolean;
  readonly serve?: Partial<NbdServeOptions>;
}

/** Detached and removed when the test ends. */
export async function serveNewVolume({
  sizeBytes = 16 * 1024 * 1024,
  allocation = 'full',
  sectorBytes = 512,
  readOnly = false,
  serve = {},
}: ServedVolumeOptions = {}): Promise<Served> {
  const box = sandbox();
  const path = box.path('disk.vol');
  await createVolume(path, { sizeBytes, kms: box.kms, allocation, sectorBytes });
  const volume = await attach(path, { kms: box.kms, readOnly });
  onTestFinished(() => volume.detach());
  const endpoint = serve.listen === undefined ? { socket: box.path('nbd.sock') } : {};
  const server = await volume.serve({ ...endpoint, ...serve });
  onTestFinished(() => server.close({ drainMs: 1000 }));
  return { box, volume, server, uri: server.uri };
}
