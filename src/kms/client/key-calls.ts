/**
 * The calls to KMS about KMS keys and their aliases. (AWS KMS API Reference, CreateKey, DescribeKey, ListKeys,
 * EnableKey, DisableKey, CreateAlias, UpdateAlias, DeleteAlias, ListAliases.)
 */
import type { KeyMetadata } from '@aws-sdk/client-kms';
import type { MakeCall } from './connection.js';
import { type KmsCall, replyError } from './errors.js';

/** What KMS says of a key (DescribeKey). */
export interface KeyDescription {
  /** The id, the last part of the ARN. */
  readonly keyId: string;
  /** The ARN. */
  readonly keyArn: string;
  /** `Enabled`, `Disabled`, `PendingDeletion` ... */
  readonly state: string;
  /** Whether it is AWS managed (`AWS`) or the customer's own (`CUSTOMER`). */
  readonly manager: string;
  /** What whoever made the key wrote of it; empty where nothing. */
  readonly description: string;
  /** ISO 8601; undefined where KMS does not say. */
  readonly createdAt: string | undefined;
}

/** A key as lists name it (ListKeys). */
export interface KeyEntry {
  /** The id, the last part of the ARN. */
  readonly keyId: string;
  /** The ARN. */
  readonly keyArn: string;
}

/** An alias and the key that it names (ListAliases). */
export interface AliasEntry {
  /** With its prefix, `alias/`. */
  readonly aliasName: string;
  /** The ARN of the alias itself. */
  readonly aliasArn: string;
  /** Undefined for an AWS alias that has no key yet. */
  readonly keyId: string | undefined;
}

/** Errors as `Kms` (calls.ts). */
export interface KeyCalls {
  createKey(request?: { description?: string }): Promise<KeyDescription>;
  describeKey(request: { keyId: string }): Promise<KeyDescription>;
  /** A disabled key works again. */
  enableKey(request: { keyId: string }): Promise<void>;
  /** Nothing is wrapped or unwrapped with the key until it is enabled again. */
  disableKey(request: { keyId: string }): Promise<void>;
  /** All keys, however many pages KMS makes of them. */
  listKeys(): Promise<KeyEntry[]>;
  createAlias(request: { aliasName: string; keyId: string }): Promise<void>;
  /** Has an alias that exists name another key. */
  updateAlias(request: { aliasName: string; keyId: string }): Promise<void>;
  /** Removes the name; the key stays. */
  deleteAlias(request: { aliasName: string }): Promise<void>;
  /** All aliases, or those of one key. */
  listAliases(request?: { keyId?: string }): Promise<AliasEntry[]>;
}

/** The calls, made by `call`. */
export function keyCalls(call: MakeCall): KeyCalls {
  return {
    createKey({ description } = {}) {
      return call({ operation: 'CreateKey' }, async ({ sdk, client, sendOptions, named }) => {
        const input = description === undefined ? {} : { Description: description };
        return describe((await client.send(new sdk.CreateKeyCommand(input), sendOptions)).KeyMetadata, named);
      });
    },
    describeKey({ keyId }) {
      return call({ operation: 'DescribeKey', keyId }, async ({ sdk, client, sendOptions, named }) =>
        describe((await client.send(new sdk.DescribeKeyCommand({ KeyId: keyId }), sendOptions)).KeyMetadata, named),
      );
    },
    enableKey({ keyId }) {
      return call({ operation: 'EnableKey', keyId }, async ({ sdk, client, sendOptions }) => {
        await client.send(new sdk.EnableKeyCommand({ KeyId: keyId }), sendOptions);
      });
    },
    disableKey({ keyId }) {
      return call({ operation: 'DisableKey', keyId }, async ({ sdk, client, sendOptions }) => {
        await client.send(new sdk.DisableKeyCommand({ KeyId: keyId }), sendOptions);
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
    updateAlias({ aliasName, keyId }) {
      return call({ operation: `UpdateAlias ${aliasName}`, keyId }, async ({ sdk, client, sendOptions }) => {
        await client.send(new sdk.UpdateAliasCommand({ AliasName: aliasName, TargetKeyId: keyId }), sendOptions);
      });
    },
    deleteAlias({ aliasName }) {
      return call({ operation: `DeleteAlias ${aliasName}` }, async ({ sdk, client, sendOptions }) => {
        await client.send(new sdk.DeleteAliasCommand({ AliasName: aliasName }), sendOptions);
      });
    },
    listAliases({ keyId } = {}) {
      const facts = { operation: 'ListAliases', ...(keyId === undefined ? {} : { keyId }) };
      return call(facts, async ({ sdk, client, sendOptions, pageCame }) => {
        const aliases: AliasEntry[] = [];
        for await (const page of sdk.paginateListAliases({ client }, keyId === undefined ? {} : { KeyId: keyId }, sendOptions)) {
          pageCame();
          for (const { AliasName: aliasName = '', AliasArn: aliasArn = '', TargetKeyId } of page.Aliases ?? []) {
            aliases.push({ aliasName, aliasArn, keyId: TargetKeyId });
          }
        }
        return aliases;
      });
    },
  };
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
