/**
 * Operations on the rotation of key material. Older material still opens its ciphertexts. (AWS KMS API Reference;
 * Developer Guide, "Rotate AWS KMS keys".)
 */
import { KMS_ROTATIONS_ON_DEMAND_MAX } from '../../../limits.js';
import { limitExceeded } from '../faults.js';
import { keyByIdOrArn } from '../keys/access.js';
import { currentMaterial, keyForSealing, nextRotation, rotated } from '../keys/material.js';
import { keyArn } from '../keys/names.js';
import type { KeyRecord, MaterialRecord } from '../store/records.js';
import { changeOperation, type OperationCall, readOperation } from './define.js';
import { paged, pageOf } from './paging.js';
import * as requests from './requests.js';

const PERIOD_DAYS = 365;

const enableKeyRotation = changeOperation(requests.enableKeyRotationRequest, (call, { KeyId, RotationPeriodInDays }) => {
  const conditions = { 'kms:RotationPeriodInDays': [String(RotationPeriodInDays ?? PERIOD_DAYS)] };
  const key = keyByIdOrArn(call, { action: 'EnableKeyRotation', conditions }, KeyId);
  // Enabled again without a period: the date of the next rotation stays.
  const rotation =
    RotationPeriodInDays === undefined && key.rotation !== undefined ? key.rotation : nextRotation(RotationPeriodInDays ?? PERIOD_DAYS);
  call.store.putKey({ ...key, rotation });
  return { body: {} };
});

const disableKeyRotation = changeOperation(requests.keyOnlyRequest, (call, { KeyId }) => {
  const { rotation: _, ...key } = keyByIdOrArn(call, { action: 'DisableKeyRotation' }, KeyId);
  call.store.putKey(key);
  return { body: {} };
});

const getKeyRotationStatus = readOperation(requests.keyOnlyRequest, (call, { KeyId }) => {
  const { keyId, rotation, state } = keyByIdOrArn(call, { action: 'GetKeyRotationStatus' }, KeyId);
  const pending = state === 'PendingDeletion';
  return {
    body: {
      KeyId: keyArn(call.store.account, keyId),
      // A key pending deletion is not rotated; the setting applies again when its deletion is cancelled.
      KeyRotationEnabled: rotation !== undefined && !pending,
      ...(rotation === undefined || pending ? {} : { RotationPeriodInDays: rotation.periodDays, NextRotationDate: rotation.nextAtSeconds }),
    },
  };
});

const rotateKeyOnDemand = changeOperation(requests.keyOnlyRequest, (call, { KeyId }) => {
  const key = keyByIdOrArn(call, { action: 'RotateKeyOnDemand' }, KeyId);
  const onDemand = key.materials.filter(({ rotation }) => rotation?.type === 'ON_DEMAND');
  if (onDemand.length >= KMS_ROTATIONS_ON_DEMAND_MAX) {
    throw limitExceeded(
      'The on-demand rotations limit has been reached for the given keyId. ' +
        `No more on-demand rotations can be performed for this key: ${keyArn(call.store.account, key.keyId)}`,
    );
  }
  const next = rotated(call.store, key, 'ON_DEMAND');
  call.store.putKey(next);
  call.facts.keyMaterialId = currentMaterial(next).materialId;
  return { body: { KeyId: keyArn(call.store.account, key.keyId) } };
});

const listKeyRotations = readOperation(requests.listKeyRotationsRequest, (call, request) => {
  const authorized = keyByIdOrArn(call, { action: 'ListKeyRotations' }, request.KeyId);
  const key = authorized.state === 'Enabled' ? keyForSealing(call.store, authorized) : authorized;
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
      (material) => entryOf(call, key, material),
    ),
  };
});

/** AWS's `RotationsListEntry`. */
function entryOf({ store }: OperationCall, key: KeyRecord, { materialId, rotation }: MaterialRecord): object {
  return {
    KeyId: keyArn(store.account, key.keyId),
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
