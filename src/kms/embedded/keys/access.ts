/** How an operation gets a key: find it by its name, authorize the caller, check the key's state. */
import { aliasNotFound, invalidKeyId, KmsFault, keyDisabled, keyNotFound, keyNotPendingDeletion, keyPendingDeletion } from '../faults.js';
import type { OperationCall } from '../operations/define.js';
import { authorize } from '../policy/authorization.js';
import type { AuthorizationRequest } from '../policy/request-conditions.js';
import type { KeyRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';
import { makeKey, nextRotation } from './material.js';
import { aliasArn, keyArn, MANAGED_ALIASES, parseKeyName } from './names.js';

/** AWS rotates the keys that it manages every year. (Developer Guide, "AWS managed keys".) */
const MANAGED_ROTATION_DAYS = 365;

/** Actions that need an enabled key. (Developer Guide, "Key states of AWS KMS keys".) */
const NEEDS_ENABLED: ReadonlySet<string> = new Set([
  'CreateGrant',
  'Decrypt',
  'DisableKeyRotation',
  'EnableKeyRotation',
  'Encrypt',
  'GenerateDataKey',
  'GenerateDataKeyWithoutPlaintext',
  'ReEncryptFrom',
  'ReEncryptTo',
  'RotateKeyOnDemand',
]);
/** Actions that a key pending deletion refuses. */
const REFUSES_PENDING_DELETION: ReadonlySet<string> = new Set([
  ...NEEDS_ENABLED,
  'CreateAlias',
  'DisableKey',
  'EnableKey',
  'ScheduleKeyDeletion',
  'TagResource',
  'UntagResource',
  'UpdateAlias',
  'UpdateKeyDescription',
]);

/** One use of a key; `action` is the API's name of the operation, or ReEncryptFrom and ReEncryptTo. */
export type KeyUse = Pick<AuthorizationRequest, 'action' | 'encryptionContext' | 'grantTokens' | 'newGrant' | 'conditions'>;

/**
 * Authorizes one use of `key`; every operation on a key calls this before it does anything. Permission is checked
 * before the key's state, as in AWS: a caller without permission does not learn the state.
 * @param requestAlias The alias by which the request named the key. @returns `key`
 * @throws {KmsFault} AccessDeniedException, InvalidGrantTokenException, DisabledException, KMSInvalidStateException
 */
export function authorizeKeyUse(call: OperationCall, use: KeyUse, key: KeyRecord, requestAlias?: string): KeyRecord {
  const arn = keyArn(call.store.account, key.keyId);
  call.facts.keyArns.add(arn);
  const conditions = requestAlias === undefined ? use.conditions : { ...use.conditions, 'kms:RequestAlias': [requestAlias] };
  authorize(call, { ...use, key, resourceArn: arn, conditions });
  if (key.state === 'PendingDeletion' && REFUSES_PENDING_DELETION.has(use.action)) throw keyPendingDeletion(arn);
  if (key.state === 'Disabled' && NEEDS_ENABLED.has(use.action)) throw keyDisabled(arn);
  if (key.state !== 'PendingDeletion' && use.action === 'CancelKeyDeletion') throw keyNotPendingDeletion(arn);
  return key;
}

/**
 * Finds a key by id, ARN, alias or alias ARN, and authorizes its use. The key of an AWS managed alias is made when a
 * request first names the alias.
 * @throws {KmsFault} NotFoundException, and as `authorizeKeyUse`
 */
export function keyByName(call: OperationCall, use: KeyUse, text: string): KeyRecord {
  const name = parseKeyName(call.store.account, text);
  if ('keyId' in name) return authorizeKeyUse(call, use, keyById(call.store, name.keyId));
  return authorizeKeyUse(call, use, keyById(call.store, keyIdOfAlias(call.store, name.aliasName)), name.aliasName);
}

/**
 * As `keyByName`, for operations whose `KeyId` must be an id or a key ARN. @throws {KmsFault} NotFoundException for an
 * alias too
 */
export function keyByIdOrArn(call: OperationCall, use: KeyUse, text: string): KeyRecord {
  if ('aliasName' in parseKeyName(call.store.account, text)) throw invalidKeyId(text);
  return keyByName(call, use, text);
}

/** The key with this id; undefined where there is none, or where its waiting period for deletion is over. */
export function activeKey(store: KmsStore, keyId: string): KeyRecord | undefined {
  const key = store.key(keyId);
  return key === undefined || isActive(key) ? key : undefined;
}

/**
 * Whether callers still see a key. Once its waiting period for deletion is over they do not, though the record may
 * still exist.
 */
export const isActive = ({ state, deletionAtSeconds = Number.POSITIVE_INFINITY }: KeyRecord): boolean =>
  state !== 'PendingDeletion' || deletionAtSeconds > Date.now() / 1000;

/**
 * The key with this id or ARN, without authorization: for operations whose permission is not on the key. @throws
 * {KmsFault} NotFoundException
 */
export function existingKey(store: KmsStore, text: string): KeyRecord {
  const name = parseKeyName(store.account, text);
  if ('aliasName' in name) throw invalidKeyId(text);
  return keyById(store, name.keyId);
}

/**
 * The id of the key that a request names, without authorization; undefined where there is none or where the name is not
 * valid.
 */
export function idOfName(store: KmsStore, text: string): string | undefined {
  try {
    const name = parseKeyName(store.account, text);
    return 'keyId' in name ? name.keyId : store.alias(name.aliasName)?.keyId;
  } catch (error) {
    if (error instanceof KmsFault) return undefined;
    throw error;
  }
}

function keyById(store: KmsStore, keyId: string): KeyRecord {
  const key = activeKey(store, keyId);
  if (key === undefined) throw keyNotFound(keyArn(store.account, keyId));
  return key;
}

/**
 * Removes the keys whose waiting period is over, with their material, aliases and grants. Must run inside a
 * transaction.
 */
export function removeExpiredKeys(store: KmsStore): void {
  const expired = store.keys(Number.MAX_SAFE_INTEGER).filter((key) => !isActive(key));
  for (const { keyId } of expired) {
    for (const alias of store.aliases()) if (alias.keyId === keyId) store.removeAlias(alias.aliasName);
    for (const grant of store.grants(keyId, Number.MAX_SAFE_INTEGER)) store.removeGrant(grant);
    store.removeKey(keyId);
  }
}

function keyIdOfAlias(store: KmsStore, aliasName: string): string {
  const known = store.alias(aliasName);
  if (known !== undefined) return known.keyId;
  const description = Object.hasOwn(MANAGED_ALIASES, aliasName) ? MANAGED_ALIASES[aliasName] : undefined;
  if (description === undefined) throw aliasNotFound(aliasArn(store.account, aliasName));
  return store.transaction(() => {
    // Read again: another process may have made the alias before this transaction began.
    const made = store.alias(aliasName);
    if (made !== undefined) return made.keyId;
    const key = makeKey(store, { manager: 'AWS', description, rotation: nextRotation(MANAGED_ROTATION_DAYS) });
    store.putKey(key);
    store.putAlias({ aliasName, keyId: key.keyId, createdAtSeconds: key.createdAtSeconds, updatedAtSeconds: key.createdAtSeconds });
    return key.keyId;
  });
}
