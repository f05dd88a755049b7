/**
 * The request handler under the AWS SDK's client that takes keys out of replies before JavaScript can read them
 * (reply-reader.ts).
 *
 * The SDK gets each reply with "AAAA..." in the member `Plaintext`, and the call gets the vault handle in its slot. A
 * reply that cannot be taken in whole never reaches the SDK, so that no error of the SDK (`error.$response`) can carry
 * it.
 */
import http from 'node:http';
import https from 'node:https';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { KMS_CONNECT_TIMEOUT_MS, KMS_REQUEST_TIMEOUT_MS } from '../../limits.js';
import { type KeyHandle, native } from '../../native.js';
import { repliesWithKey } from '../shared/wire.js';
import { deliverKey, type SlotOptions } from './key-slot.js';
import { askFor, withReaders } from './reply-reader.js';

/** What the SDK asks of a `requestHandler`. */
export type RequestHandler = Pick<NodeHttpHandler, 'metadata' | 'handle' | 'updateHttpClientConfig' | 'httpHandlerConfigs' | 'destroy'>;

/** OpenSSL cleanses records of TLS once they are read (SSL_CTX_set_options(3), SSL_OP_CLEANSE_PLAINTEXT, since 3.0). */
const SSL_OP_CLEANSE_PLAINTEXT = 2;

/** Limits of one try of a call, in milliseconds; the SDK makes several. */
export interface IntakeTimeouts {
  readonly connectTimeoutMs: number;
  /** For the whole reply, from when the request was sent. */
  readonly requestTimeoutMs: number;
}

/**
 * The handler for a KMS that is reached over HTTP or HTTPS. `destroy` closes its connections.
 *
 * `handle` throws {VolsealError} `ERR_KMS_REPLY` for a reply that is not one of KMS: no HTTP/1.1, longer than
 * `KMS_REPLY_BYTES_MAX`, compressed, without a length, two at once, or a success that is not a JSON object with at most
 * one base64 `Plaintext`. An error reply with such a body has none for the SDK. A reply that breaks off or stalls
 * throws what the SDK knows as transient, and tries again.
 */
export function httpKeyIntake(
  timeouts: IntakeTimeouts = { connectTimeoutMs: KMS_CONNECT_TIMEOUT_MS, requestTimeoutMs: KMS_REQUEST_TIMEOUT_MS },
): RequestHandler {
  const inner = new NodeHttpHandler({
    httpAgent: withReaders(new http.Agent({ keepAlive: true })),
    httpsAgent: withReaders(new https.Agent({ keepAlive: true, secureOptions: SSL_OP_CLEANSE_PLAINTEXT })),
    connectionTimeout: timeouts.connectTimeoutMs,
    requestTimeout: timeouts.requestTimeoutMs,
    throwOnRequestTimeout: true,
  });
  return {
    metadata: inner.metadata,
    async handle(request, options?: SlotOptions) {
      let isWaiting = true;
      const call = {
        expectsKey: repliesWithKey(request.headers['x-amz-target']),
        // Nobody looks into the slot of a call that was given up.
        deliver: (key: KeyHandle) => deliverKey(isWaiting ? options : undefined, key),
      };
      try {
        return await askFor(call, () => inner.handle(request, options));
      } finally {
        isWaiting = false;
        await wipeStackOfReading();
      }
    },
    updateHttpClientConfig: (key, value) => inner.updateHttpClientConfig(key, value),
    httpHandlerConfigs: () => inner.httpHandlerConfigs(),
    destroy: () => inner.destroy(),
  };
}

/**
 * Node's TLS calls us from within the function whose stack holds what it decrypted; only a later turn of the event loop
 * can wipe that.
 */
function wipeStackOfReading(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(() => {
      native.wipeStack();
      resolve();
    });
  });
}
