/**
 * A connection to one KMS: the AWS SDK's client over the request handler for the endpoint, and the frame around every
 * call: credentials, abort, deadline, errors that name the call.
 */
import type { KMSClient } from '@aws-sdk/client-kms';
import { VolsealError } from '../../errors.js';
import { KMS_ATTEMPTS, KMS_DEADLINE_MS } from '../../limits.js';
import type { KmsCaller, KmsEndpoint } from '../shared/endpoint.js';
import { abortedError, deadlineError, type KmsCall, kmsError } from './errors.js';
import type { RequestHandler } from './key-intake.js';
import { PLACEHOLDER } from './placeholder.js';
import { untilAborted } from './until-aborted.js';

/**
 * The SDK, loaded with the first call (it takes about 0.1 s), and its client for one endpoint. The package's
 * declarations are without them, because an installation does not bring the SDK.
 */
export interface Connected {
  /** @internal */
  readonly sdk: typeof import('./kms-sdk.js');
  /** @internal */
  readonly client: KMSClient;
}

/** What a call gets: the SDK, the options for its `send`, and the call's description for errors. */
export interface CallFrame extends Connected {
  readonly sendOptions: { abortSignal: AbortSignal };
  readonly named: KmsCall;
  /** A page of a list has arrived: the deadline starts again. */
  pageCame(): void;
}

/** The description of a call without its endpoint. */
export type CallFacts = Omit<KmsCall, 'endpoint'>;

export interface Connection {
  /**
   * Makes a call, in the frame that all of them have. @param signal ends it with `ERR_ABORTED`
   * @throws {VolsealError} as `Kms` (calls.ts); `ERR_KMS_UNREACHABLE` also after `KMS_DEADLINE_MS`
   */
  call<Result>(facts: CallFacts, signal: AbortSignal | undefined, run: (frame: CallFrame) => Promise<Result>): Promise<Result>;
  /** Ends connections and closes an embedded KMS. Calls under way fail. */
  close(): void;
}

/** Makes a call in the frame of its connection: what groups of calls are made of. */
export type MakeCall = <Result>(facts: CallFacts, run: (frame: CallFrame) => Promise<Result>) => Promise<Result>;

/** Members of a request that are left out where they say nothing. */
export function optionsOf({ grantTokens = [] }: { grantTokens?: readonly string[] | undefined }) {
  return grantTokens.length === 0 ? {} : { GrantTokens: [...grantTokens] };
}

/** A connection to the KMS at `endpoint`; its first call connects. */
export function openConnection(endpoint: KmsEndpoint): Connection {
  let connecting: Promise<Connected> | undefined;
  let closed = false;
  return {
    async call(facts, signal, run) {
      let named: KmsCall = { ...facts, endpoint };
      if (closed) throw new VolsealError('ERR_ARGUMENT', `${facts.operation}: this KMS client was closed`);
      const deadline = new AbortController();
      const timer = setTimeout(() => deadline.abort(), KMS_DEADLINE_MS);
      const ended = signal === undefined ? deadline.signal : AbortSignal.any([signal, deadline.signal]);
      try {
        signal?.throwIfAborted();
        connecting ??= connect(endpoint).catch((error: unknown) => {
          // The next call tries again.
          connecting = undefined;
          throw error;
        });
        const connected = await connecting;
        signal?.throwIfAborted();
        // The SDK checks the signal only after it has credentials, and fetching them can take any time.
        const { config } = connected.client;
        // The region first, as the SDK does: without a region no credentials are needed.
        await config.region();
        const { accessKeyId } = await untilAborted(config.credentials(), ended);
        if (endpoint.kind === 'url' && accessKeyId === PLACEHOLDER.accessKeyId) named = { ...named, isUnsigned: true };
        return await run({ ...connected, sendOptions: { abortSignal: ended }, named, pageCame: () => timer.refresh() });
      } catch (error) {
        if (signal?.aborted) throw abortedError(error, named);
        throw deadline.signal.aborted ? deadlineError(error, named) : kmsError(error, named);
      } finally {
        clearTimeout(timer);
      }
    },
    close() {
      closed = true;
      // The call that needed a connection that failed has reported it.
      connecting?.then(({ client }) => client.destroy()).catch(() => {});
    },
  };
}

/** Loads the modules of a connection to such a KMS before its first call. */
export async function loadConnection(kind: KmsEndpoint['kind']): Promise<undefined> {
  await Promise.all([import('./kms-sdk.js'), kind === 'embedded' ? import('./in-process.js') : import('./key-intake.js')]);
}

async function connect(endpoint: KmsEndpoint): Promise<Connected> {
  const sdk = await import('./kms-sdk.js');
  // Adaptive: after a throttled call, this client delays the next ones, with jitter.
  const common = { maxAttempts: KMS_ATTEMPTS, retryMode: 'adaptive' };
  switch (endpoint.kind) {
    case 'aws': {
      const { principal, credentials } = endpoint;
      const region = endpoint.region === undefined ? {} : { region: endpoint.region };
      const given = credentials === undefined ? {} : { credentials };
      const caller = principal === undefined ? given : { credentials: await roleCredentials(principal, credentials) };
      const requestHandler = await handlerFor(endpoint);
      return { sdk, client: await audited(new sdk.KMSClient({ ...common, ...region, ...caller, requestHandler }), endpoint) };
    }
    case 'url': {
      const [requestHandler, { emulatorCredentials }, { EMULATOR_REGION }] = await Promise.all([
        handlerFor(endpoint),
        import('./credentials.js'),
        import('./placeholder.js'),
      ]);
      const region = endpoint.signingRegion ?? EMULATOR_REGION;
      const credentials = endpoint.credentials ?? emulatorCredentials();
      const settings = { endpoint: endpoint.url, region, credentials, requestHandler };
      return { sdk, client: await audited(new sdk.KMSClient({ ...common, ...settings }), endpoint) };
    }
    case 'embedded': {
      const [{ embeddedHandler }, { PLACEHOLDER, EMULATOR_REGION }] = await Promise.all([
        import('./in-process.js'),
        import('./placeholder.js'),
      ]);
      const settings = { region: EMULATOR_REGION, credentials: PLACEHOLDER };
      return { sdk, client: new sdk.KMSClient({ ...common, ...settings, requestHandler: embeddedHandler(endpoint) }) };
    }
  }
}

/** The embedded KMS records calls itself; calls to others are recorded here. */
async function audited(client: KMSClient, endpoint: Exclude<KmsEndpoint, { kind: 'embedded' }>): Promise<KMSClient> {
  const { auditCalls } = await import('./call-audit.js');
  auditCalls(client, endpoint);
  return client;
}

/** Credentials of a role that the user may assume (AWS STS); renewed before they expire. */
async function roleCredentials(roleArn: string, own: KmsCaller['credentials']) {
  const { fromTemporaryCredentials } = await import('@aws-sdk/credential-providers');
  const masterCredentials = own === undefined ? {} : { masterCredentials: own };
  return fromTemporaryCredentials({ ...masterCredentials, params: { RoleArn: roleArn, RoleSessionName: 'volseal' } });
}

/**
 * The handler for calls whose credentials the caller gives: its client ends with the call (key-tasks.ts), and its
 * connections wait here for the next one.
 */
let lasting: RequestHandler | undefined;

async function handlerFor({ credentials }: KmsCaller): Promise<RequestHandler> {
  const [{ httpKeyIntake }, { withoutProxy }] = await Promise.all([import('./key-intake.js'), import('./proxy.js')]);
  if (credentials === undefined) return withoutProxy(httpKeyIntake());
  lasting ??= { ...withoutProxy(httpKeyIntake()), destroy() {} };
  return lasting;
}
