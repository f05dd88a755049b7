/**
 * The HTTP server of the embedded KMS: `aws kms --endpoint-url` and any AWS SDK can use it.
 *
 * Every request must be signed (SigV4) with an access key of a principal in the store; policies and grants decide what
 * it may do. The server speaks plain HTTP, in which data keys are readable on the way, so it listens on loopback unless
 * told otherwise. It does not answer what a web page could send: the content type and the Authorization header force a
 * browser to ask first, and a Host header with another name than localhost or one of `hostNames` is refused (DNS
 * rebinding).
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, isIP, type Socket } from 'node:net';
import { finished } from 'node:stream/promises';
import { asVolsealError, VolsealError } from '../../../errors.js';
import {
  KMS_REQUEST_BYTES_MAX,
  KMS_REQUEST_TIMEOUT_MS,
  KMS_SERVER_CHECK_INTERVAL_MS,
  KMS_SERVER_CLOSE_GRACE_MS,
  KMS_SERVER_CONNECTIONS_MAX,
} from '../../../limits.js';
import { native } from '../../../native.js';
import { isLoopback } from '../../shared/endpoint.js';
import { KMS_CONTENT_TYPE, KMS_TARGET_PREFIX, takeRequest, type WireReply, type WireRequest } from '../../shared/wire.js';
import { KmsFault, serialization } from '../faults.js';
import type { Caller } from '../policy/caller.js';
import { EmbeddedKms } from '../service.js';
import { asksForIdentity, identityReply, QUERY_CONTENT_TYPE, queryErrorReply } from './caller-identity.js';
import { Connections } from './connections.js';
import { checkPlaintextLength } from './plaintext-length.js';
import { ignoreRest, ownConnections, RequestBody } from './request-memory.js';

export interface ServeOptions {
  /** The directory of the store. */
  readonly home: string;
  /** An IP address, or `localhost`. */
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  /** Allows a `host` that is not loopback: then anybody who can read the network can read data keys. */
  readonly allowRemote?: boolean;
  /**
   * Names besides `localhost` under which clients may call the server, in lower case: that of a container, for example.
   * A request with another name in its Host header is refused, because a web page could make one (DNS rebinding).
   */
  readonly hostNames?: readonly string[];
  /** Receives each error that is no answer of KMS; clients see only status 500 and the request id. */
  readonly onInternalError?: (requestId: string, error: unknown) => void;
  /** For tests of callers: sees each signed call before it is made, and may have it fail. */
  readonly intercept?: (call: InterceptedCall) => InterceptedFault | undefined;
}

/** A call, as a test of its caller sees it. */
export interface InterceptedCall {
  /** `Decrypt` and the like. */
  readonly operation: string;
  /** The request, without its `Plaintext`; undefined where it is not JSON. */
  readonly request: Readonly<Record<string, unknown>> | undefined;
}

/** An error of KMS by its name, or no answer at all. */
export type InterceptedFault = { readonly name: string; readonly message: string; readonly status: number } | 'hang up';

export interface KmsServer {
  /** `http://HOST:PORT`, with the actual port. */
  readonly url: string;
  /** Whether an access key exists: without one nobody can sign a request. */
  readonly hasAccessKeys: boolean;
  /**
   * Takes no more requests, sends the replies under way, closes the store; takes a few seconds at most, whatever
   * clients do.
   */
  close(): Promise<void>;
}

/**
 * Serves the embedded KMS of `home` over HTTP.
 * @throws {VolsealError} `ERR_ARGUMENT` for a host that is not loopback without `allowRemote`; `ERR_IO` where the
 * address is in use; as `EmbeddedKms.open`
 */
export async function serveKms(options: ServeOptions): Promise<KmsServer> {
  const { home, host, port, allowRemote = false, hostNames = [], onInternalError = () => {}, intercept } = options;
  if (isIP(host) === 0 && host !== 'localhost')
    throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(host)} is neither an IP address nor localhost`);
  if (!allowRemote && !isLoopback(host)) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${host} is not loopback, and the KMS server speaks plain HTTP, in which data keys can be read on the way; listen on 127.0.0.1, or allow remote callers explicitly`,
    );
  }
  const kms = EmbeddedKms.open(home);
  const serverOptions = {
    // A request that Node refuses by itself leaves its body in memory: `checkEnvelope` refuses one without a Host.
    requireHostHeader: false,
    requestTimeout: KMS_REQUEST_TIMEOUT_MS,
    headersTimeout: KMS_REQUEST_TIMEOUT_MS,
    // Node looks for connections that are over their time this often; its default of 30 s would be the real time-out.
    connectionsCheckingInterval: KMS_SERVER_CHECK_INTERVAL_MS,
  };
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    answer({ kms, connections, hostNames, onInternalError, intercept }, request, response).catch(() => response.destroy());
  };
  const server = createServer(serverOptions, onRequest);
  server.on('checkExpectation', onRequest);
  const connections = new Connections(server, KMS_SERVER_CONNECTIONS_MAX);
  ownConnections(server);
  try {
    await listen(server, host, port);
  } catch (error) {
    await kms.close();
    throw asVolsealError(error, `${host}:${port}`);
  }
  const { address, family, port: actualPort } = server.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${actualPort}`,
    hasAccessKeys: kms.hasAccessKeys(),
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        connections.close(KMS_SERVER_CLOSE_GRACE_MS);
      });
      await kms.close();
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** What each request needs of the server. */
interface Serving {
  readonly kms: EmbeddedKms;
  readonly connections: Connections;
  readonly hostNames: readonly string[];
  readonly onInternalError: (requestId: string, error: unknown) => void;
  readonly intercept: ServeOptions['intercept'];
}

/** Thrown where a call gets no answer. */
class HangUp extends Error {}

async function answer(serving: Serving, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = new RequestBody(request);
  const received = await receive(serving, request, body).finally(() => body.wipe());
  await turnOf(response, request.socket, serving.connections.closeOf(request.socket)).catch((error: unknown) => {
    discard(received);
    throw error;
  });
  await serving.connections.during(request.socket, async () => {
    const reply = replyTo(serving, request, received);
    // A body that was not read to its end would be taken for the next request.
    if (!request.complete) {
      response.setHeader('connection', 'close');
      ignoreRest(request.socket);
    }
    try {
      if (reply.plaintext !== undefined) revealPlaintext(reply);
      response.writeHead(reply.status, { ...reply.headers, 'content-length': reply.body.length });
      response.end(reply.body);
      await finished(response);
    } finally {
      reply.body.fill(0);
    }
  });
}

/**
 * Waits until the replies to earlier requests of the connection are sent. Node would keep a reply that is made before
 * its turn, and forgets it without a word where the connection closes first: its plaintext would stay in memory.
 * @throws where the connection closes
 */
async function turnOf(response: ServerResponse, socket: Socket, closed: Promise<void>): Promise<void> {
  if (response.socket === null) {
    const turn = new Promise<void>((resolve) => {
      response.once('socket', () => resolve());
    });
    await Promise.race([turn, closed]);
  }
  if (socket.destroyed) throw new HangUp();
}

/** Wipes the plaintext of a call that is not made. */
function discard(received: Received): void {
  if ('wire' in received && received.wire?.plaintext !== undefined) native.keyWipe(received.wire.plaintext);
}

interface SignedCall {
  /** Undefined for GetCallerIdentity of STS. */
  readonly wire: WireRequest | undefined;
  readonly caller: Caller;
}

type Received = SignedCall | { readonly error: unknown };

async function receive(serving: Serving, request: IncomingMessage, body: RequestBody): Promise<Received> {
  try {
    const received = await readRequest(serving, request, body);
    serving.connections.trust(request.socket);
    return received;
  } catch (error) {
    return { error };
  }
}

function replyTo({ kms, onInternalError, intercept }: Serving, request: IncomingMessage, received: Received): WireReply {
  const requestId = randomUUID();
  try {
    if ('error' in received) throw received.error;
    const { wire, caller } = received;
    if (wire === undefined) return identityReply(caller, requestId);
    if (intercept !== undefined) failAsAsked(intercept, wire);
    return kms.handle(wire, caller);
  } catch (error) {
    if (error instanceof HangUp) throw error;
    const known = error instanceof KmsFault;
    if (!known) onInternalError(requestId, error);
    const fault = known
      ? error
      : new KmsFault('KMSInternalException', `The embedded KMS failed; its messages name request ${requestId}.`, 500);
    if (isQueryRequest(request)) return queryErrorReply(fault, requestId);
    const headers = { 'content-type': KMS_CONTENT_TYPE, 'x-amzn-requestid': requestId };
    return { status: fault.status, headers, body: Buffer.from(JSON.stringify(fault.toJson())) };
  }
}

/** @throws {KmsFault} {HangUp} as `intercept` says; the plaintext of the call is wiped then */
function failAsAsked(intercept: NonNullable<ServeOptions['intercept']>, { target, body, plaintext }: WireRequest): void {
  const fault = intercept({ operation: target.slice(KMS_TARGET_PREFIX.length), request: objectOf(body) });
  if (fault === undefined) return;
  if (plaintext !== undefined) native.keyWipe(plaintext);
  throw fault === 'hang up' ? new HangUp() : new KmsFault(fault.name, fault.message, fault.status);
}

function objectOf(body: Buffer): Record<string, unknown> | undefined {
  try {
    const { Plaintext: _, ...members } = JSON.parse(body.toString('utf8'));
    return members;
  } catch {
    return undefined;
  }
}

/**
 * Writes the key over its placeholder "AAAA..." and wipes the handle: from here the key is in ordinary memory until it
 * is sent.
 */
function revealPlaintext({ body, plaintext }: WireReply): void {
  const member = '"Plaintext":"';
  try {
    native.keyRevealBase64(plaintext!, body, body.indexOf(member) + member.length);
  } finally {
    native.keyWipe(plaintext!);
  }
}

/** @throws {KmsFault} for a request that is not one of KMS, or that no known principal signed */
async function readRequest({ kms, hostNames }: Serving, request: IncomingMessage, requestBody: RequestBody): Promise<SignedCall> {
  checkEnvelope(request, hostNames);
  const isQuery = isQueryRequest(request);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) headers[name] = String(value);
  // One piece, because the hash of the whole body is signed.
  const body = await requestBody.whole(KMS_REQUEST_BYTES_MAX);
  if (body === undefined)
    throw new KmsFault('RequestEntityTooLargeException', `A request has at most ${KMS_REQUEST_BYTES_MAX} bytes.`, 413);
  if (isQuery && !asksForIdentity(body)) throw new KmsFault('InvalidAction', 'Of AWS STS there is only GetCallerIdentity here.');
  const { remoteAddress: sourceIp } = request.socket;
  const identity = await kms.authenticate({ service: isQuery ? 'sts' : 'kms', headers, body });
  const caller = {
    ...identity,
    ...(sourceIp === undefined ? {} : { sourceIp: sourceIp.replace(/^::ffff:/, '') }),
    ...(headers['user-agent'] === undefined ? {} : { userAgent: headers['user-agent'] }),
  };
  if (isQuery) return { wire: undefined, caller };
  const target = headers['x-amz-target'] ?? '';
  if (target === `${KMS_TARGET_PREFIX}Encrypt`) checkPlaintextLength(body);
  try {
    return { wire: takeRequest(target, headers, [body]), caller };
  } catch (error) {
    if (error instanceof VolsealError && error.code === 'ERR_ARGUMENT') throw serialization(`Plaintext: ${error.message}`);
    throw error;
  }
}

function checkEnvelope({ method, url, headers }: IncomingMessage, hostNames: readonly string[]): void {
  if (method !== 'POST' || url !== '/') throw new KmsFault('UnknownOperationException', 'KMS is asked with POST at /.', 404);
  const host = hostOf(headers.host ?? '');
  if (host !== 'localhost' && isIP(host) === 0 && !hostNames.includes(host)) {
    const text = 'The Host header must be an IP address, localhost or a name that the server was started with.';
    throw new KmsFault('AccessDeniedException', text, 403);
  }
  if (isQueryRequest({ headers })) return;
  if (headers['content-type'] !== KMS_CONTENT_TYPE) throw serialization(`The content type must be ${KMS_CONTENT_TYPE}.`);
  if (!String(headers['x-amz-target'] ?? '').startsWith(KMS_TARGET_PREFIX)) {
    throw new KmsFault('UnknownOperationException', `The header X-Amz-Target must begin with ${KMS_TARGET_PREFIX}`);
  }
}

/**
 * Whether a request is one of STS. Its content type a web page could send as well, so the signature alone protects it.
 */
const isQueryRequest = ({ headers }: Pick<IncomingMessage, 'headers'>): boolean =>
  headers['content-type']?.split(';')[0]?.trim() === QUERY_CONTENT_TYPE;

/** `NAME:PORT` or `[IPV6]:PORT` without the port, in lower case. */
const hostOf = (header: string): string =>
  header
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase();
