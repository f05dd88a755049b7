/**
 * Operations on aliases. Each needs permission on the alias and on the key. (AWS KMS API Reference; Developer Guide,
 * "Controlling access to aliases".)
 */
import { KMS_ALIASES_PER_KEY } from '../../../limits.js';
import { parseKmsArn } from '../../shared/arn.js';
import { aliasNotFound, KmsFault, limitExceeded, validation } from '../faults.js';
import { activeKey, authorizeKeyUse, existingKey, keyByIdOrArn } from '../keys/access.js';
import { aliasArn, keyArn, RESERVED_ALIAS_PREFIX } from '../keys/names.js';
import { authorize } from '../policy/authorization.js';
import type { AliasRecord } from '../store/records.js';
import { changeOperation, type OperationCall, readOperation } from './define.js';
import { paged, pageOf } from './paging.js';
import * as requests from './requests.js';

const createAlias = changeOperation(requests.aliasTargetRequest, (call, { AliasName, TargetKeyId }) => {
  const { store } = call;
  checkAliasName(AliasName);
  refuseReserved(AliasName);
  refuseAliasAsTarget(TargetKeyId);
  authorize(call, { action: 'CreateAlias', resourceArn: aliasArn(call.store.account, AliasName) });
  const { keyId } = keyByIdOrArn(call, { action: 'CreateAlias' }, TargetKeyId);
  if (store.alias(AliasName) !== undefined) {
    throw new KmsFault('AlreadyExistsException', `An alias with the name ${aliasArn(store.account, AliasName)} already exists`);
  }
  refuseTooManyAliases(call, keyId);
  const now = Date.now() / 1000;
  store.putAlias({ aliasName: AliasName, keyId, createdAtSeconds: now, updatedAtSeconds: now });
  return { body: {} };
});

const updateAlias = changeOperation(requests.aliasTargetRequest, (call, { AliasName, TargetKeyId }) => {
  checkAliasName(AliasName);
  refuseReserved(AliasName);
  refuseAliasAsTarget(TargetKeyId);
  authorize(call, { action: 'UpdateAlias', resourceArn: aliasArn(call.store.account, AliasName) });
  const alias = knownAlias(call, AliasName);
  const former = activeKey(call.store, alias.keyId);
  // The key that loses the alias may be in any state: only the permission is checked.
  if (former !== undefined) authorize(call, { action: 'UpdateAlias', key: former, resourceArn: keyArn(call.store.account, former.keyId) });
  const { keyId } = keyByIdOrArn(call, { action: 'UpdateAlias' }, TargetKeyId);
  if (alias.keyId !== keyId) refuseTooManyAliases(call, keyId);
  call.store.putAlias({ ...alias, keyId, updatedAtSeconds: Date.now() / 1000 });
  return { body: {} };
});

const deleteAlias = changeOperation(requests.deleteAliasRequest, (call, { AliasName }) => {
  checkAliasName(AliasName);
  authorize(call, { action: 'DeleteAlias', resourceArn: aliasArn(call.store.account, AliasName) });
  const alias = knownAlias(call, AliasName);
  const key = activeKey(call.store, alias.keyId);
  if (key !== undefined) authorizeKeyUse(call, { action: 'DeleteAlias' }, key);
  call.store.removeAlias(AliasName);
  return { body: {} };
});

const listAliases = readOperation(requests.listAliasesRequest, (call, request) => {
  const { KeyId } = request;
  authorize(call, { action: 'ListAliases', resourceArn: '*' });
  // The permission is for all aliases: AWS asks for none on the key.
  const keyId = KeyId === undefined ? undefined : existingKey(call.store, KeyId).keyId;
  const page = pageOf(request, 50);
  const found = call.store.aliases().filter((alias) => alias.aliasName > page.after && (keyId === undefined || alias.keyId === keyId));
  const show = (alias: AliasRecord) => ({
    AliasName: alias.aliasName,
    AliasArn: aliasArn(call.store.account, alias.aliasName),
    TargetKeyId: alias.keyId,
    CreationDate: alias.createdAtSeconds,
    LastUpdatedDate: alias.updatedAtSeconds,
  });
  return { body: paged(page, 'Aliases', found, ({ aliasName }) => aliasName, show) };
});

function knownAlias({ store }: OperationCall, aliasName: string): AliasRecord {
  const alias = store.alias(aliasName);
  if (alias === undefined) throw aliasNotFound(aliasArn(store.account, aliasName));
  return alias;
}

function checkAliasName(aliasName: string): void {
  if (!aliasName.startsWith('alias/') || aliasName === 'alias/') {
    throw validation(
      'Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html',
    );
  }
  if (aliasName.includes(':')) throw validation(`${aliasName} contains invalid characters for an alias`);
}

function refuseAliasAsTarget(targetKeyId: string): void {
  const resource = parseKmsArn(targetKeyId)?.resource ?? targetKeyId;
  if (resource.startsWith('alias/')) throw validation('Aliases must refer to keys. Not aliases');
}

function refuseReserved(aliasName: string): void {
  if (aliasName.startsWith(RESERVED_ALIAS_PREFIX)) {
    throw new KmsFault('NotAuthorizedException', `Aliases that begin with ${RESERVED_ALIAS_PREFIX} are reserved`);
  }
}

function refuseTooManyAliases({ store }: OperationCall, keyId: string): void {
  if (store.aliases().filter((alias) => alias.keyId === keyId).length >= KMS_ALIASES_PER_KEY) {
    throw limitExceeded(`${keyArn(store.account, keyId)} already has ${KMS_ALIASES_PER_KEY} aliases`);
  }
}

export const ALIAS_API = {
  CreateAlias: createAlias,
  DeleteAlias: deleteAlias,
  ListAliases: listAliases,
  UpdateAlias: updateAlias,
};
