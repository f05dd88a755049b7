/** `volseal serve`: volumes over NBD in the foreground, for systemd and other supervisors. */
import { once } from 'node:events';
import { basename } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { type Undo, undoAll } from '../../attached/undo.js';
import { VolsealError, withPath } from '../../errors.js';
import { NBD_CONNECTIONS_MAX } from '../../limits.js';
import { native } from '../../native.js';
import type { NbdEndpoint, NbdServeOptions, NbdTls } from '../../nbd/options.js';
import type { NbdServer } from '../../nbd/server.js';
import type { Volume } from '../../volume/volume.js';
import { withUnfinished } from '../in-place.js';
import {
  type Address,
  addressArgument,
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  type StoreFlags,
  storeOptions,
  withAllowNoLock,
  withExistingVolume,
  withMetrics,
  withStore,
} from '../options.js';
import { type ServiceManager, serviceManager, writePidFile } from '../service-manager.js';
import { withExamples } from '../terminal/output.js';

interface ServeFlags extends ExistingVolumeFlags, StoreFlags {
  socket?: string;
  listen?: Address;
  stdio?: boolean;
  exportName?: string[];
  readOnly?: boolean;
  connections?: number;
  tlsCertificate?: string;
  tlsKey?: string;
  tlsClientCa?: string;
  tlsAllow?: string[];
  tlsPsk?: string;
  allowPlaintextBeyondLoopback?: boolean;
  pidFile?: string;
  exitWithParent?: boolean;
  metrics?: Address;
  journal?: string;
}

/** The command; `session` is what it runs with. It ends with status 0 at Ctrl-C or SIGTERM. */
export function serveCommand(session: Session): Command {
  const command = new Command('serve')
    .description('attach volumes and serve them over NBD in the foreground, until Ctrl-C or SIGTERM')
    .argument('<volume...>', 'the volumes; s3://BUCKET/KEY and ebs:snap-... with --read-only')
    .option('--socket <path>', 'listen on a unix socket, for this user alone')
    .option('--listen <host:port>', 'listen on TCP; 10809 is the port of NBD, and port 0 takes a free one', addressArgument)
    .option('--stdio', 'serve the client at standard input, a socket, and end with it')
    .option('--export-name <name...>', 'names of the exports, one a volume (default: no name for one volume, else the file names)')
    .option('--read-only', 'clients may only read')
    .option('--connections <count>', `clients at once, 1 to ${NBD_CONNECTIONS_MAX} (default: ${NBD_CONNECTIONS_MAX})`, connectionsArgument)
    .option('--tls-certificate <file>', "TLS: the server's certificate and its chain, PEM")
    .option('--tls-key <file>', 'TLS: its private key, PEM')
    .option('--tls-client-ca <file>', 'TLS: clients must have a certificate of this authority')
    .option('--tls-allow <name...>', 'TLS: names of which a certificate of a client must have one')
    .option('--tls-psk <file>', 'TLS with shared keys instead: lines of IDENTITY:HEX, as psktool writes')
    .option('--allow-plaintext-beyond-loopback', 'TCP without TLS: whoever reaches the port reads and changes the volumes')
    .option('--pid-file <file>', 'write the process id here when the volumes are served')
    .option('--exit-with-parent', 'end when the process ends that started this one');
  withStore(withUnfinished(withAllowNoLock(withExistingVolume(withMetrics(command)))));
  withExamples(
    command,
    ['volseal serve disk.vol --socket disk.sock', 'volseal serve disk.vol --listen 127.0.0.1:10809'],
    ['Under systemd: Type=notify, and a socket unit in place of --socket or --listen (docs/ATTACH.md).'],
  );
  return command.action((paths: string[], flags: ServeFlags) => serve(paths, flags, session));
}

async function serve(paths: string[], flags: ServeFlags, { output, signal }: Session): Promise<void> {
  if (flags.exitWithParent) native.endWithParent(process.ppid);
  const manager = serviceManager();
  const endpoint = endpointOf(flags, manager);
  const names = namesOf(paths, flags);
  const options: NbdServeOptions = {
    ...endpoint,
    readOnly: flags.readOnly,
    connectionsMax: flags.connections,
    tls: tlsOf(flags),
    allowPlaintextBeyondLoopback: flags.allowPlaintextBeyondLoopback,
  };
  if ((flags.header ?? flags.journal) !== undefined && paths.length > 1) {
    throw new VolsealError('ERR_ARGUMENT', '--header and --journal name a file of one volume: serve the volumes by a process each');
  }
  const [{ attach }, { serveVolumes }] = await Promise.all([import('../../in-place/attach.js'), import('../../nbd/serve.js')]);
  const volumes: Volume[] = [];
  const undo: Undo[] = [];
  try {
    for (const path of paths) {
      const volume = await attach(path, {
        ...existingVolumeOptions(flags, output),
        ...storeOptions(flags),
        journal: flags.journal,
        readOnly: flags.readOnly,
        signal,
      });
      undo.push(() => volume.detach());
      volumes.push(volume);
    }
    const server = await serveVolumes(
      volumes.map((volume, index) => ({ name: names[index]!, volume })),
      options,
    ).catch((error: unknown) => {
      throw flags.socket === undefined ? error : withPath(error, flags.socket);
    });
    undo.push(() => server.close());
    const described = volumes.map(({ volumeId }, index) => ({
      volumeId,
      path: paths[index]!,
      exportName: names[index]!,
      uri: server.uriOf(names[index]!),
    }));
    const metrics = flags.metrics === undefined ? undefined : await measure(flags.metrics, server, described, undo);
    if (flags.pidFile !== undefined) undo.push(writePidFile(flags.pidFile));
    server.on('error', (error) => output.warning(error.message));
    const closed = once(server, 'close');
    manager.notify('READY=1', `STATUS=serving ${paths.length === 1 ? '1 volume' : `${paths.length} volumes`}`);
    if (!flags.stdio) {
      output.result(
        { volumes: described, pid: process.pid, metrics: metrics ?? null },
        described.map(({ uri }) => uri),
      );
      await output.settled();
    }
    if (!signal.aborted) await Promise.race([once(signal, 'abort'), closed]);
    manager.notify('STOPPING=1');
  } finally {
    await undoAll(undo);
  }
}

async function measure(
  address: Address,
  server: NbdServer,
  volumes: readonly { volumeId: string; path: string }[],
  undo: Undo[],
): Promise<string> {
  const { serveMetrics } = await import('../../attached/metrics.js');
  const metrics = await serveMetrics(address, [{ server, volumes }]);
  undo.push(() => metrics.close());
  return metrics.url;
}

/** @throws {VolsealError} `ERR_ARGUMENT`: not exactly one */
function endpointOf({ socket, listen, stdio }: ServeFlags, { listeningFd }: ServiceManager): NbdEndpoint {
  const endpoints: NbdEndpoint[] = [
    ...(socket === undefined ? [] : [{ socket }]),
    ...(listen === undefined ? [] : [{ listen }]),
    ...(stdio ? [{ stdio: 0 }] : []),
    ...(listeningFd === undefined ? [] : [{ fd: listeningFd }]),
  ];
  if (endpoints.length === 1) return endpoints[0]!;
  throw new VolsealError(
    'ERR_ARGUMENT',
    endpoints.length === 0
      ? 'where to listen: --socket PATH, --listen HOST:PORT or --stdio; or a socket from systemd'
      : 'one of --socket, --listen, --stdio and a socket from systemd, and not several',
  );
}

/** @throws {VolsealError} `ERR_ARGUMENT`: not one a volume, or two are the same */
function namesOf(paths: readonly string[], { exportName }: ServeFlags): string[] {
  const names = exportName ?? (paths.length === 1 ? [''] : paths.map((path) => basename(path)));
  if (names.length !== paths.length) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${names.length} names for ${paths.length} volumes: give --export-name once, with one name a volume`,
    );
  }
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    throw new VolsealError('ERR_ARGUMENT', `two exports would have the name ${JSON.stringify(twice)}: name them with --export-name`);
  }
  return names;
}

/** @throws {VolsealError} `ERR_ARGUMENT` */
function tlsOf({ tlsCertificate, tlsKey, tlsClientCa, tlsAllow, tlsPsk }: ServeFlags): NbdTls | undefined {
  const withCertificate = [tlsCertificate, tlsKey, tlsClientCa, tlsAllow].some((flag) => flag !== undefined);
  if (tlsPsk !== undefined && withCertificate) throw new VolsealError('ERR_ARGUMENT', 'TLS is by certificates or by --tls-psk, not both');
  if (tlsPsk !== undefined) return { psk: tlsPsk };
  if (!withCertificate) return undefined;
  if (tlsCertificate === undefined || tlsKey === undefined) {
    throw new VolsealError('ERR_ARGUMENT', 'TLS by certificates needs --tls-certificate and --tls-key');
  }
  return { certificate: tlsCertificate, key: tlsKey, clientCa: tlsClientCa, allowedNames: tlsAllow };
}

function connectionsArgument(text: string): number {
  if (!/^[1-9][0-9]?$/.test(text) || Number(text) > NBD_CONNECTIONS_MAX)
    throw new InvalidArgumentError(`Expected a number from 1 to ${NBD_CONNECTIONS_MAX}.`);
  return Number(text);
}
