/**
 * The HTTP front of the embedded KMS: `aws kms --endpoint-url` and any AWS SDK talk to it.
 *
 * Every request must be signed (SigV4) with an access key of a principal that the store knows, and may do what policies and grants
 * allow that principal. It still speaks plain HTTP: data keys are readable on the way, so it listens on loopback unless told otherwise.
 * And it answers nothing a web page could send: the content type and the Authorization header force a browser to ask first, and a Host
 * that is a name other than localhost is refused (DNS rebinding).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import { finished } from 'node:stream/promises';
import { asVolsealError, VolsealError } from '../../../errors.js';
import { KMS_REQUEST_BYTES_MAX, KMS_REQUEST_TIMEOUT_MS, KMS_SERVER_CONNECTIONS_MAX } from '../../../limits.js';
import { native } from '../../../native.js';
import { watchSocket, wipeChunks, wipeSocket } from '../../shared/socket-wipe.js';
import { KMS_CONTENT_TYPE, KMS_TARGET_PREFIX, takeRequest, type WireReply, type WireRequest } from '../../shared/wire.js';
import { KmsFault, serialization } from '../faults.js';
import type { Caller } from '../policy/caller.js';
import { EmbeddedKms } from '../service.js';

export interface ServeOptions {
  /** Where the store lies. */
  readonly home: string;
  /** An IP address, or `localhost`. */
  readonly host: string;
  /** 0: one that is free. */
  readonly port: number;
  /** Lets `host` be other than loopback: whoever can read the network can read data keys. */
  readonly allowRemote?: boolean;
}

export interface KmsServer {
  /** `http://HOST:PORT`, with the port that it really has. */
  readonly url: string;
  /** Whether anybody has an access key: without one nobody can sign a request. */
  readonly hasAccessKeys: boolean;
  /** Takes no more requests, lets those under way finish, closes the store. */
  close(): Promise<void>;
}

/**
 * Serves the embedded KMS of `home` over HTTP.
 * @throws {VolsealError} `ERR_ARGUMENT` for a host that is not loopback without `allowRemote`; `ERR_IO` where the address is in use; as
 * `EmbeddedKms.open`
 */
export async function serveKms({ home, host, port, allowRemote = false }: ServeOptions): Promise<KmsServer> {
  if (isIP(host) === 0 && host !== 'localhost')
    throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(host)} is neither an IP address nor localhost`);
  if (!allowRemote && !isLoopback(host)) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${host} is not loopback, and the KMS server speaks plain HTTP, in which data keys can be read on the way; listen on 127.0.0.1, or allow remote callers explicitly`,
    );
  }
  const kms = EmbeddedKms.open(home);
  const server = createServer((request, response) => {
    answer(kms, request, response).catch(() => response.destroy());
  });
  server.requestTimeout = KMS_REQUEST_TIMEOUT_MS;
  server.headersTimeout = KMS_REQUEST_TIMEOUT_MS;
  server.maxConnections = KMS_SERVER_CONNECTIONS_MAX;
  server.on('connection', watchSocket);
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
        server.closeIdleConnections();
      });
      await kms.close();
    },
  };
}

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function answer(kms: EmbeddedKms, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const reply = await replyTo(kms, request);
  // A body that was not read to its end would be taken for the next request.
  if (!request.complete) response.setHeader('connection', 'close');
  try {
    if (reply.plaintext !== undefined) revealPlaintext(reply);
    response.writeHead(reply.status, { ...reply.headers, 'content-length': reply.body.length });
    response.end(reply.body);
    await finished(response);
  } finally {
    reply.body.fill(0);
  }
}

async function replyTo(kms: EmbeddedKms, request: IncomingMessage): Promise<WireReply> {
  try {
    const { wire, caller } = await readRequest(kms, request);
    return kms.handle(wire, caller);
  } catch (error) {
    const fault =
      error instanceof KmsFault ? error : new KmsFault('KMSInternalException', 'The embedded KMS failed; see its own messages.', 500);
    return { status: fault.status, headers: { 'content-type': KMS_CONTENT_TYPE }, body: Buffer.from(JSON.stringify(fault.toJson())) };
  } finally {
    wipeSocket(request.socket);
  }
}

/** Writes the key over the "AAAA..." that stands for it, and wipes the handle: from here the key is in this process's memory until sent. */
function revealPlaintext({ body, plaintext }: WireReply): void {
  const member = '"Plaintext":"';
  try {
    native.keyRevealBase64(plaintext!, body, body.indexOf(member) + member.length);
  } finally {
    native.keyWipe(plaintext!);
  }
}

/** @throws {KmsFault} for what is not a request of KMS at all, or not signed by a principal that is known */
async function readRequest(kms: EmbeddedKms, request: IncomingMessage): Promise<{ wire: WireRequest; caller: Caller }> {
  checkEnvelope(request);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) headers[name] = String(value);
  const chunks: Buffer[] = [];
  try {
    let byteCount = 0;
    // Not destroyed when left: a client that sends too much is still told so.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      byteCount += chunk.length;
      if (byteCount > KMS_REQUEST_BYTES_MAX)
        throw new KmsFault('RequestEntityTooLargeException', `A request has at most ${KMS_REQUEST_BYTES_MAX} bytes.`, 413);
    }
    // One piece, because its hash is signed as a whole; what it was copied from is zeroed below, and so is the piece.
    const body = Buffer.concat(chunks);
    chunks.push(body);
    const { remoteAddress: sourceIp } = request.socket;
    const identity = await kms.authenticate({ headers, body });
    const caller = {
      ...identity,
      ...(sourceIp === undefined ? {} : { sourceIp: sourceIp.replace(/^::ffff:/, '') }),
      ...(headers['user-agent'] === undefined ? {} : { userAgent: headers['user-agent'] }),
    };
    return { wire: takeRequest(headers['x-amz-target'] ?? '', headers, [body]), caller };
  } catch (error) {
    if (error instanceof VolsealError && error.code === 'ERR_ARGUMENT') throw serialization(`Plaintext: ${error.message}`);
    throw error;
  } finally {
    wipeChunks(chunks);
  }
}

function checkEnvelope({ method, url, headers }: IncomingMessage): void {
  if (method !== 'POST' || url !== '/') throw new KmsFault('UnknownOperationException', 'KMS is asked with POST at /.', 404);
  if (!isNumericHost(headers.host ?? '')) {
    throw new KmsFault('AccessDeniedException', 'The Host header must be an IP address or localhost.', 403);
  }
  if (headers['content-type'] !== KMS_CONTENT_TYPE) throw serialization(`The content type must be ${KMS_CONTENT_TYPE}.`);
  if (!String(headers['x-amz-target'] ?? '').startsWith(KMS_TARGET_PREFIX)) {
    throw new KmsFault('UnknownOperationException', `The header X-Amz-Target must begin with ${KMS_TARGET_PREFIX}`);
  }
}

function isNumericHost(header: string): boolean {
  const host = header.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return host === 'localhost' || isIP(host) !== 0;
}
