/**
 * The AWS SDK's client for S3, loaded with the first request; and the one layer of retries around every request. The
 * SDK's own is off: it cannot repeat a body that breaks off.
 */
import { randomInt } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type { S3Client } from '@aws-sdk/client-s3';
import { VolsealError } from '../errors.js';
import { STORE_ATTEMPTS, STORE_BACKOFF_MS, STORE_BACKOFF_MS_MAX, STORE_CONNECT_MS, STORE_SILENCE_MS, STORE_SOCKETS } from '../limits.js';
import type { S3Location } from './location.js';
import { isWorthRetry, type S3Call, storeError } from './s3-errors.js';
import type { StoreOptions } from './store.js';

/** The SDK, and its client. */
export interface S3 {
  readonly sdk: typeof import('@aws-sdk/client-s3');
  readonly client: S3Client;
}

/** A connection to S3; whoever opened it closes it. */
export class S3Connection {
  readonly #s3: S3;

  private constructor(s3: S3) {
    this.#s3 = s3;
  }

  /** Loads the SDK. Nothing is sent. @throws {VolsealError} `ERR_ARGUMENT` an endpoint that is no URL */
  static async open({ endpointUrl, pathStyle, region }: StoreOptions = {}): Promise<S3Connection> {
    if (endpointUrl !== undefined && !(URL.canParse(endpointUrl) && /^https?:/i.test(endpointUrl)))
      throw new VolsealError('ERR_ARGUMENT', `the endpoint ${JSON.stringify(endpointUrl)} is no URL: expected https://HOST[:PORT]`);
    const [sdk, { NodeHttpHandler }, { Agent: HttpAgent }, { Agent: HttpsAgent }] = await Promise.all([
      import('@aws-sdk/client-s3'),
      import('@smithy/node-http-handler'),
      import('node:http'),
      import('node:https'),
    ]);
    const agent = { keepAlive: true, maxSockets: STORE_SOCKETS };
    const client = new sdk.S3Client({
      ...(endpointUrl === undefined ? {} : { endpoint: endpointUrl }),
      forcePathStyle: pathStyle ?? endpointUrl !== undefined,
      ...(await regionOf(region, endpointUrl)),
      followRegionRedirects: endpointUrl === undefined,
      maxAttempts: 1,
      // Each part carries the CRC-32 that was computed when it was made (s3-upload.ts).
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: new NodeHttpHandler({
        connectionTimeout: STORE_CONNECT_MS,
        socketTimeout: STORE_SILENCE_MS,
        httpAgent: new HttpAgent(agent),
        httpsAgent: new HttpsAgent(agent),
      }),
    });
    return new S3Connection({ sdk, client });
  }

  /**
   * Makes a request, again where that is worth it, with random waits between.
   * @param call makes it, and reads all of its reply @throws {VolsealError} as `storeError`; `ERR_ABORTED`
   */
  async call<Result>(
    operation: string,
    action: string,
    location: S3Location,
    call: (s3: S3, send: { abortSignal: AbortSignal }) => Promise<Result>,
    signal?: AbortSignal,
  ): Promise<Result> {
    const named: S3Call = { operation, action, location };
    const abortSignal = signal ?? new AbortController().signal;
    for (let attempt = 1; ; attempt += 1) {
      try {
        abortSignal.throwIfAborted();
        return await call(this.#s3, { abortSignal });
      } catch (error) {
        if (abortSignal.aborted)
          throw new VolsealError('ERR_ABORTED', `${location.name}: stopped on request`, { cause: error, details: { path: location.name } });
        if (attempt === STORE_ATTEMPTS || !isWorthRetry(error)) throw storeError(error, named);
      }
      const waitMs = randomInt(1 + Math.min(STORE_BACKOFF_MS_MAX, STORE_BACKOFF_MS * 2 ** attempt));
      // The next attempt sees the signal.
      await setTimeout(waitMs, undefined, { signal: abortSignal }).catch(() => {});
    }
  }

  /** Ends its connections. */
  close(): void {
    this.#s3.client.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Another server than AWS often has no regions, and the signature names one all the same. */
async function regionOf(region: string | undefined, endpointUrl: string | undefined) {
  if (region !== undefined) return { region };
  if (endpointUrl === undefined) return {};
  const { loadConfig, NODE_REGION_CONFIG_FILE_OPTIONS, NODE_REGION_CONFIG_OPTIONS } = await import('@smithy/core/config');
  const configured = loadConfig(NODE_REGION_CONFIG_OPTIONS, NODE_REGION_CONFIG_FILE_OPTIONS);
  return { region: () => configured().catch(() => 'us-east-1') };
}
