/** Operations on the rotation of key material. Ciphertexts of older material go on opening. (AWS KMS API Reference; Developer Guide, "Rotate AWS KMS keys".) */
import { KMS_ROTATIONS_ON_DEMAND_MAX } from '../../../limits.js';
import { limitExceeded } from '../faults.js';
import { currentMaterial, keyForSealing, keyWithId, nextRotation, rotated } from '../keys/keys.js';
import { keyArn } from '../keys/names.js';
import type { KeyRecord, MaterialRecord } from '../store/records.js';
import { changing, reading } from './operation.js';
import { paged, pageOf } from './paging.js';
import * as requests from './requests.js';

const PERIOD_DAYS = 365;

const enableKeyRotation = changing(requests.enableKeyRotationRequest, (call, { KeyId, RotationPeriodInDays }) => {
  const conditions = RotationPeriodInDays === undefined ? {} : { 'kms:RotationPeriodInDays': [String(RotationPeriodInDays)] };
  const key = keyWithId(call, { action: 'EnableKeyRotation', conditions }, KeyId);
  // Enabled again without a period: the date that people count on stays.
  const rotation =
    RotationPeriodInDays === undefined && key.rotation !== undefined ? key.rotation : nextRotation(RotationPeriodInDays ?? PERIOD_DAYS);
  call.store.putKey({ ...key, rotation });
  return { body: {} };
});

const disableKeyRotation = changing(requests.keyOnlyRequest, (call, { KeyId }) => {
  const { rotation: _, ...key } = keyWithId(call, { action: 'DisableKeyRotation' }, KeyId);
  call.store.putKey(key);
  return { body: {} };
});

const getKeyRotationStatus = reading(requests.keyOnlyRequest, (call, { KeyId }) => {
  const { keyId, rotation, state } = keyWithId(call, { action: 'GetKeyRotationStatus' }, KeyId);
  const pending = state === 'PendingDeletion';
  return {
    body: {
      KeyId: keyArn(keyId),
      // A key that goes away is not rotated; what was set comes back when its deletion is cancelled.
      KeyRotationEnabled: rotation !== undefined && !pending,
      ...(rotation === undefined || pending ? {} : { RotationPeriodInDays: rotation.periodDays, NextRotationDate: rotation.nextAtSeconds }),
    },
  };
});

const rotateKeyOnDemand = changing(requests.keyOnlyRequest, (call, { KeyId }) => {
  const key = keyWithId(call, { action: 'RotateKeyOnDemand' }, KeyId);
  const onDemand = key.materials.filter(({ rotation }) => rotation?.type === 'ON_DEMAND');
  if (onDemand.length >= KMS_ROTATIONS_ON_DEMAND_MAX) {
    throw limitExceeded(
      `${keyArn(key.keyId)} was rotated on demand ${KMS_ROTATIONS_ON_DEMAND_MAX} times, which is as often as a key can be`,
    );
  }
  const next = rotated(call.store, key, 'ON_DEMAND');
  call.store.putKey(next);
  call.facts.keyMaterialId = currentMaterial(next).materialId;
  return { body: { KeyId: keyArn(key.keyId) } };
});

const listKeyRotations = reading(requests.listKeyRotationsRequest, (call, request) => {
  const admitted = keyWithId(call, { action: 'ListKeyRotations' }, request.KeyId);
  const key = admitted.state === 'Enabled' ? keyForSealing(call.store, admitted) : admitted;
  const all = request.IncludeKeyMaterial === 'ALL_KEY_MATERIAL';
  const page = pageOf(request, 100);
  const start = page.after === '' ? 0 : key.materials.findIndex(({ materialId }) => materialId === page.after) + 1;
  const found = key.materials.slice(start).filter(({ rotation }) => all || rotation !== undefined);
  return {
    body: paged(
      page,
      'Rotations',
      found,
      ({ materialId }) => materialId,
      (material) => entryOf(key, material),
    ),
  };
});

/** AWS's `RotationsListEntry`. */
function entryOf(key: KeyRecord, { materialId, rotation }: MaterialRecord): object {
  return {
    KeyId: keyArn(key.keyId),
    KeyMaterialId: materialId,
    KeyMaterialState: materialId === currentMaterial(key).materialId ? 'CURRENT' : 'NON_CURRENT',
    ...(rotation === undefined ? {} : { RotationDate: rotation.atSeconds, RotationType: rotation.type }),
  };
}

export const ROTATION_API = {
  DisableKeyRotation: disableKeyRotation,
  EnableKeyRotation: enableKeyRotation,
  GetKeyRotationStatus: getKeyRotationStatus,
  ListKeyRotations: listKeyRotations,
  RotateKeyOnDemand: rotateKeyOnDemand,
};
