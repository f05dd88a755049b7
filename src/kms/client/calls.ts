/**
 * The calls to KMS that volseal makes. It is always the AWS SDK's client that makes them; AWS, another server and the embedded KMS
 * differ in the request handler underneath alone.
 */

import type { KeyMetadata } from '@aws-sdk/client-kms';
import { DATA_KEY_BYTES, DATA_KEY_LENGTHS, KMS_CIPHERTEXT_BYTES_MAX } from '../../limits.js';
import { type KeyHandle, native } from '../../native.js';
import { isKeyArn } from '../shared/arn.js';
import { checkContext, type EncryptionContext } from '../shared/encryption-context.js';
import type { KmsEndpoint } from '../shared/endpoint.js';
import { type CallFacts, type CallFrame, type Connection, openConnection } from './connection.js';
import { type KmsCall, replyError } from './errors.js';
import { type GrantCalls, grantCalls, optionsOf } from './grants.js';
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

export interface NewKeyRequest {
  /** Id, ARN or alias. */
  readonly keyId: string;
  readonly context: EncryptionContext;
  readonly grantTokens?: readonly string[];
  /** Asks whether it would be done, and does nothing: `ERR_KMS_DRY_RUN` says yes. */
  readonly dryRun?: boolean;
}

export interface RewrapRequest extends WrappedKey {
  readonly context: EncryptionContext;
  /** The key to be, by id, ARN or alias. */
  readonly toKeyId: string;
  readonly grantTokens?: readonly string[];
  /** As in `NewKeyRequest`. */
  readonly dryRun?: boolean;
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
export interface Kms extends GrantCalls {
  /** A new 64-byte data key, wrapped: nobody sees its plaintext (GenerateDataKeyWithoutPlaintext). `keyId` is an id, an ARN or an alias. */
  generateWrappedKey(request: NewKeyRequest): Promise<WrappedKey>;
  /** The data key in the vault; the caller wipes the handle (Decrypt). @throws {VolsealError} also `ERR_CONTEXT_MISMATCH`, `ERR_MEMORY_LOCK` */
  unwrapKey(request: UnwrapRequest): Promise<KeyHandle>;
  /** Whether `unwrapKey` would be done: nothing is unwrapped (Decrypt, DryRun). @throws {VolsealError} `ERR_KMS_DRY_RUN` for yes */
  tryUnwrap(request: UnwrapRequest): Promise<void>;
  /** The same data key wrapped by another KMS key under the same context, inside KMS (ReEncrypt). @throws {VolsealError} also `ERR_CONTEXT_MISMATCH` */
  rewrapKey(request: RewrapRequest): Promise<WrappedKey>;
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

/**
 * Makes ready to ask the KMS at `endpoint`; the first call connects.
 *
 * @param signal ends calls under way, and all that come after it, with `ERR_ABORTED`; a key on its way is wiped
 */
export function openKms(endpoint: KmsEndpoint, signal?: AbortSignal): Kms {
  return kmsOver(openConnection(endpoint), signal);
}

/** The calls over a connection that others may share. `close` closes it for all of them. @param signal as in `openKms` */
export function kmsOver(connection: Connection, signal?: AbortSignal): Kms {
  const call = <Result>(facts: CallFacts, run: (frame: CallFrame) => Promise<Result>): Promise<Result> =>
    connection.call(facts, signal, run);

  return {
    generateWrappedKey({ keyId, context, grantTokens, dryRun }) {
      return call(
        { operation: 'GenerateDataKeyWithoutPlaintext', keyId, context, grantTokens },
        async ({ sdk, client, sendOptions, named }) => {
          const input = {
            KeyId: keyId,
            NumberOfBytes: DATA_KEY_BYTES,
            EncryptionContext: checkContext(context),
            ...optionsOf({ grantTokens, dryRun }),
          };
          const reply = await client.send(new sdk.GenerateDataKeyWithoutPlaintextCommand(input), sendOptions);
          return wrappedKeyOf(reply, keyId, named);
        },
      );
    },

    unwrapKey({ keyArn, encryptedDataKey, context, grantTokens }) {
      return call({ operation: 'Decrypt', keyId: keyArn, context, grantTokens }, async ({ sdk, client, sendOptions, named }) => {
        const keySlot = new KeySlot();
        const options: SlotOptions = { ...sendOptions, keySlot };
        const input = {
          KeyId: keyArn,
          CiphertextBlob: encryptedDataKey,
          EncryptionContext: checkContext(context),
          ...optionsOf({ grantTokens }),
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

    tryUnwrap({ keyArn, encryptedDataKey, context, grantTokens }) {
      return call({ operation: 'Decrypt', keyId: keyArn, context, grantTokens }, async ({ sdk, client, sendOptions }) => {
        const input = { KeyId: keyArn, CiphertextBlob: encryptedDataKey, EncryptionContext: checkContext(context) };
        await client.send(new sdk.DecryptCommand({ ...input, ...optionsOf({ grantTokens, dryRun: true }) }), sendOptions);
      });
    },

    rewrapKey({ keyArn, encryptedDataKey, context, toKeyId, grantTokens, dryRun }) {
      return call(
        { operation: 'ReEncrypt', keyId: `${keyArn} to ${toKeyId}`, context, grantTokens },
        async ({ sdk, client, sendOptions, named }) => {
          const EncryptionContext = checkContext(context);
          const input = {
            SourceKeyId: keyArn,
            CiphertextBlob: encryptedDataKey,
            SourceEncryptionContext: EncryptionContext,
            DestinationKeyId: toKeyId,
            DestinationEncryptionContext: EncryptionContext,
            ...optionsOf({ grantTokens, dryRun }),
          };
          const reply = await client.send(new sdk.ReEncryptCommand(input), sendOptions);
          if (reply.SourceKeyId !== keyArn)
            throw replyError(`the reply comes from another key, ${JSON.stringify(reply.SourceKeyId)}`, named);
          return wrappedKeyOf(reply, toKeyId, named);
        },
      );
    },

    createKey({ description } = {}) {
      return call({ operation: 'CreateKey' }, async ({ sdk, client, sendOptions, named }) => {
        const reply = await client.send(
          new sdk.CreateKeyCommand(description === undefined ? {} : { Description: description }),
          sendOptions,
        );
        return describe(reply.KeyMetadata, named);
      });
    },

    describeKey({ keyId }) {
      return call({ operation: 'DescribeKey', keyId }, async ({ sdk, client, sendOptions, named }) => {
        const reply = await client.send(new sdk.DescribeKeyCommand({ KeyId: keyId }), sendOptions);
        return describe(reply.KeyMetadata, named);
      });
    },

    listKeys() {
      return call({ operation: 'ListKeys' }, async ({ sdk, client, sendOptions, pageCame }) => {
        const keys: KeyEntry[] = [];
        for await (const page of sdk.paginateListKeys({ client }, {}, sendOptions)) {
          pageCame();
          for (const { KeyId: keyId = '', KeyArn: keyArn = '' } of page.Keys ?? []) keys.push({ keyId, keyArn });
        }
        return keys;
      });
    },

    createAlias({ aliasName, keyId }) {
      return call({ operation: `CreateAlias ${aliasName}`, keyId }, async ({ sdk, client, sendOptions }) => {
        await client.send(new sdk.CreateAliasCommand({ AliasName: aliasName, TargetKeyId: keyId }), sendOptions);
      });
    },

    listAliases({ keyId } = {}) {
      return call(
        { operation: 'ListAliases', ...(keyId === undefined ? {} : { keyId }) },
        async ({ sdk, client, sendOptions, pageCame }) => {
          const aliases: AliasEntry[] = [];
          for await (const page of sdk.paginateListAliases({ client }, keyId === undefined ? {} : { KeyId: keyId }, sendOptions)) {
            pageCame();
            for (const { AliasName: aliasName = '', AliasArn: aliasArn = '', TargetKeyId } of page.Aliases ?? []) {
              aliases.push({ aliasName, aliasArn, keyId: TargetKeyId });
            }
          }
          return aliases;
        },
      );
    },

    ...grantCalls(call),

    close: () => connection.close(),
  };
}

/** What a reply says a data key was wrapped as. @param keyId what was asked for */
function wrappedKeyOf(
  { KeyId: keyArn, CiphertextBlob: blob }: { KeyId?: string | undefined; CiphertextBlob?: Uint8Array | undefined },
  keyId: string,
  call: KmsCall,
): WrappedKey {
  if (keyArn === undefined || !isKeyArn(keyArn)) {
    throw replyError(`the reply names the key ${JSON.stringify(keyArn)}, not the ARN of one`, call);
  }
  if (isKeyArn(keyId) && keyArn !== keyId) throw replyError(`the reply comes from another key, ${keyArn}`, call);
  if (blob === undefined || blob.length === 0 || blob.length > KMS_CIPHERTEXT_BYTES_MAX) {
    throw replyError(
      `the reply holds an encrypted data key of ${blob?.length ?? 0} bytes; 1 to ${KMS_CIPHERTEXT_BYTES_MAX} are possible`,
      call,
    );
  }
  return { keyArn, encryptedDataKey: Buffer.from(blob) };
}

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
