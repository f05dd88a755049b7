/** Operations on keys themselves: make, describe, list, enable, disable, delete. (AWS KMS API Reference.) */
import { randomUUID } from 'node:crypto';
import { unsupported } from '../faults.js';
import { isActive, keyByIdOrArn, keyByName, removeExpiredKeys } from '../keys/access.js';
import { currentMaterial, makeKey } from '../keys/material.js';
import { keyArn } from '../keys/names.js';
import { authorize } from '../policy/authorization.js';
import { checkKeyPolicy } from '../policy/key-policy.js';
import { tagConditions } from '../policy/request-conditions.js';
import type { KeyRecord } from '../store/records.js';
import { changeOperation, type Operation, type OperationCall, readOperation } from './define.js';
import { paged, pageOf } from './paging.js';
import * as requests from './requests.js';
import { checkTags } from './tags.js';

const DAY_SECONDS = 24 * 60 * 60;
const DELETION_DAYS = 30;

/** AWS's `KeyMetadata`. */
function metadataOf({ store }: OperationCall, key: KeyRecord): object {
  return {
    AWSAccountId: store.account.accountId,
    KeyId: key.keyId,
    Arn: keyArn(store.account, key.keyId),
    CreationDate: key.createdAtSeconds,
    Enabled: key.state === 'Enabled',
    Description: key.description,
    KeyUsage: 'ENCRYPT_DECRYPT',
    KeyState: key.state,
    ...(key.deletionAtSeconds === undefined ? {} : { DeletionDate: key.deletionAtSeconds }),
    Origin: 'AWS_KMS',
    KeyManager: key.manager,
    CustomerMasterKeySpec: 'SYMMETRIC_DEFAULT',
    KeySpec: 'SYMMETRIC_DEFAULT',
    EncryptionAlgorithms: ['SYMMETRIC_DEFAULT'],
    MultiRegion: false,
    CurrentKeyMaterialId: currentMaterial(key).materialId,
  };
}

const createKey = changeOperation(requests.createKeyRequest, (call, request) => {
  const { KeySpec, CustomerMasterKeySpec, KeyUsage, Origin, MultiRegion, Policy, Tags = [] } = request;
  for (const spec of [KeySpec, CustomerMasterKeySpec])
    if ((spec ?? 'SYMMETRIC_DEFAULT') !== 'SYMMETRIC_DEFAULT') throw unsupported(`the key spec ${spec}`);
  if ((KeyUsage ?? 'ENCRYPT_DECRYPT') !== 'ENCRYPT_DECRYPT') throw unsupported(`the key usage ${KeyUsage}`);
  if ((Origin ?? 'AWS_KMS') !== 'AWS_KMS') throw unsupported(`the origin ${Origin}`);
  if (MultiRegion === true) throw unsupported('multi-Region keys');
  if (request.CustomKeyStoreId !== undefined || request.XksKeyId !== undefined) throw unsupported('custom key stores');
  const { store, caller } = call;
  const keyId = randomUUID();
  const bypass = request.BypassPolicyLockoutSafetyCheck === true;
  const tags = tagConditions(Tags);
  const conditions = { ...tags, 'kms:BypassPolicyLockoutSafetyCheck': [String(bypass)] };
  authorize(call, { action: 'CreateKey', resourceArn: '*', conditions });
  if (Tags.length > 0) authorize(call, { action: 'TagResource', resourceArn: keyArn(call.store.account, keyId), conditions: tags });
  checkTags(Tags);
  if (Policy !== undefined) checkKeyPolicy(store, Policy, { keyId, tags: Tags }, bypass ? undefined : caller);
  removeExpiredKeys(store);
  const given = { ...(Policy === undefined ? {} : { policy: Policy }), ...(Tags.length === 0 ? {} : { tags: Tags }) };
  const key = makeKey(store, { manager: 'CUSTOMER', description: request.Description ?? '', ...given }, keyId);
  store.putKey(key);
  call.facts.keyArns.add(keyArn(store.account, keyId));
  return { body: { KeyMetadata: metadataOf(call, key) } };
});

const describeKey = readOperation(requests.describeKeyRequest, (call, { KeyId, GrantTokens }) => ({
  body: { KeyMetadata: metadataOf(call, keyByName(call, { action: 'DescribeKey', grantTokens: GrantTokens }, KeyId)) },
}));

const updateKeyDescription = changeOperation(requests.updateKeyDescriptionRequest, (call, { KeyId, Description }) => {
  const key = keyByIdOrArn(call, { action: 'UpdateKeyDescription' }, KeyId);
  call.store.putKey({ ...key, description: Description });
  return { body: {} };
});

const listKeys = readOperation(requests.listKeysRequest, (call, request) => {
  authorize(call, { action: 'ListKeys', resourceArn: '*' });
  const page = pageOf(request, 100);
  const look = () => call.store.keys(page.lookFor, page.after);
  // A key whose waiting period is over must neither be listed nor make a page look like the last one.
  if (!look().every(isActive)) call.store.transaction(() => removeExpiredKeys(call.store));
  const found = look();
  return {
    body: paged(
      page,
      'Keys',
      found,
      ({ keyId }) => keyId,
      ({ keyId }) => ({ KeyId: keyId, KeyArn: keyArn(call.store.account, keyId) }),
    ),
  };
});

const setKeyState = (action: 'EnableKey' | 'DisableKey', state: KeyRecord['state']): Operation =>
  changeOperation(requests.keyOnlyRequest, (call, { KeyId }) => {
    call.store.putKey({ ...keyByIdOrArn(call, { action }, KeyId), state });
    return { body: {} };
  });

const scheduleKeyDeletion = changeOperation(requests.scheduleKeyDeletionRequest, (call, { KeyId, PendingWindowInDays = DELETION_DAYS }) => {
  const conditions = { 'kms:ScheduleKeyDeletionPendingWindowInDays': [String(PendingWindowInDays)] };
  const key = keyByIdOrArn(call, { action: 'ScheduleKeyDeletion', conditions }, KeyId);
  const deletionAtSeconds = Date.now() / 1000 + PendingWindowInDays * DAY_SECONDS;
  call.store.putKey({ ...key, state: 'PendingDeletion', deletionAtSeconds });
  return {
    body: {
      KeyId: keyArn(call.store.account, key.keyId),
      DeletionDate: deletionAtSeconds,
      KeyState: 'PendingDeletion',
      PendingWindowInDays,
    },
  };
});

const cancelKeyDeletion = changeOperation(requests.keyOnlyRequest, (call, { KeyId }) => {
  const { deletionAtSeconds: _, ...key } = keyByIdOrArn(call, { action: 'CancelKeyDeletion' }, KeyId);
  // As in AWS, the key stays disabled until EnableKey.
  call.store.putKey({ ...key, state: 'Disabled' });
  return { body: { KeyId: keyArn(call.store.account, key.keyId) } };
});

export const KEY_API = {
  CancelKeyDeletion: cancelKeyDeletion,
  CreateKey: createKey,
  DescribeKey: describeKey,
  DisableKey: setKeyState('DisableKey', 'Disabled'),
  EnableKey: setKeyState('EnableKey', 'Enabled'),
  ListKeys: listKeys,
  ScheduleKeyDeletion: scheduleKeyDeletion,
  UpdateKeyDescription: updateKeyDescription,
};
