/** The keys and aliases of a KMS, for programs that make and administer them. */
import type { AliasEntry, KeyCalls, KeyDescription, KeyEntry } from '../kms/client/key-calls.js';
import { chooseKms, forNewKeys } from '../kms/shared/endpoint.js';
import type { LogOptions } from '../logging.js';
import { type KmsAccess, withAccess } from '../volume/unlock.js';
import type { KmsCallTask } from '../workers/key-tasks.js';
import { leasePool } from '../workers/pool.js';

export type { AliasEntry, KeyDescription, KeyEntry };

/** Which KMS has the keys, and with which rights it is asked. */
export interface KmsKeysOptions extends LogOptions {
  /**
   * `embedded`, `embedded:/HOME`, `aws`, `aws:REGION`, `http://HOST:PORT`. Default: `$VOLSEAL_KMS`, else `embedded`.
   */
  kms?: string | undefined;
  /** Where volseal keeps its own files: the embedded KMS and the audit log. */
  home?: string | undefined;
  /** With which rights KMS is asked, where they are not those of the credentials alone. */
  kmsAccess?: KmsAccess | undefined;
  /** Ends calls with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined;
}

/**
 * Keys and aliases of one KMS. `keyId` is an id or an ARN; `aliasName` begins with `alias/`. Every call may throw
 * {VolsealError} `ERR_KMS_DENIED`, `ERR_KMS_NOT_FOUND`, `ERR_KMS_KEY_STATE`, `ERR_KMS_REQUEST`, `ERR_KMS_UNREACHABLE`,
 * `ERR_KMS_STORE`, `ERR_ABORTED`.
 */
export type KmsKeys = KeyCalls;

/**
 * The keys of the KMS that the options name. Nothing is asked before the first call, and nothing has to be closed.
 * `createKey` makes the store of the embedded KMS where there is none. (AWS KMS API Reference)
 *
 * @throws {VolsealError} `ERR_ARGUMENT` where `kms` names no KMS
 */
export function kmsKeys({ kms, home, kmsAccess, signal, logger }: KmsKeysOptions = {}): KmsKeys {
  const endpoint = withAccess(chooseKms({ kms, home }), kmsAccess);
  type Answer<Call extends keyof KeyCalls> = Awaited<ReturnType<KeyCalls[Call]>>;
  async function ask<Call extends keyof KeyCalls>(call: Call, request: Parameters<KeyCalls[Call]>[0]): Promise<Answer<Call>> {
    await using pool = leasePool(logger);
    const task: KmsCallTask<Call> = { kind: 'kmsCall', kms: call === 'createKey' ? forNewKeys(endpoint) : endpoint, call, request };
    return (await pool.run(task, signal)) as Answer<Call>;
  }
  return {
    createKey: (request = {}) => ask('createKey', request),
    describeKey: (request) => ask('describeKey', request),
    enableKey: (request) => ask('enableKey', request),
    disableKey: (request) => ask('disableKey', request),
    listKeys: () => ask('listKeys', undefined),
    createAlias: (request) => ask('createAlias', request),
    updateAlias: (request) => ask('updateAlias', request),
    deleteAlias: (request) => ask('deleteAlias', request),
    listAliases: (request = {}) => ask('listAliases', request),
  };
}
