/**
 * The permissions that an administrator of WorkSpaces needs on a customer's key: the two parts of "How Amazon
 * WorkSpaces Uses AWS KMS" (Amazon WorkSpaces Administration Guide, "Prerequisites to use an AWS KMS key"). A key that
 * AWS manages needs none of them.
 */

import { VolsealError } from '../../errors.js';
import { formatArn, parseKeyArn } from '../shared/arn.js';

export interface AdministratorPolicies {
  /** Part 1: statements for the key policy, which make the administrator a key user. */
  readonly keyPolicyStatements: readonly object[];
  /** Part 2: a policy for the administrator's identity, a whole document. */
  readonly identityPolicy: object;
}

/**
 * @param keyArn ARN of a key; policies do not follow aliases
 * @param principal ARN of the administrator; default: a role WorkSpacesAdministrator of the key's account
 * @param console also the permissions to choose a key from a list in the console
 * @throws {VolsealError} `ERR_ARGUMENT`
 */
export function administratorPolicies(keyArn: string, principal?: string, console = false): AdministratorPolicies {
  const key = parseKeyArn(keyArn);
  if (key === undefined)
    throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(keyArn)} is not the ARN of a key; policies name keys by ARN`);
  const Principal = { AWS: principal ?? formatArn({ ...key, service: 'iam', region: '', resource: 'role/WorkSpacesAdministrator' }) };
  return {
    keyPolicyStatements: [
      {
        Sid: 'Allow use of the key',
        Effect: 'Allow',
        Principal,
        Action: ['kms:Encrypt', 'kms:Decrypt', 'kms:ReEncrypt*', 'kms:GenerateDataKey*', 'kms:DescribeKey'],
        Resource: '*',
      },
      {
        Sid: 'Allow attachment of persistent resources',
        Effect: 'Allow',
        Principal,
        Action: ['kms:CreateGrant', 'kms:ListGrants', 'kms:RevokeGrant'],
        Resource: '*',
        Condition: { Bool: { 'kms:GrantIsForAWSResource': 'true' } },
      },
    ],
    identityPolicy: {
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Action: ['kms:CreateGrant'], Resource: [keyArn] },
        ...(console ? [{ Effect: 'Allow', Action: ['kms:ListAliases', 'kms:ListKeys'], Resource: '*' }] : []),
      ],
    },
  };
}
