/**
 * Keys of the embedded KMS: how they are made, found, admitted to an operation, and how their master key is used.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { VolsealError } from '../../errors.js';
import { type KeyHandle, native } from '../../native.js';
import { aliasNotFound, invalidKeyId, keyDisabled, keyNotFound, notAuthorized } from './faults.js';
import { aliasArn, keyArn, keyIdBytes, MANAGED_ALIASES, parseKeyName } from './names.js';
import type { KeyRecord, KmsStore, MaterialRecord } from './store.js';

const MASTER_KEY_BYTES = 32;

/** The operations that concern one key, by their API names. */
export type KeyOperation =
  | 'CreateAlias'
  | 'Decrypt'
  | 'DescribeKey'
  | 'DisableKey'
  | 'EnableKey'
  | 'Encrypt'
  | 'GenerateDataKey'
  | 'GenerateDataKeyWithoutPlaintext'
  | 'ListAliases'
  | 'UpdateAlias';

const NEEDS_ENABLED: ReadonlySet<KeyOperation> = new Set(['Decrypt', 'Encrypt', 'GenerateDataKey', 'GenerateDataKeyWithoutPlaintext']);
const CUSTOMER_ONLY: ReadonlySet<KeyOperation> = new Set(['CreateAlias', 'DisableKey', 'EnableKey', 'UpdateAlias']);

/**
 * Lets `operation` have `key` or throws: every operation on a key passes here, once, before it does anything.
 * @throws {KmsFault} AccessDeniedException, DisabledException
 */
export function admit(operation: KeyOperation, key: KeyRecord): KeyRecord {
  if (key.manager === 'AWS' && CUSTOMER_ONLY.has(operation)) throw notAuthorized(operation, keyArn(key.keyId));
  if (key.state !== 'Enabled' && NEEDS_ENABLED.has(operation)) throw keyDisabled(keyArn(key.keyId));
  return key;
}

/** Makes and stores a new enabled key. */
export function createKey(store: KmsStore, manager: KeyRecord['manager'], description: string): KeyRecord {
  const keyId = randomUUID();
  const createdAtSeconds = Date.now() / 1000;
  const record: KeyRecord = { keyId, state: 'Enabled', manager, description, createdAtSeconds, materials: [newMaterial(store, keyId)] };
  store.transaction(() => store.putKey(record));
  return record;
}

/**
 * The key that a request names by id, ARN, alias or alias ARN, admitted to `operation`. The aliases of AWS managed keys make
 * their key when first named.
 * @throws {KmsFault} NotFoundException, and as `admit`
 */
export function keyNamed(store: KmsStore, operation: KeyOperation, text: string): KeyRecord {
  const name = parseKeyName(text);
  const keyId = 'keyId' in name ? name.keyId : keyIdOfAlias(store, name.aliasName);
  const key = store.key(keyId);
  if (key === undefined) throw keyNotFound(keyArn(keyId));
  return admit(operation, key);
}

/** As `keyNamed`, for the operations whose `KeyId` must be an id or an ARN. @throws {KmsFault} NotFoundException also for an alias */
export function keyWithId(store: KmsStore, operation: KeyOperation, text: string): KeyRecord {
  if ('aliasName' in parseKeyName(text)) throw invalidKeyId(text);
  return keyNamed(store, operation, text);
}

function keyIdOfAlias(store: KmsStore, aliasName: string): string {
  const known = store.alias(aliasName);
  if (known !== undefined) return known.keyId;
  const description = Object.hasOwn(MANAGED_ALIASES, aliasName) ? MANAGED_ALIASES[aliasName] : undefined;
  if (description === undefined) throw aliasNotFound(aliasArn(aliasName));
  return store.transaction(() => {
    // Another process may have made it since: only what is read inside the transaction counts.
    const made = store.alias(aliasName);
    if (made !== undefined) return made.keyId;
    const { keyId, createdAtSeconds } = createKey(store, 'AWS', description);
    store.putAlias({ aliasName, keyId, createdAtSeconds, updatedAtSeconds: createdAtSeconds });
    return keyId;
  });
}

function newMaterial(store: KmsStore, keyId: string): MaterialRecord {
  const materialId = randomBytes(32).toString('hex');
  const master = native.keyGenerate(MASTER_KEY_BYTES);
  try {
    return { materialId, sealed: native.keySeal(store.rootKey, master, boundTo(keyId, materialId)).toString('base64') };
  } finally {
    native.keyWipe(master);
  }
}

/** The material that seals now. */
export const currentMaterial = (key: KeyRecord): MaterialRecord => key.materials.at(-1)!;

/**
 * Calls `use` with the master key in the vault and wipes it afterwards: opening it costs microseconds, so none is kept.
 * @throws {VolsealError} `ERR_KMS_STORE` where the stored material does not open under the root key
 */
export function withMasterKey<Result>(
  store: KmsStore,
  key: KeyRecord,
  material: MaterialRecord,
  use: (master: KeyHandle) => Result,
): Result {
  const sealed = Buffer.from(material.sealed, 'base64');
  const master = native.keyOpen(store.rootKey, sealed, boundTo(key.keyId, material.materialId));
  if (master === undefined) {
    throw new VolsealError(
      'ERR_KMS_STORE',
      `the key material of ${keyArn(key.keyId)} does not open under the root key: the store was changed; restore it from a backup`,
    );
  }
  try {
    return use(master);
  } finally {
    native.keyWipe(master);
  }
}

/** Binds sealed material to its place, so that one key's record cannot be given another's material. */
const boundTo = (keyId: string, materialId: string): Buffer =>
  Buffer.concat([Buffer.from('volseal kms master key\0'), keyIdBytes(keyId), Buffer.from(materialId, 'hex')]);
