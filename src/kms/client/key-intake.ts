/**
 * The request handler under the AWS SDK's client that takes keys out of replies before JavaScript can read them.
 *
 * A reply to Decrypt or GenerateDataKey is collected here as raw chunks. The addon decodes its `Plaintext` into the vault and zeroes
 * the chunks; what the socket read is zeroed too; the SDK gets the same JSON with "AAAA..." in that member, and the call gets the
 * vault handle in its slot. A reply that cannot be taken in whole is zeroed and never reaches the SDK, so that no error of the
 * SDK's (`error.$response`) can carry it.
 */
import http from 'node:http';
import https from 'node:https';
import type { Duplex, Readable } from 'node:stream';
import { HttpResponse } from '@smithy/core/protocols';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { VolsealError } from '../../errors.js';
import { KMS_CONNECT_TIMEOUT_MS, KMS_MESSAGE_BYTES_MAX, KMS_REQUEST_TIMEOUT_MS } from '../../limits.js';
import { native } from '../../native.js';
import { watchSocket, wipeChunks, wipeSocket } from '../shared/socket-wipe.js';
import { repliesWithKey } from '../shared/wire.js';
import { deliverKey, type SlotOptions } from './key-slot.js';

/** What the SDK asks of a `requestHandler`. */
export type RequestHandler = Pick<NodeHttpHandler, 'metadata' | 'handle' | 'updateHttpClientConfig' | 'httpHandlerConfigs' | 'destroy'>;

/** OpenSSL cleanses records of TLS once they are read (SSL_CTX_set_options(3), SSL_OP_CLEANSE_PLAINTEXT, since 3.0). */
const SSL_OP_CLEANSE_PLAINTEXT = 2;

/** Limits of one try of a call, in milliseconds; the SDK makes several. */
export interface IntakeTimeouts {
  readonly connectTimeoutMs: number;
  /** For the headers of the reply, and again for its body. */
  readonly requestTimeoutMs: number;
}

/** The handler for a KMS that is reached over HTTP or HTTPS. `destroy` closes its connections. */
export function httpKeyIntake(
  timeouts: IntakeTimeouts = { connectTimeoutMs: KMS_CONNECT_TIMEOUT_MS, requestTimeoutMs: KMS_REQUEST_TIMEOUT_MS },
): RequestHandler {
  const inner = new NodeHttpHandler({
    httpAgent: watched(new http.Agent({ keepAlive: true })),
    httpsAgent: watched(new https.Agent({ keepAlive: true, secureOptions: SSL_OP_CLEANSE_PLAINTEXT })),
    connectionTimeout: timeouts.connectTimeoutMs,
    requestTimeout: timeouts.requestTimeoutMs,
    throwOnRequestTimeout: true,
  });
  return keyIntake(inner, timeouts.requestTimeoutMs);
}

/**
 * Wraps a request handler: keys in its replies go to the slot of their call.
 *
 * `handle` throws {VolsealError} `ERR_KMS_REPLY` where a reply is longer than `KMS_MESSAGE_BYTES_MAX` or does not read as JSON with
 * a base64 `Plaintext`; a reply that breaks off or stalls throws what the SDK knows as transient, and tries again.
 */
export function keyIntake(inner: RequestHandler, bodyTimeoutMs: number = KMS_REQUEST_TIMEOUT_MS): RequestHandler {
  return {
    metadata: inner.metadata,
    async handle(request, options) {
      const { response } = await inner.handle(request, options);
      if (!repliesWithKey(request.headers['x-amz-target']) || response.statusCode >= 300) return { response };
      const body = response.body as Readable & { readonly socket?: Duplex };
      const { socket } = body;
      try {
        const chunks = await collect(body, bodyTimeoutMs);
        const { statusCode, headers } = response;
        return { response: new HttpResponse({ statusCode, headers, body: takeKey(chunks, options) }) };
      } finally {
        if (socket !== undefined) wipeSocket(socket);
        await wipeStackOfReading();
      }
    },
    updateHttpClientConfig: (key, value) => inner.updateHttpClientConfig(key, value),
    httpHandlerConfigs: () => inner.httpHandlerConfigs(),
    destroy: () => inner.destroy(),
  };
}

/** Node's TLS calls us from within the function whose stack holds what it decrypted; only a later turn of the event loop can wipe that. */
function wipeStackOfReading(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(() => {
      native.wipeStack();
      resolve();
    });
  });
}

/** Moves the key from the reply's bytes to the slot. @returns the body that the SDK may see */
function takeKey(chunks: readonly Buffer[], options: SlotOptions | undefined): Buffer {
  try {
    const { key, body } = native.keyImportJson(chunks, 'Plaintext');
    if (key !== undefined) deliverKey(options, key);
    return body;
  } catch (error) {
    if (!(error instanceof VolsealError) || error.code !== 'ERR_ARGUMENT') throw error;
    // No cause: nothing of the reply may travel with the error.
    throw new VolsealError('ERR_KMS_REPLY', `the reply of KMS does not hold a key as KMS writes it: ${error.message}`);
  } finally {
    wipeChunks(chunks);
  }
}

/** Reads `body` to its end. Where that fails, everything read so far has been zeroed. */
function collect(body: Readable, timeoutMs: number): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let byteCount = 0;
    let failed = false;
    const fail = (error: Error): void => {
      if (failed) return;
      failed = true;
      clearTimeout(timer);
      wipeChunks(chunks);
      // What the stream still holds was read from the socket as well and must not stay in it.
      for (let rest = body.read() as Buffer | null; rest !== null; rest = body.read() as Buffer | null) rest.fill(0);
      body.destroy();
      reject(error);
    };
    const timer = setTimeout(() => fail(transient(`no end of the reply within ${timeoutMs} ms`, 'ETIMEDOUT')), timeoutMs);
    body.on('data', (chunk: Buffer) => {
      if (failed) {
        chunk.fill(0);
        return;
      }
      chunks.push(chunk);
      byteCount += chunk.length;
      if (byteCount > KMS_MESSAGE_BYTES_MAX) {
        fail(new VolsealError('ERR_KMS_REPLY', `the reply of KMS is longer than ${KMS_MESSAGE_BYTES_MAX} bytes`));
      }
    });
    body.once('end', () => {
      if (failed) return;
      clearTimeout(timer);
      resolve(chunks);
    });
    body.once('error', (error: NodeJS.ErrnoException) =>
      fail(transient(`the reply broke off: ${error.message}`, error.code ?? 'ECONNRESET')),
    );
    body.once('close', () => {
      if (!body.readableEnded) fail(transient('the connection closed before the end of the reply', 'ECONNRESET'));
    });
  });
}

/** An error that the SDK's retry knows by its name. */
function transient(message: string, code: string): Error {
  return Object.assign(new Error(message), { name: 'TimeoutError', code });
}

/** Makes every socket of `agent` remember what it reads, until it is wiped here or goes back to the agent's free ones. */
function watched<Agent extends http.Agent>(agent: Agent): Agent {
  const connecting = agent as unknown as { createConnection(...parameters: unknown[]): Duplex };
  const connect = connecting.createConnection;
  connecting.createConnection = (...parameters) => watchSocket(connect.apply(agent, parameters));
  agent.on('free', (socket: Duplex) => wipeSocket(socket));
  return agent;
}
