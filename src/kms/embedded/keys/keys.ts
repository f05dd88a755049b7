/**
 * Keys of the embedded KMS: how they are made, found, admitted to an operation, and how their master key is used.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { VolsealError } from '../../../errors.js';
import { type KeyHandle, native } from '../../../native.js';
import { aliasNotFound, invalidKeyId, keyDisabled, keyNotFound, keyNotPendingDeletion, keyPendingDeletion } from '../faults.js';
import type { OperationCall } from '../operations/operation.js';
import { type AuthorisationRequest, authorise } from '../policy/authorization.js';
import type { KeyRecord, MaterialRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';
import { aliasArn, keyArn, keyIdBytes, MANAGED_ALIASES, parseKeyName } from './names.js';

const MASTER_KEY_BYTES = 32;
const DAY_SECONDS = 24 * 60 * 60;
/** AWS rotates the keys that it manages every year. (Developer Guide, "AWS managed keys".) */
const MANAGED_ROTATION_DAYS = 365;

/** In which states an action finds a key unfit. (Developer Guide, "Key states of AWS KMS keys".) */
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

/** What is to be done with a key; `action` is the API's name, or ReEncryptFrom and ReEncryptTo. */
export type KeyUse = Pick<AuthorisationRequest, 'action' | 'encryptionContext' | 'grantTokens' | 'newGrant' | 'conditions'>;

/**
 * Lets the caller have `key` or throws: every operation on a key passes here before it does anything. Permission first, then state,
 * as in AWS: who may not use a key does not learn its state.
 * @throws {KmsFault} AccessDeniedException, InvalidGrantTokenException, DisabledException, KMSInvalidStateException
 */
export function admit(call: OperationCall, use: KeyUse, key: KeyRecord, requestAlias?: string): KeyRecord {
  const arn = keyArn(key.keyId);
  call.facts.keyArns.add(arn);
  const conditions = requestAlias === undefined ? use.conditions : { ...use.conditions, 'kms:RequestAlias': [requestAlias] };
  authorise(call, { ...use, key, resourceArn: arn, conditions });
  if (key.state === 'PendingDeletion' && REFUSES_PENDING_DELETION.has(use.action)) throw keyPendingDeletion(arn);
  if (key.state === 'Disabled' && NEEDS_ENABLED.has(use.action)) throw keyDisabled(arn);
  if (key.state !== 'PendingDeletion' && use.action === 'CancelKeyDeletion') throw keyNotPendingDeletion(arn);
  return key;
}

/**
 * The key that a request names by id, ARN, alias or alias ARN, admitted. The aliases of AWS managed keys make their key when first
 * named.
 * @throws {KmsFault} NotFoundException, and as `admit`
 */
export function keyNamed(call: OperationCall, use: KeyUse, text: string): KeyRecord {
  const name = parseKeyName(text);
  if ('keyId' in name) return admit(call, use, keyOfId(call.store, name.keyId));
  return admit(call, use, keyOfId(call.store, keyIdOfAlias(call.store, name.aliasName)), name.aliasName);
}

/** As `keyNamed`, for the operations whose `KeyId` must be an id or an ARN. @throws {KmsFault} NotFoundException also for an alias */
export function keyWithId(call: OperationCall, use: KeyUse, text: string): KeyRecord {
  if ('aliasName' in parseKeyName(text)) throw invalidKeyId(text);
  return keyNamed(call, use, text);
}

/** The key with this id, if its time has not come. */
export function livingKey(store: KmsStore, keyId: string): KeyRecord | undefined {
  const key = store.key(keyId);
  return key === undefined || isLiving(key) ? key : undefined;
}

/** Whether a key is there for callers: one whose waiting period is over is not, though its record may be. */
export const isLiving = ({ state, deletionAtSeconds = Number.POSITIVE_INFINITY }: KeyRecord): boolean =>
  state !== 'PendingDeletion' || deletionAtSeconds > Date.now() / 1000;

function keyOfId(store: KmsStore, keyId: string): KeyRecord {
  const key = livingKey(store, keyId);
  if (key === undefined) throw keyNotFound(keyArn(keyId));
  return key;
}

/** Removes the keys whose waiting period is over, with their material, aliases and grants. Part of a transaction. */
export function removeExpiredKeys(store: KmsStore): void {
  const expired = store.keys(Number.MAX_SAFE_INTEGER).filter((key) => !isLiving(key));
  for (const { keyId } of expired) {
    for (const alias of store.aliases()) if (alias.keyId === keyId) store.removeAlias(alias.aliasName);
    for (const grant of store.grants(keyId, Number.MAX_SAFE_INTEGER)) store.removeGrant(grant);
    store.removeKey(keyId);
  }
}

/** What a new key has of its own. */
export type NewKey = Pick<KeyRecord, 'manager' | 'description'> & Partial<Pick<KeyRecord, 'policy' | 'tags' | 'rotation'>>;

/** A new enabled key, not stored yet. */
export function makeKey(store: KmsStore, key: NewKey, keyId: string = randomUUID()): KeyRecord {
  return { keyId, state: 'Enabled', createdAtSeconds: Date.now() / 1000, materials: [newMaterial(store, keyId)], ...key };
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
    const key = makeKey(store, { manager: 'AWS', description, rotation: nextRotation(MANAGED_ROTATION_DAYS) });
    store.putKey(key);
    store.putAlias({ aliasName, keyId: key.keyId, createdAtSeconds: key.createdAtSeconds, updatedAtSeconds: key.createdAtSeconds });
    return key.keyId;
  });
}

/** The key with new material that seals from now on; the old one goes on opening. Not stored yet. */
export function rotated(store: KmsStore, key: KeyRecord, type: 'AUTOMATIC' | 'ON_DEMAND'): KeyRecord {
  const material = { ...newMaterial(store, key.keyId), rotation: { type, atSeconds: Date.now() / 1000 } };
  return { ...key, materials: [...key.materials, material] };
}

/** The key as it seals now: rotated and stored first, if its automatic rotation is due. */
export function keyForSealing(store: KmsStore, key: KeyRecord): KeyRecord {
  if (!rotationIsDue(key)) return key;
  return store.transaction(() => {
    const known = store.key(key.keyId);
    // Another process may have done it since.
    if (known === undefined || !rotationIsDue(known)) return known ?? key;
    const { periodDays } = known.rotation!;
    const next = { ...rotated(store, known, 'AUTOMATIC'), rotation: nextRotation(periodDays) };
    store.putKey(next);
    return next;
  });
}

const rotationIsDue = ({ rotation }: KeyRecord): boolean => rotation !== undefined && rotation.nextAtSeconds <= Date.now() / 1000;

/** Automatic rotation from now on. */
export const nextRotation = (periodDays: number): NonNullable<KeyRecord['rotation']> => ({
  periodDays,
  nextAtSeconds: Date.now() / 1000 + periodDays * DAY_SECONDS,
});

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
