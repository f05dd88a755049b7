/**
 * The calls to KMS that volseal makes. It is always the AWS SDK's client that makes them; AWS, another server and the embedded KMS
 * differ in the request handler underneath alone.
 */
import { once } from 'node:events';
import type { KeyMetadata, KMSClient } from '@aws-sdk/client-kms';
import { VolsealError } from '../errors.js';
import { DATA_KEY_BYTES, DATA_KEY_LENGTHS, KMS_ATTEMPTS, KMS_CIPHERTEXT_BYTES_MAX } from '../limits.js';
import { type KeyHandle, native } from '../native.js';
import { checkContext, type EncryptionContext } from './encryption-context.js';
import type { KmsEndpoint } from './endpoint.js';
import { abortedError, type KmsCall, kmsError, replyError } from './errors.js';
import { KeySlot, type SlotOptions } from './key-slot.js';

/** A data key as KMS wrapped it, and the key that can unwrap it. */
export interface WrappedKey {
  readonly keyArn: string;
  readonly encryptedDataKey: Buffer;
}

export interface UnwrapRequest extends WrappedKey {
  readonly context: EncryptionContext;
  /** Tokens of grants that KMS may not have spread yet (CreateGrant). */
  readonly grantTokens?: readonly string[];
}

/** What KMS says of a key (DescribeKey). */
export interface KeyDescription {
  readonly keyId: string;
  readonly keyArn: string;
  /** `Enabled`, `Disabled`, `PendingDeletion` ... */
  readonly state: string;
  /** Whether it is AWS managed (`AWS`) or the customer's own (`CUSTOMER`). */
  readonly manager: string;
  readonly description: string;
  /** ISO 8601, or undefined where KMS does not say. */
  readonly createdAt: string | undefined;
}

export interface KeyEntry {
  readonly keyId: string;
  readonly keyArn: string;
}

export interface AliasEntry {
  /** With its prefix, `alias/`. */
  readonly aliasName: string;
  readonly aliasArn: string;
  /** Undefined for an AWS alias that has no key yet. */
  readonly keyId: string | undefined;
}

/**
 * KMS at one endpoint. Every method throws {VolsealError}: `ERR_KMS_UNREACHABLE`, `ERR_KMS_DENIED`, `ERR_KMS_NOT_FOUND`,
 * `ERR_KMS_KEY_STATE`, `ERR_KMS_REQUEST`, `ERR_KMS_REPLY`, `ERR_KMS_STORE` (embedded only), `ERR_ARGUMENT` (no region), `ERR_ABORTED`.
 */
export interface Kms {
  /** A new 64-byte data key, wrapped: nobody sees its plaintext (GenerateDataKeyWithoutPlaintext). `keyId` is an id, an ARN or an alias. */
  generateWrappedKey(request: { keyId: string; context: EncryptionContext }): Promise<WrappedKey>;
  /** The data key in the vault; the caller wipes the handle (Decrypt). @throws {VolsealError} also `ERR_CONTEXT_MISMATCH`, `ERR_MEMORY_LOCK` */
  unwrapKey(request: UnwrapRequest): Promise<KeyHandle>;
  createKey(request?: { description?: string }): Promise<KeyDescription>;
  describeKey(request: { keyId: string }): Promise<KeyDescription>;
  /** All keys, however many pages KMS makes of them. */
  listKeys(): Promise<KeyEntry[]>;
  createAlias(request: { aliasName: string; keyId: string }): Promise<void>;
  /** All aliases, or those of one key. */
  listAliases(request?: { keyId?: string }): Promise<AliasEntry[]>;
  /** Ends connections and closes an embedded KMS. Calls under way fail. */
  close(): void;
}

/** The SDK, loaded with the first call (it takes about 0.1 s), and its client for one endpoint. */
interface Connection {
  readonly sdk: typeof import('@aws-sdk/client-kms');
  readonly client: KMSClient;
}

/**
 * Makes ready to ask the KMS at `endpoint`; the first call connects.
 *
 * @param signal ends calls under way, and all that come after it, with `ERR_ABORTED`; a key on its way is wiped
 */
export function openKms(endpoint: KmsEndpoint, signal?: AbortSignal): Kms {
  let connection: Promise<Connection> | undefined;
  let closed = false;

  async function call<Result>(
    facts: Omit<KmsCall, 'endpoint'>,
    run: (connection: Connection, call: KmsCall) => Promise<Result>,
  ): Promise<Result> {
    const named: KmsCall = { ...facts, endpoint };
    if (closed) throw new VolsealError('ERR_ARGUMENT', `${facts.operation}: this KMS client was closed`);
    try {
      signal?.throwIfAborted();
      connection ??= connect(endpoint).catch((error: unknown) => {
        // What kept it from opening may be mended by the next call.
        connection = undefined;
        throw error;
      });
      const connected = await connection;
      signal?.throwIfAborted();
      // The SDK looks at the signal only once it has credentials, and fetching those can take any time.
      const { config } = connected.client;
      // The region first, as the SDK does: without one nobody needs credentials.
      await config.region();
      await untilAborted(config.credentials(), signal);
      return await run(connected, named);
    } catch (error) {
      throw signal?.aborted ? abortedError(error, named) : kmsError(error, named);
    }
  }
  const sendOptions = signal === undefined ? {} : { abortSignal: signal };

  return {
    generateWrappedKey({ keyId, context }) {
      return call({ operation: 'GenerateDataKeyWithoutPlaintext', keyId, context }, async ({ sdk, client }, named) => {
        const input = { KeyId: keyId, NumberOfBytes: DATA_KEY_BYTES, EncryptionContext: checkContext(context) };
        const reply = await client.send(new sdk.GenerateDataKeyWithoutPlaintextCommand(input), sendOptions);
        const { KeyId: keyArn, CiphertextBlob: blob } = reply;
        if (keyArn === undefined || !isKeyArn(keyArn))
          throw replyError(`the reply names the key ${JSON.stringify(keyArn)}, not the ARN of one`, named);
        if (isKeyArn(keyId) && keyArn !== keyId) throw replyError(`the reply comes from another key, ${keyArn}`, named);
        if (blob === undefined || blob.length === 0 || blob.length > KMS_CIPHERTEXT_BYTES_MAX) {
          throw replyError(
            `the reply holds an encrypted data key of ${blob?.length ?? 0} bytes; 1 to ${KMS_CIPHERTEXT_BYTES_MAX} are possible`,
            named,
          );
        }
        return { keyArn, encryptedDataKey: Buffer.from(blob) };
      });
    },

    unwrapKey({ keyArn, encryptedDataKey, context, grantTokens = [] }) {
      return call({ operation: 'Decrypt', keyId: keyArn, context }, async ({ sdk, client }, named) => {
        const keySlot = new KeySlot();
        const options: SlotOptions = { ...sendOptions, keySlot };
        const input = {
          KeyId: keyArn,
          CiphertextBlob: encryptedDataKey,
          EncryptionContext: checkContext(context),
          ...(grantTokens.length === 0 ? {} : { GrantTokens: [...grantTokens] }),
        };
        try {
          const reply = await client.send(new sdk.DecryptCommand(input), options);
          if (reply.KeyId !== keyArn) throw replyError(`the reply comes from another key, ${JSON.stringify(reply.KeyId)}`, named);
          const key = keySlot.take();
          if (key === undefined) throw replyError('the reply holds no key', named);
          const byteLength = native.keyByteLength(key);
          if (!DATA_KEY_LENGTHS.includes(byteLength)) {
            native.keyWipe(key);
            throw replyError(`the reply holds a key of ${byteLength} bytes; a data key has ${DATA_KEY_LENGTHS.join(' or ')}`, named);
          }
          return key;
        } finally {
          keySlot.wipe();
        }
      });
    },

    createKey({ description } = {}) {
      return call({ operation: 'CreateKey' }, async ({ sdk, client }, named) => {
        const reply = await client.send(
          new sdk.CreateKeyCommand(description === undefined ? {} : { Description: description }),
          sendOptions,
        );
        return describe(reply.KeyMetadata, named);
      });
    },

    describeKey({ keyId }) {
      return call({ operation: 'DescribeKey', keyId }, async ({ sdk, client }, named) => {
        const reply = await client.send(new sdk.DescribeKeyCommand({ KeyId: keyId }), sendOptions);
        return describe(reply.KeyMetadata, named);
      });
    },

    listKeys() {
      return call({ operation: 'ListKeys' }, async ({ sdk, client }) => {
        const keys: KeyEntry[] = [];
        for await (const page of sdk.paginateListKeys({ client }, {}, sendOptions)) {
          for (const { KeyId: keyId = '', KeyArn: keyArn = '' } of page.Keys ?? []) keys.push({ keyId, keyArn });
        }
        return keys;
      });
    },

    createAlias({ aliasName, keyId }) {
      return call({ operation: `CreateAlias ${aliasName}`, keyId }, async ({ sdk, client }) => {
        await client.send(new sdk.CreateAliasCommand({ AliasName: aliasName, TargetKeyId: keyId }), sendOptions);
      });
    },

    listAliases({ keyId } = {}) {
      return call({ operation: 'ListAliases', ...(keyId === undefined ? {} : { keyId }) }, async ({ sdk, client }) => {
        const aliases: AliasEntry[] = [];
        for await (const page of sdk.paginateListAliases({ client }, keyId === undefined ? {} : { KeyId: keyId }, sendOptions)) {
          for (const { AliasName: aliasName = '', AliasArn: aliasArn = '', TargetKeyId } of page.Aliases ?? []) {
            aliases.push({ aliasName, aliasArn, keyId: TargetKeyId });
          }
        }
        return aliases;
      });
    },

    close() {
      closed = true;
      // A connection that failed has already been reported by the call that needed it.
      connection?.then(({ client }) => client.destroy()).catch(() => {});
    },
  };
}

/** What `work` gives. @throws what `work` throws; the signal's reason as soon as it comes: `work` goes on alone */
async function untilAborted<Result>(work: Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
  if (signal === undefined) return work;
  const done = new AbortController();
  const aborted = once(signal, 'abort', { signal: done.signal }).then(() => {
    throw signal.reason;
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    done.abort();
  }
}

const isKeyArn = (text: string): boolean => /^arn:[^:]+:kms:[^:]+:[^:]+:key\/.+$/.test(text);

function describe(metadata: KeyMetadata | undefined, call: KmsCall): KeyDescription {
  if (metadata?.KeyId === undefined || metadata.Arn === undefined) throw replyError('the reply does not say which key it is about', call);
  return {
    keyId: metadata.KeyId,
    keyArn: metadata.Arn,
    state: metadata.KeyState ?? '',
    manager: metadata.KeyManager ?? '',
    description: metadata.Description ?? '',
    createdAt: metadata.CreationDate?.toISOString(),
  };
}

async function connect(endpoint: KmsEndpoint): Promise<Connection> {
  const sdk = await import('@aws-sdk/client-kms');
  const common = { maxAttempts: KMS_ATTEMPTS };
  switch (endpoint.kind) {
    case 'aws': {
      const { httpKeyIntake } = await import('./intake.js');
      const region = endpoint.region === undefined ? {} : { region: endpoint.region };
      return { sdk, client: new sdk.KMSClient({ ...common, ...region, requestHandler: httpKeyIntake() }) };
    }
    case 'url': {
      const [{ httpKeyIntake }, { emulatorCredentials }, { EMULATOR_REGION }] = await Promise.all([
        import('./intake.js'),
        import('./credentials.js'),
        import('./placeholder.js'),
      ]);
      const place = { endpoint: endpoint.url, region: EMULATOR_REGION, credentials: emulatorCredentials() };
      return { sdk, client: new sdk.KMSClient({ ...common, ...place, requestHandler: httpKeyIntake() }) };
    }
    case 'embedded': {
      const [{ embeddedHandler }, { PLACEHOLDER, EMULATOR_REGION }] = await Promise.all([
        import('./in-process.js'),
        import('./placeholder.js'),
      ]);
      const place = { region: EMULATOR_REGION, credentials: PLACEHOLDER };
      return { sdk, client: new sdk.KMSClient({ ...common, ...place, requestHandler: embeddedHandler(endpoint.home) }) };
    }
  }
}
