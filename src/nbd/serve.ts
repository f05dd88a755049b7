/** Serving attached volumes to NBD clients. */
import { VolsealError } from '../errors.js';
import type { NbdServeOptions } from './options.js';
import type { NbdServer, ServableVolume } from './server.js';

/** A volume under a name that clients ask for. */
export interface VolumeExport {
  /** 0 to 4096 bytes of UTF-8; the empty one is the default export. */
  readonly name: string;
  readonly volume: ServableVolume;
  /** This export is read-only, whatever the server and the volume allow. */
  readonly readOnly?: boolean | undefined;
}

/**
 * Serves several attached volumes from one process. The server listens once this comes back. A volume that is detached
 * closes its clients' connections first; a server of which no volume is left ends.
 *
 * @throws {VolsealError} `ERR_ARGUMENT` (no endpoint or two, the same name twice, plaintext beyond loopback), `ERR_IO`,
 * `ERR_STATE_BUSY` (somebody listens on the socket), `ERR_STATE_DETACHED`
 */
export async function serveVolumes(exports: readonly VolumeExport[], options: NbdServeOptions): Promise<NbdServer> {
  void [exports, options];
  throw new VolsealError('ERR_ARGUMENT', 'serving volumes is being built');
}
