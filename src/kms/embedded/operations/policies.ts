/** Operations on key policies. A key has one, named `default`. (AWS KMS API Reference.) */
import { KmsFault } from '../faults.js';
import { keyByIdOrArn } from '../keys/access.js';
import { checkKeyPolicy, keyPolicyOf } from '../policy/key-policy.js';
import { changeOperation, readOperation } from './define.js';
import { pageOf } from './paging.js';
import * as requests from './requests.js';

const POLICY_NAME = 'default';

const getKeyPolicy = readOperation(requests.getKeyPolicyRequest, (call, { KeyId, PolicyName }) => {
  const key = keyByIdOrArn(call, { action: 'GetKeyPolicy' }, KeyId);
  checkPolicyName(PolicyName);
  return { body: { Policy: keyPolicyOf(call.store.account, key), PolicyName: POLICY_NAME } };
});

const putKeyPolicy = changeOperation(
  requests.putKeyPolicyRequest,
  (call, { KeyId, Policy, PolicyName, BypassPolicyLockoutSafetyCheck }) => {
    const bypass = BypassPolicyLockoutSafetyCheck === true;
    const conditions = { 'kms:BypassPolicyLockoutSafetyCheck': [String(bypass)] };
    const key = keyByIdOrArn(call, { action: 'PutKeyPolicy', conditions }, KeyId);
    checkPolicyName(PolicyName);
    checkKeyPolicy(call.store, Policy, key, bypass ? undefined : call.caller);
    call.store.putKey({ ...key, policy: Policy });
    return { body: {} };
  },
);

const listKeyPolicies = readOperation(requests.listKeyPoliciesRequest, (call, request) => {
  keyByIdOrArn(call, { action: 'ListKeyPolicies' }, request.KeyId);
  const { after } = pageOf(request, 100);
  return { body: { PolicyNames: after === '' ? [POLICY_NAME] : [], Truncated: false } };
});

function checkPolicyName(name: string | undefined): void {
  if ((name ?? POLICY_NAME) !== POLICY_NAME) throw new KmsFault('NotFoundException', `No such policy exists: ${name}`);
}

export const POLICY_API = { GetKeyPolicy: getKeyPolicy, ListKeyPolicies: listKeyPolicies, PutKeyPolicy: putKeyPolicy };
