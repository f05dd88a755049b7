/** What the AWS SDK's clients for stores have in common: time-outs, endpoints, regions, one layer of retries. */
import { randomInt } from 'node:crypto';
import { pipeline, type Readable, Transform } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import type { NodeHttpHandler } from '@smithy/node-http-handler';
import { VolsealError } from '../errors.js';
import { STORE_BACKOFF_MS, STORE_BACKOFF_MS_MAX, STORE_CONNECT_MS, STORE_REPLY_BYTES_MAX, STORE_SILENCE_MS } from '../limits.js';
import { askInto, type BodyOptions, withBodyBuffers } from './reply-body.js';

/**
 * Settings of a client, whatever its service. The SDK's own retries are off: they cannot repeat a body that breaks off.
 * @param sockets connections at once
 * @throws {VolsealError} `ERR_ARGUMENT` an endpoint that is no URL, or neither endpoint nor region
 */
export async function clientSettings(endpointUrl: string | undefined, region: string | undefined, sockets: number) {
  if (endpointUrl !== undefined && !(URL.canParse(endpointUrl) && /^https?:/i.test(endpointUrl)))
    throw new VolsealError('ERR_ARGUMENT', `the endpoint ${JSON.stringify(endpointUrl)} is no URL: expected https://HOST[:PORT]`);
  const [{ NodeHttpHandler }, { Agent: HttpAgent }, { Agent: HttpsAgent }] = await Promise.all([
    import('./aws-sdk.js'),
    import('node:http'),
    import('node:https'),
  ]);
  const agent = { keepAlive: true, maxSockets: sockets };
  return {
    ...(endpointUrl === undefined ? {} : { endpoint: endpointUrl }),
    ...(await regionOf(region, endpointUrl)),
    maxAttempts: 1,
    requestHandler: bounded(
      new NodeHttpHandler({
        connectionTimeout: STORE_CONNECT_MS,
        socketTimeout: STORE_SILENCE_MS,
        httpAgent: withBodyBuffers(new HttpAgent(agent)),
        httpsAgent: withBodyBuffers(new HttpsAgent(agent)),
      }),
    ),
  };
}

/** The SDK collects lists and errors in memory, however long they are. */
function bounded(
  inner: NodeHttpHandler,
): Pick<NodeHttpHandler, 'metadata' | 'handle' | 'updateHttpClientConfig' | 'httpHandlerConfigs' | 'destroy'> {
  return {
    metadata: inner.metadata,
    async handle(request, options?: BodyOptions) {
      const into = options?.into;
      const { response } = await askInto(into, () => inner.handle(request, options));
      // A range is counted where it is read (reply-body.ts, sdk-errors.ts), and not copied once more.
      if (response.statusCode !== 206 && into?.isFull !== true) response.body = pipeline(response.body as Readable, countBytes(), () => {});
      return { response };
    },
    updateHttpClientConfig: (key, value) => inner.updateHttpClientConfig(key, value),
    httpHandlerConfigs: () => inner.httpHandlerConfigs(),
    destroy: () => inner.destroy(),
  };
}

function countBytes(): Transform {
  let byteCount = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      byteCount += chunk.length;
      if (byteCount <= STORE_REPLY_BYTES_MAX) return done(null, chunk);
      const message = `the reply has more than ${STORE_REPLY_BYTES_MAX} bytes`;
      // The SDK adds advice to errors that have no metadata.
      done(Object.assign(new Error(message), { name: 'ReplyTooLong', $metadata: {} }));
    },
  });
}

/** Another server than AWS often has no regions, and the signature names one all the same. */
async function regionOf(region: string | undefined, endpointUrl: string | undefined) {
  if (region !== undefined) return { region };
  const { loadConfig, NODE_REGION_CONFIG_FILE_OPTIONS, NODE_REGION_CONFIG_OPTIONS } = await import('./aws-sdk.js');
  const configured = loadConfig(NODE_REGION_CONFIG_OPTIONS, NODE_REGION_CONFIG_FILE_OPTIONS);
  // Once: every request asks for it.
  const found = (await configured().catch(() => '')) || (endpointUrl === undefined ? '' : 'us-east-1');
  if (found !== '') return { region: found };
  throw new VolsealError(
    'ERR_ARGUMENT',
    'no AWS region is known: set AWS_REGION, or AWS_PROFILE to a profile of ~/.aws/config that has a region',
  );
}

/** How a request is repeated. */
export interface Repetition {
  /** Of the object or the snapshot, for messages. */
  readonly name: string;
  readonly signal: AbortSignal | undefined;
  /** Whether the same request may succeed a moment later. `attempt` counts from 1; `sinceMs`: since the first began. */
  isWorthRetry(error: unknown, attempt: number, sinceMs: number): boolean;
  /** What the last failure is for the caller. */
  asError(error: unknown): unknown;
}

/**
 * Makes a request, again where that is worth it, with random waits between.
 * @param call makes it, and reads all of its reply @throws what `asError` gives; `ERR_ABORTED`
 */
export async function repeated<Result>(
  { name, signal, isWorthRetry, asError }: Repetition,
  call: (send: { abortSignal: AbortSignal }) => Promise<Result>,
): Promise<Result> {
  const abortSignal = signal ?? new AbortController().signal;
  const startedMs = performance.now();
  for (let attempt = 1; ; attempt += 1) {
    try {
      abortSignal.throwIfAborted();
      return await call({ abortSignal });
    } catch (error) {
      if (abortSignal.aborted)
        throw new VolsealError('ERR_ABORTED', `${name}: stopped on request`, { cause: error, details: { path: name } });
      if (!isWorthRetry(error, attempt, performance.now() - startedMs)) throw asError(error);
    }
    const waitMs = randomInt(1 + Math.min(STORE_BACKOFF_MS_MAX, STORE_BACKOFF_MS * 2 ** attempt));
    // The next attempt sees the signal.
    await setTimeout(waitMs, undefined, { signal: abortSignal }).catch(() => {});
  }
}
