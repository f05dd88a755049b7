/** Key policies: the default ones, and the check that a new one does not lock its author out. */
import { KMS_POLICY_BYTES_MAX } from '../../../limits.js';
import { KmsFault } from '../faults.js';
import { type KmsAccount, keyArn, rootArn } from '../keys/names.js';
import type { KeyRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';
import type { Caller } from './caller.js';
import { parsePolicy } from './document.js';
import { evaluatePolicy } from './evaluation.js';
import { type AskedKey, conditionsOf } from './request-conditions.js';

/**
 * Allows the account everything: its root, and through their identity policies its users and roles. (Developer Guide,
 * "Default key policy".)
 */
const defaultPolicy = (account: KmsAccount): string =>
  JSON.stringify(
    {
      Version: '2012-10-17',
      Id: 'key-default-1',
      Statement: [
        { Sid: 'Enable IAM User Permissions', Effect: 'Allow', Principal: { AWS: rootArn(account) }, Action: 'kms:*', Resource: '*' },
      ],
    },
    undefined,
    2,
  );

/**
 * For the keys behind `alias/aws/...`: everybody in the account may use them, nobody may change them. AWS also requires
 * that the request comes through the service (kms:ViaService); volseal is that service here.
 */
const managedPolicy = (account: KmsAccount): string =>
  JSON.stringify(
    {
      Version: '2012-10-17',
      Id: 'auto-managed-1',
      Statement: [
        {
          Sid: 'Allow use by all principals in the account',
          Effect: 'Allow',
          Principal: { AWS: '*' },
          Action: ['kms:Encrypt', 'kms:Decrypt', 'kms:ReEncrypt*', 'kms:GenerateDataKey*', 'kms:CreateGrant', 'kms:DescribeKey'],
          Resource: '*',
          Condition: { StringEquals: { 'kms:CallerAccount': account.accountId } },
        },
        {
          Sid: 'Allow direct access to key metadata to the account',
          Effect: 'Allow',
          Principal: { AWS: rootArn(account) },
          Action: ['kms:Describe*', 'kms:Get*', 'kms:List*', 'kms:RevokeGrant'],
          Resource: '*',
        },
      ],
    },
    undefined,
    2,
  );

/** The JSON text of a key's policy. */
export const keyPolicyOf = (account: KmsAccount, key: KeyRecord): string =>
  key.policy ?? (key.manager === 'AWS' ? managedPolicy(account) : defaultPolicy(account));

/**
 * Checks a new policy of a key.
 * @param key As it will be under the policy, with its tags.
 * @param caller Must keep kms:PutKeyPolicy under the new policy; undefined: the check is bypassed.
 * @throws {KmsFault} MalformedPolicyDocumentException, LimitExceededException
 */
export function checkKeyPolicy(store: KmsStore, text: string, key: Omit<AskedKey, 'policy'>, caller: Caller | undefined): void {
  if (Buffer.byteLength(text) > KMS_POLICY_BYTES_MAX) {
    throw new KmsFault('LimitExceededException', `A key policy has at most ${KMS_POLICY_BYTES_MAX} bytes.`);
  }
  const document = parsePolicy(text, 'key');
  if (caller === undefined) return;
  const resourceArn = keyArn(store.account, key.keyId);
  // The request by which the caller would replace the policy: it bypasses nothing.
  const conditions = { 'kms:BypassPolicyLockoutSafetyCheck': ['false'] };
  const request = { action: 'PutKeyPolicy', key: { ...key, policy: text }, resourceArn, conditions };
  const { decision, delegated } = evaluatePolicy(document, {
    principal: caller.principalArn,
    root: rootArn(store.account),
    action: 'kms:PutKeyPolicy',
    resourceArn,
    conditions: conditionsOf(store, caller, request),
  });
  if (decision === 'allow' || (decision === 'none' && delegated)) return;
  throw new KmsFault('MalformedPolicyDocumentException', 'The new key policy will not allow you to update the key policy in the future.');
}
