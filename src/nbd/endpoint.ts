/** Where a server listens: the caller's choice, checked, and the URI by which clients find it. */
import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { resolve } from 'node:path';
import { messageOf, VolsealError } from '../errors.js';
import type { NbdEndpoint } from '../native.js';
import type { NbdServeOptions } from './options.js';

/** An endpoint that may be opened. */
export interface ServedEndpoint {
  readonly endpoint: NbdEndpoint;
  /** The URI of an export; `port` is the one that TCP got. */
  uriOf(exportName: string, port: number): string;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** @throws {VolsealError} `ERR_ARGUMENT` not exactly one endpoint; plaintext beyond loopback */
export async function servedEndpoint(options: NbdServeOptions): Promise<ServedEndpoint> {
  const { socket, listen, fd, stdio } = options;
  const given = Object.entries({ socket, listen, fd, stdio }).filter(([, value]) => value !== undefined);
  if (given.length !== 1) {
    const names = given.map(([name]) => name).join(', ');
    throw new VolsealError('ERR_ARGUMENT', `a server listens at one of socket, listen, fd and stdio; given: ${names || 'none'}`);
  }
  const scheme = options.tls === undefined ? 'nbd' : 'nbds';
  if (socket !== undefined) {
    const path = resolve(socket);
    return {
      endpoint: { kind: 'unix', path },
      uriOf: (name) => `${scheme}+unix:///${encodeURIComponent(name)}?socket=${encodePath(path)}`,
    };
  }
  if (listen !== undefined) return await tcpEndpoint(listen, scheme, options);
  const endpoint: NbdEndpoint = fd !== undefined ? { kind: 'listening', fd } : { kind: 'connected', fd: stdio! };
  // Who opened the descriptor knows where it leads.
  return { endpoint, uriOf: (name) => `${scheme}+fd:///${encodeURIComponent(name)}` };
}

/** Slashes stay readable: RFC 3986 allows them in a query. */
const encodePath = (path: string): string => path.split('/').map(encodeURIComponent).join('/');

async function tcpEndpoint(
  { host = '127.0.0.1', port }: { readonly host?: string | undefined; readonly port: number },
  scheme: string,
  options: NbdServeOptions,
): Promise<ServedEndpoint> {
  const address = await addressOf(host);
  const isLoopback = LOOPBACK.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6');
  if (!isLoopback && options.tls === undefined && options.allowPlaintextBeyondLoopback !== true) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${host}: everybody who reaches this address would read and write the volume's plaintext; serve it with TLS, or on 127.0.0.1`,
      { details: { host, port } },
    );
  }
  const shown = isIP(host) === 6 ? `[${host}]` : host;
  return {
    endpoint: { kind: 'tcp', address, port },
    uriOf: (name, takenPort) => `${scheme}://${shown}:${takenPort}/${encodeURIComponent(name)}`,
  };
}

/** @throws {VolsealError} `ERR_ARGUMENT` the host has no address */
async function addressOf(host: string): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    throw new VolsealError('ERR_ARGUMENT', `${host}: the host has no address: ${messageOf(cause)}`, { cause, details: { host } });
  }
}
