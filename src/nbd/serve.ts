/** Serving attached volumes to NBD clients. */
import { VolsealError } from '../errors.js';
import { NBD_CONNECTIONS_MAX, NBD_NAME_BYTES_MAX } from '../limits.js';
import { native } from '../native.js';
import { servedEndpoint } from './endpoint.js';
import type { NbdServeOptions } from './options.js';
import { RunningNbdServer } from './running-server.js';
import { type NbdServer, type ServableVolume, servedDevice } from './server.js';

/** A volume under a name that clients ask for. */
export interface VolumeExport {
  /** 0 to 4096 bytes of UTF-8; the empty one is the default export. */
  readonly name: string;
  /** The volume, attached. */
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
  checkNames(exports);
  const connectionsMax = options.connectionsMax ?? NBD_CONNECTIONS_MAX;
  if (!Number.isInteger(connectionsMax) || connectionsMax < 1 || connectionsMax > NBD_CONNECTIONS_MAX) {
    throw new VolsealError('ERR_ARGUMENT', `connectionsMax is not a whole number from 1 to ${NBD_CONNECTIONS_MAX}: ${connectionsMax}`);
  }
  const { endpoint, uriOf } = await servedEndpoint(options);
  const volumes = [...new Set(exports.map(({ volume }) => volume))];
  const nativeExports = exports.map(({ name, volume, readOnly = false }) => {
    const { device, description } = volume[servedDevice].lend();
    return { name, description, device, readOnly: readOnly || options.readOnly === true };
  });
  const server = new RunningNbdServer({
    start: (listener) => native.nbdServe({ endpoint, exports: nativeExports, connectionsMax, tls: options.tls }, listener),
    uriOf,
    firstName: exports[0]!.name,
    flush: async () => {
      const outcomes = await Promise.allSettled(volumes.map((volume) => volume[servedDevice].settle()));
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    },
  });
  const ends = volumes.map((volume) => volume[servedDevice].use(server));
  server.once('close', () => {
    for (const end of ends) end();
  });
  return server;
}

/** @throws {VolsealError} `ERR_ARGUMENT` */
function checkNames(exports: readonly VolumeExport[]): void {
  if (exports.length === 0) throw new VolsealError('ERR_ARGUMENT', 'there is no volume to be served');
  const names = new Set<string>();
  for (const { name } of exports) {
    if (names.has(name)) throw new VolsealError('ERR_ARGUMENT', `two volumes have the export name ${JSON.stringify(name)}`);
    const length = Buffer.byteLength(name);
    if (length > NBD_NAME_BYTES_MAX || name.includes('\0')) {
      throw new VolsealError('ERR_ARGUMENT', `an export name has at most ${NBD_NAME_BYTES_MAX} bytes and no NUL; this one has ${length}`);
    }
    names.add(name);
  }
}
