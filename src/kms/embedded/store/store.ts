/**
 * The embedded KMS's store: its records (./records.ts) in an LMDB file (../../lmdb/records.ts). Master keys are sealed
 * under the root key.
 */
import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type * as z from 'zod';
import { type LogState, logState } from '../../../audit/state.js';
import { asVolsealError, VolsealError } from '../../../errors.js';
import { KMS_STORE_BYTES_MAX } from '../../../limits.js';
import { openRecords, type Records, type RecordsOf } from '../../../lmdb/records.js';
import { type KeyHandle, native } from '../../../native.js';
import { checkOwnDirectory } from '../../../own-files.js';
import { type GrantStore, grantStore } from '../grants/grant-store.js';
import { DEFAULT_ACCOUNT, type KmsAccount } from '../keys/names.js';
import {
  type AccessKeyRecord,
  type AliasRecord,
  accessKeyRecord,
  aliasRecord,
  type KeyRecord,
  keyRecord,
  type PrincipalRecord,
  principalRecord,
  storeRecord,
} from './records.js';
import { describeRootKey, openRootKey } from './root-key-source.js';

const STORE_KEY = 'store';
const KEY_PREFIX = 'key/';
const ALIAS_PREFIX = 'alias/';
const PRINCIPAL_PREFIX = 'principal/';
const ACCESS_KEY_PREFIX = 'access-key/';
/** How far the audit log has reached. Backups do not have it. */
export const AUDIT_KEY = 'audit';

export const STORE_FILE: RecordsOf = { name: 'the store of the embedded KMS', code: 'ERR_KMS_STORE', bytesMax: KMS_STORE_BYTES_MAX };

export interface KmsStore extends GrantStore {
  /** Seals master keys. The store's own: wiped by `close`. */
  readonly rootKey: KeyHandle;
  /** The region and the account that ARNs name. */
  readonly account: KmsAccount;
  key(keyId: string): KeyRecord | undefined;
  putKey(record: KeyRecord): void;
  removeKey(keyId: string): void;
  /** @param aliasName With its prefix, `alias/`. */
  alias(aliasName: string): AliasRecord | undefined;
  putAlias(record: AliasRecord): void;
  removeAlias(aliasName: string): void;
  /** Up to `limit` keys in the order of their ids, from the one after `afterKeyId`. */
  keys(limit: number, afterKeyId?: string): KeyRecord[];
  /** All aliases in the order of their names. */
  aliases(): AliasRecord[];
  principal(principalArn: string): PrincipalRecord | undefined;
  putPrincipal(record: PrincipalRecord): void;
  removePrincipal(principalArn: string): void;
  /** All principals in the order of their ARNs. */
  principals(): PrincipalRecord[];
  accessKey(accessKeyId: string): AccessKeyRecord | undefined;
  putAccessKey(record: AccessKeyRecord): void;
  removeAccessKey(accessKeyId: string): void;
  /** All access keys in the order of their ids. */
  accessKeys(): AccessKeyRecord[];
  /** How far the audit log has reached; undefined where nothing was recorded since the store was made or restored. */
  auditState(): LogState | undefined;
  putAuditState(state: LogState): void;
  /**
   * Runs `change` as one transaction while no other thread or process writes; what it throws undoes it. Durable when
   * this returns. A transaction within a transaction is part of it.
   */
  transaction<Result>(change: () => Result): Result;
  /** Makes later reads see what other threads and processes have committed by now. */
  refresh(): void;
  /** Writes a copy of the whole store, as it is at one moment, to a file that is not there yet. */
  copyTo(path: string): Promise<void>;
  /** Once, and nothing after it: LMDB frees its memory. */
  close(): Promise<void>;
}

/**
 * Opens the store of `home`, in its directory `kms`. Makes the store and its root key where there is none.
 *
 * @throws {VolsealError} `ERR_KMS_STORE` where the store is damaged or of another version, where its root key is
 * missing, is not the one of this store or may be read by others; `ERR_IO`, `ERR_MEMORY_LOCK`
 */
export function openStore(home: string, mode: StoreMode = 'create', account?: KmsAccount): KmsStore {
  const directory = join(home, 'kms');
  const path = join(directory, 'store.mdb');
  checkOwnDirectory(home);
  if (mode === 'existing' && !isThere(path)) throw noStore(home);
  const records = openRecords(path, STORE_FILE);
  try {
    return storeOver(records, loadRootKey(records, path, directory, mode, account));
  } catch (error) {
    void records.close();
    throw error;
  }
}

/**
 * Whether a store may be made where there is none: only by what makes a key, a principal or a server. A reader must
 * find one.
 */
export type StoreMode = 'create' | 'existing';

/** What a reader meets where nobody has made a key: perhaps in the wrong home. */
const noStore = (home: string): VolsealError =>
  new VolsealError('ERR_KMS_NOT_FOUND', `there is no embedded KMS in ${home}`, { details: { name: 'NoStore', home } });

function isThere(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    // A part of the path that is a file: nothing can be below it.
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return false;
    throw asVolsealError(error, path);
  }
}

/**
 * Reads the root key, or makes it with a new store, in a transaction: of several processes that start at once, one
 * makes it.
 */
function loadRootKey(records: Records, path: string, directory: string, mode: StoreMode, account: KmsAccount | undefined): KeyHandle {
  const known = records.read(STORE_KEY, storeRecord);
  if (known !== undefined && account !== undefined) {
    throw new VolsealError('ERR_KMS_STORE', `${path} is there already: region and account of a store are chosen before it is made`);
  }
  if (known !== undefined) return checkedRootKey(known, path, directory);
  if (mode === 'existing') throw noStore(dirname(directory));
  return records.transaction(() => {
    const made = records.read(STORE_KEY, storeRecord);
    if (made !== undefined) return checkedRootKey(made, path, directory);
    // A key file may exist already: the process that made it was killed before it could write the record.
    const rootKey = openRootKey(directory, true)!;
    try {
      records.put(STORE_KEY, { format: 1, rootKeyCheck: checkOf(rootKey), ...(account === undefined ? {} : { account }) });
      return rootKey;
    } catch (error) {
      native.keyWipe(rootKey);
      throw error;
    }
  });
}

function checkedRootKey({ rootKeyCheck }: z.infer<typeof storeRecord>, path: string, directory: string): KeyHandle {
  const rootKey = openRootKey(directory, false);
  if (rootKey === undefined) {
    throw new VolsealError(
      'ERR_KMS_STORE',
      `${join(directory, 'root.key')} is missing: the keys in ${path} cannot be opened without it; restore it from a backup`,
    );
  }
  if (checkOf(rootKey) === rootKeyCheck) return rootKey;
  native.keyWipe(rootKey);
  const problem = `${describeRootKey(directory)} is not the root key that ${path} was made with; restore both from the same backup`;
  throw new VolsealError('ERR_KMS_STORE', problem);
}

const checkOf = (rootKey: KeyHandle): string => native.keyHmac(rootKey, Buffer.from('volseal kms root key check')).toString('hex');

function storeOver(records: Records, rootKey: KeyHandle): KmsStore {
  const all = <Schema extends z.ZodType>(prefix: string, schema: Schema): z.infer<Schema>[] =>
    records.range(prefix).map((key) => records.required(key, schema));
  return {
    rootKey,
    account: records.read(STORE_KEY, storeRecord)?.account ?? DEFAULT_ACCOUNT,
    ...grantStore(records),
    key: (keyId) => records.read(KEY_PREFIX + keyId, keyRecord),
    putKey: (record) => records.put(KEY_PREFIX + record.keyId, record),
    removeKey: (keyId) => records.remove(KEY_PREFIX + keyId),
    keys: (limit, afterKeyId) => records.range(KEY_PREFIX, afterKeyId, limit).map((key) => records.required(key, keyRecord)),
    alias: (aliasName) => records.read(aliasName, aliasRecord),
    putAlias: (record) => records.put(record.aliasName, record),
    removeAlias: (aliasName) => records.remove(aliasName),
    aliases: () => all(ALIAS_PREFIX, aliasRecord),
    principal: (principalArn) => records.read(PRINCIPAL_PREFIX + principalArn, principalRecord),
    putPrincipal: (record) => records.put(PRINCIPAL_PREFIX + record.principalArn, record),
    removePrincipal: (principalArn) => records.remove(PRINCIPAL_PREFIX + principalArn),
    principals: () => all(PRINCIPAL_PREFIX, principalRecord),
    accessKey: (accessKeyId) => records.read(ACCESS_KEY_PREFIX + accessKeyId, accessKeyRecord),
    putAccessKey: (record) => records.put(ACCESS_KEY_PREFIX + record.accessKeyId, record),
    removeAccessKey: (accessKeyId) => records.remove(ACCESS_KEY_PREFIX + accessKeyId),
    accessKeys: () => all(ACCESS_KEY_PREFIX, accessKeyRecord),
    auditState() {
      records.refresh();
      return records.read(AUDIT_KEY, logState);
    },
    putAuditState: (state) => records.put(AUDIT_KEY, state),
    transaction: records.transaction,
    refresh: records.refresh,
    copyTo: records.copyTo,
    async close() {
      native.keyWipe(rootKey);
      await records.close();
    },
  };
}
