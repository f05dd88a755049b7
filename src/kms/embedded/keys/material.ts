/** The material of keys: new keys, rotation, and the use of a master key inside the vault. */
import { randomBytes, randomUUID } from 'node:crypto';
import { VolsealError } from '../../../errors.js';
import { type KeyHandle, native } from '../../../native.js';
import type { KeyRecord, MaterialRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';
import { keyArn, keyIdBytes } from './names.js';

const MASTER_KEY_BYTES = 32;
const DAY_SECONDS = 24 * 60 * 60;

/** The members of a new key that its creator chooses. */
export type NewKey = Pick<KeyRecord, 'manager' | 'description'> & Partial<Pick<KeyRecord, 'policy' | 'tags' | 'rotation'>>;

/** A new enabled key. The caller stores it. */
export function makeKey(store: KmsStore, key: NewKey, keyId: string = randomUUID()): KeyRecord {
  return { keyId, state: 'Enabled', createdAtSeconds: Date.now() / 1000, materials: [newMaterial(store, keyId)], ...key };
}

/** The key with new material, which seals from now on; the older material still opens. The caller stores it. */
export function rotated(store: KmsStore, key: KeyRecord, type: 'AUTOMATIC' | 'ON_DEMAND'): KeyRecord {
  const material = { ...newMaterial(store, key.keyId), rotation: { type, atSeconds: Date.now() / 1000 } };
  return { ...key, materials: [...key.materials, material] };
}

/** The key ready for sealing: rotated and stored first if its automatic rotation is due. */
export function keyForSealing(store: KmsStore, key: KeyRecord): KeyRecord {
  if (!rotationIsDue(key)) return key;
  return store.transaction(() => {
    const known = store.key(key.keyId);
    // Another process may have rotated it before this transaction began.
    if (known === undefined || !rotationIsDue(known)) return known ?? key;
    const { periodDays } = known.rotation!;
    const next = { ...rotated(store, known, 'AUTOMATIC'), rotation: nextRotation(periodDays) };
    store.putKey(next);
    return next;
  });
}

const rotationIsDue = ({ rotation }: KeyRecord): boolean => rotation !== undefined && rotation.nextAtSeconds <= Date.now() / 1000;

/** Automatic rotation that starts now. */
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
 * Calls `use` with the master key in the vault and wipes it afterwards. Opening it costs microseconds, so no master key
 * is cached.
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
      `the key material of ${keyArn(store.account, key.keyId)} does not open under the root key: the store was changed; restore it from a backup`,
    );
  }
  try {
    return use(master);
  } finally {
    native.keyWipe(master);
  }
}

/** Binds sealed material to its key, so that the record of one key cannot receive the material of another. */
const boundTo = (keyId: string, materialId: string): Buffer =>
  Buffer.concat([Buffer.from('volseal kms master key\0'), keyIdBytes(keyId), Buffer.from(materialId, 'hex')]);
