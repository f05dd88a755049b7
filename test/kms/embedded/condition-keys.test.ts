/** Every condition key that a policy may use: a Deny on it denies, and a Deny on another value does not. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { administerKms } from '../../../src/kms/embedded/administration.js';
import type { Caller } from '../../../src/kms/embedded/policy/caller.js';
import { userIdOf } from '../../../src/kms/embedded/policy/caller.js';
import { ABSENT_CONDITION_KEYS, isConditionKey, SUPPLIED_CONDITION_KEYS } from '../../../src/kms/embedded/policy/condition-keys.js';
import { ask, done, openEmbedded, refused, temporaryHome } from '../harness.js';

const ANNA = 'arn:aws:iam::000000000000:user/staff/anna';
const EBS = 'ebs.amazonaws.com';
const VOLUME = 'arn:aws:ec2:local:000000000000:volume/vol-1';

interface Probe {
  readonly key: string;
  readonly operation: string;
  /** `$KEY`, `$OTHER`, `$GRANT` and `$BLOB` stand for what the test has made. */
  readonly request: object;
  /** What the request has. */
  readonly value: string;
  readonly operator?: string;
  readonly caller?: Partial<Caller>;
  /** Of the Deny; all by default. */
  readonly action?: string;
  /** Of the reply where nothing denies; 200 by default. */
  readonly status?: number;
}

const context = { EncryptionContext: { Team: 'a', 'aws:ebs:id': 'vol-1' } };
const data = { KeyId: '$KEY', NumberOfBytes: 64 };
const grant = { KeyId: '$KEY', GranteePrincipal: EBS, RetiringPrincipal: ANNA, Operations: ['Decrypt', 'CreateGrant'] };
const serviceGrant = {
  ...{ KeyId: '$KEY', GranteeServicePrincipal: EBS, RetiringServicePrincipal: 'workspaces.amazonaws.com', Operations: ['Decrypt'] },
  Constraints: { SourceArn: VOLUME },
};
const subset = { Constraints: { EncryptionContextSubset: { Team: 'a' } } };
const reEncrypt = { CiphertextBlob: '$BLOB', DestinationKeyId: '$KEY', SourceEncryptionContext: context.EncryptionContext };
/** A dry run that looks at names alone. */
const ignoring = { DryRun: true, DryRunModifiers: ['IGNORE_CIPHERTEXT'] };
const each = (operations: readonly string[], request: object, key: string, value: string, more: Partial<Probe> = {}): Probe[] =>
  operations.map((operation) => ({ key, operation, request, value, ...more }));
const ANY = 'ForAnyValue:StringEquals';

const probes: Probe[] = [
  ...each(['DescribeKey', 'GetKeyPolicy', 'ListGrants'], { KeyId: '$KEY' }, 'kms:KeySpec', 'SYMMETRIC_DEFAULT'),
  ...each(['CreateKey'], {}, 'kms:KeySpec', 'SYMMETRIC_DEFAULT'),
  ...each(['CreateKey'], {}, 'kms:CustomerMasterKeySpec', 'SYMMETRIC_DEFAULT'),
  ...each(['CreateKey'], {}, 'kms:KeyUsage', 'ENCRYPT_DECRYPT'),
  ...each(['CreateKey'], {}, 'kms:CustomerMasterKeyUsage', 'ENCRYPT_DECRYPT'),
  ...each(['CreateKey'], {}, 'kms:KeyOrigin', 'AWS_KMS'),
  ...each(['CreateKey'], {}, 'kms:MultiRegion', 'false', { operator: 'Bool' }),
  ...each(['CreateKey'], {}, 'kms:BypassPolicyLockoutSafetyCheck', 'false', { operator: 'Bool' }),
  ...each(['CreateKey'], { BypassPolicyLockoutSafetyCheck: true }, 'kms:BypassPolicyLockoutSafetyCheck', 'true', { operator: 'Bool' }),
  ...each(['CreateKey'], { Tags: [{ TagKey: 'Cost', TagValue: '7' }] }, 'aws:RequestTag/cost', '7'),
  ...each(['CreateKey'], { Tags: [{ TagKey: 'Cost', TagValue: '7' }] }, 'aws:TagKeys', 'Cost', { operator: ANY }),
  // Tags need the permission TagResource on the new key, which is not in the store yet but has what every key has.
  ...[
    ['kms:KeySpec', 'SYMMETRIC_DEFAULT'] as const,
    ['kms:KeyUsage', 'ENCRYPT_DECRYPT'] as const,
    ['kms:KeyOrigin', 'AWS_KMS'] as const,
  ].flatMap(([key, value]) =>
    each(['CreateKey'], { Tags: [{ TagKey: 'Cost', TagValue: '7' }] }, key, value, { action: 'kms:TagResource' }),
  ),
  ...each(['TagResource'], { KeyId: '$KEY', Tags: [{ TagKey: 'Cost', TagValue: '7' }] }, 'aws:RequestTag/Cost', '7'),
  ...each(['UntagResource'], { KeyId: '$KEY', TagKeys: ['Cost', 'Other'] }, 'aws:TagKeys', 'Cost', { operator: ANY }),
  ...each(['GenerateDataKey'], data, 'aws:ResourceTag/Owner', 'anna'),
  ...each(['GenerateDataKey', 'GenerateDataKeyWithoutPlaintext'], data, 'kms:EncryptionAlgorithm', 'SYMMETRIC_DEFAULT'),
  ...each(['Decrypt'], { CiphertextBlob: '$BLOB', ...context }, 'kms:EncryptionAlgorithm', 'SYMMETRIC_DEFAULT'),
  ...each(['Decrypt'], { CiphertextBlob: '$BLOB', ...context }, 'kms:EncryptionContext:team', 'a'),
  ...each(['Decrypt'], { CiphertextBlob: '$BLOB', ...context }, 'kms:EncryptionContextKeys', 'aws:ebs:id', { operator: ANY }),
  ...each(['ReEncrypt'], reEncrypt, 'kms:ReEncryptOnSameKey', 'true', { operator: 'Bool' }),
  ...each(['ReEncrypt'], { ...reEncrypt, DestinationKeyId: '$OTHER' }, 'kms:ReEncryptOnSameKey', 'false', { operator: 'Bool' }),
  ...each(['ReEncrypt'], { ...reEncrypt, ...ignoring, SourceKeyId: '$OTHER' }, 'kms:ReEncryptOnSameKey', 'false', {
    operator: 'Bool',
    status: 412,
  }),
  ...each(['ReEncrypt'], reEncrypt, 'kms:EncryptionAlgorithm', 'SYMMETRIC_DEFAULT'),
  ...each(['GenerateDataKey'], { ...data, KeyId: 'alias/probe' }, 'kms:RequestAlias', 'alias/probe'),
  ...each(['GenerateDataKey'], data, 'kms:ResourceAliases', 'alias/probe', { operator: ANY }),
  ...each(['CreateGrant'], { ...grant, ...subset }, 'kms:EncryptionContext:Team', 'a'),
  ...each(['CreateGrant'], { ...grant, ...subset }, 'kms:EncryptionContextKeys', 'Team', { operator: ANY }),
  ...each(['CreateGrant'], { ...grant, ...subset }, 'kms:GrantConstraintType', 'EncryptionContextSubset'),
  ...each(['CreateGrant'], { ...grant, Constraints: { SourceArn: VOLUME } }, 'kms:GrantConstraintType', 'SourceArn'),
  ...each(['CreateGrant'], grant, 'kms:GrantOperations', 'CreateGrant', { operator: ANY }),
  ...each(['CreateGrant'], grant, 'kms:GranteePrincipal', EBS),
  ...each(['CreateGrant'], grant, 'kms:RetiringPrincipal', ANNA),
  ...each(['CreateGrant'], serviceGrant, 'kms:GranteeServicePrincipal', EBS),
  ...each(['CreateGrant'], serviceGrant, 'kms:GranteePrincipal', 'true', { operator: 'Null' }),
  ...each(['CreateGrant'], serviceGrant, 'kms:RetiringServicePrincipal', 'workspaces.amazonaws.com'),
  ...each(['CreateGrant'], serviceGrant, 'kms:RetiringPrincipal', 'true', { operator: 'Null' }),
  ...each(['CreateGrant'], grant, 'kms:GranteeServicePrincipal', 'true', { operator: 'Null' }),
  ...each(['CreateGrant'], serviceGrant, 'kms:GrantConstraintSourceArn', VOLUME, { operator: 'ArnEquals' }),
  ...each(['CreateGrant'], grant, 'kms:GrantIsForAWSResource', 'false', { operator: 'Bool' }),
  ...each(['RetireGrant'], { KeyId: '$ARN', GrantId: '$GRANT' }, 'kms:GrantConstraintType', 'EncryptionContextSubset'),
  ...each(['RetireGrant'], { KeyId: '$ARN', GrantId: '$GRANT' }, 'kms:EncryptionContext:Team', 'a'),
  ...each(['EnableKeyRotation'], { KeyId: '$KEY' }, 'kms:RotationPeriodInDays', '365', { operator: 'NumericEquals' }),
  ...each(['EnableKeyRotation'], { KeyId: '$KEY', RotationPeriodInDays: 90 }, 'kms:RotationPeriodInDays', '90', {
    operator: 'NumericEquals',
  }),
  ...each(['ScheduleKeyDeletion'], { KeyId: '$KEY' }, 'kms:ScheduleKeyDeletionPendingWindowInDays', '30', { operator: 'NumericEquals' }),
  ...each(['ListKeys'], {}, 'aws:PrincipalType', 'User'),
  ...each(['ListKeys'], {}, 'aws:username', 'anna'),
  ...each(['ListKeys'], {}, 'aws:userid', userIdOf(ANNA)!),
  ...each(['ListKeys'], {}, 'aws:PrincipalArn', ANNA),
  ...each(['ListKeys'], {}, 'aws:PrincipalAccount', '000000000000'),
  ...each(['ListKeys'], {}, 'kms:CallerAccount', '000000000000'),
  ...each(['ListKeys'], {}, 'aws:ResourceAccount', '000000000000'),
  ...each(['ListKeys'], {}, 'aws:RequestedRegion', 'local'),
  ...each(['ListKeys'], {}, 'aws:PrincipalIsAWSService', 'false', { operator: 'Bool' }),
  ...each(['ListKeys'], {}, 'aws:SecureTransport', 'false', { operator: 'Bool' }),
  ...each(['ListKeys'], {}, 'aws:ViaAWSService', 'false', { operator: 'Bool' }),
  ...each(['ListKeys'], {}, 'aws:ViaAWSService', 'true', { operator: 'Bool', caller: { viaService: 'workspaces.local.amazonaws.com' } }),
  ...each(['ListKeys'], {}, 'kms:ViaService', 'workspaces.local.amazonaws.com', {
    caller: { viaService: 'workspaces.local.amazonaws.com' },
  }),
  ...['aws:CalledVia', 'aws:CalledViaFirst', 'aws:CalledViaLast'].flatMap((key) =>
    each(['ListKeys'], {}, key, 'workspaces.amazonaws.com', { caller: { viaService: 'workspaces.local.amazonaws.com' } }),
  ),
  ...each(['ListKeys'], {}, 'aws:SourceIp', '192.0.2.7', { operator: 'IpAddress', caller: { sourceIp: '192.0.2.7' } }),
  ...each(['ListKeys'], {}, 'aws:UserAgent', 'curl', { caller: { userAgent: 'curl' } }),
  ...each(['ListKeys'], {}, 'aws:EpochTime', '1700000000', { operator: 'NumericGreaterThan' }),
  ...each(['ListKeys'], {}, 'aws:CurrentTime', '2024-01-01T00:00:00Z', { operator: 'DateGreaterThan' }),
  ...['aws:PrincipalServiceName', 'aws:PrincipalServiceNamesList'].flatMap((key) =>
    each(['GenerateDataKey'], data, key, EBS, { caller: { principalArn: EBS } }),
  ),
  ...each(['GenerateDataKey'], data, 'aws:SourceArn', VOLUME, { caller: { principalArn: EBS, sourceArn: VOLUME } }),
  ...each(['GenerateDataKey'], data, 'aws:SourceAccount', '000000000000', { caller: { principalArn: EBS, sourceArn: VOLUME } }),
];

/** A value that no request has, for the same operator. */
const OTHER: Record<string, string> = {
  ArnEquals: `${VOLUME}0`,
  NumericEquals: '1',
  NumericGreaterThan: '99999999999',
  DateGreaterThan: '2999-01-01T00:00:00Z',
  IpAddress: '198.51.100.0/24',
};

describe('condition keys', () => {
  test.each(probes)('$key of $operation is $value', async (probe) => {
    const { key, operation, request, value, operator = 'StringEquals', caller, action = 'kms:*', status = 200 } = probe;
    const home = temporaryHome();
    const kms = openEmbedded(home);
    const [one, two] = [1, 2].map(() => done(kms, 'CreateKey').KeyMetadata);
    const KeyId: string = one.KeyId;
    done(kms, 'CreateAlias', { AliasName: 'alias/probe', TargetKeyId: KeyId });
    done(kms, 'TagResource', { KeyId, Tags: [{ TagKey: 'Owner', TagValue: 'anna' }] });
    const { CiphertextBlob } = done(kms, 'GenerateDataKeyWithoutPlaintext', { ...data, KeyId, ...context });
    const { GrantId } = done(kms, 'CreateGrant', { ...grant, KeyId, ...subset });
    const body = JSON.stringify(request)
      .replaceAll('$KEY', KeyId)
      .replaceAll('$OTHER', two.KeyId)
      .replaceAll('$ARN', one.Arn)
      .replaceAll('$BLOB', CiphertextBlob)
      .replaceAll('$GRANT', GrantId);
    const administration = administerKms(home);

    const isService = caller?.principalArn === EBS;
    const ask = (wanted: string) => {
      const deny = { Effect: 'Deny', Action: action, Resource: '*', Condition: { [operator]: { [key.toUpperCase()]: wanted } } };
      const allow = { Effect: 'Allow', Action: 'kms:*', Resource: '*' };
      if (isService) {
        const root = { ...allow, Principal: { AWS: 'arn:aws:iam::000000000000:root' } };
        const all = [root, { ...allow, Principal: { Service: EBS } }, { ...deny, Principal: { Service: EBS } }];
        done(kms, 'PutKeyPolicy', { KeyId, Policy: JSON.stringify({ Statement: all }) });
      } else {
        administration.putPrincipal(ANNA, [JSON.stringify({ Statement: [allow, deny] })]);
      }
      const wire = { target: `TrentService.${operation}`, headers: {}, body: Buffer.from(body) };
      const reply = kms.handle(wire, { principalArn: ANNA, ...caller });
      return { status: reply.status, body: JSON.parse(reply.body.toString()), plaintext: reply.plaintext };
    };
    try {
      refused(ask(value), 'AccessDeniedException', /explicit deny/);
      const isOpposite = operator === 'Bool' || operator === 'Null';
      const other = isOpposite ? String(value !== 'true') : (OTHER[operator] ?? 'other');
      const answer = ask(other);
      expect(answer.status, JSON.stringify(answer.body)).toBe(status);
    } finally {
      await administration.close();
    }
  });

  test('each supplied key has a probe', () => {
    const probed = probes.map(({ key }) => key.toLowerCase());
    const covers = (name: string) =>
      probed.some((key) => (/[/:]$/.test(name) ? key.startsWith(name.toLowerCase()) : key === name.toLowerCase()));
    expect(SUPPLIED_CONDITION_KEYS.filter((name) => !covers(name))).toEqual([]);
  });

  test('a condition on attestation is never met: no request has a Recipient', () => {
    const kms = openEmbedded();
    const KeyId: string = done(kms, 'CreateKey').KeyMetadata.KeyId;
    const all = { Effect: 'Allow', Principal: '*', Action: 'kms:*', Resource: '*' };
    const attested = { StringNotEqualsIgnoreCase: { 'kms:RecipientAttestation:ImageSha384': 'ab12' } };
    const deny = { ...all, Effect: 'Deny', Action: 'kms:Decrypt', Condition: attested };
    done(kms, 'PutKeyPolicy', { KeyId, Policy: JSON.stringify({ Statement: [all, deny] }) });
    const { CiphertextBlob } = done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 });
    refused(ask(kms, 'Decrypt', { CiphertextBlob }), 'AccessDeniedException', /explicit deny/);
  });

  test('others are refused by their name when a policy is put', () => {
    const kms = openEmbedded();
    for (const key of [
      'aws:PrincipalOrgID',
      'aws:PrincipalTag/team',
      'kms:NoSuchKey',
      'kms:TrailingDaysWithoutKeyUsage',
      'kms:RecipientAttestation:',
      'aws:RequestTag/',
      'kms:EncryptionContext:',
      'team',
      '',
    ]) {
      expect(isConditionKey(key)).toBe(false);
      const Policy = JSON.stringify({
        Statement: [
          { Effect: 'Allow', Principal: '*', Action: 'kms:*', Resource: '*' },
          { Effect: 'Deny', Principal: '*', Action: 'kms:Decrypt', Resource: '*', Condition: { StringEquals: { [key]: 'x' } } },
        ],
      });
      const answer = kms.handle({ target: 'TrentService.CreateKey', headers: {}, body: Buffer.from(JSON.stringify({ Policy })) });
      const said = JSON.parse(answer.body.toString());
      expect(said.__type).toBe('MalformedPolicyDocumentException');
      expect(said.message).toContain(`the condition key ${JSON.stringify(key)} is not one that this KMS supplies`);
    }
  });

  test('docs/KMS.md names them all', () => {
    const text = readFileSync(new URL('../../../docs/KMS.md', import.meta.url), 'utf8');
    const missing = [...SUPPLIED_CONDITION_KEYS, ...ABSENT_CONDITION_KEYS].filter((name) => !text.includes(`\`${name}`));
    expect(missing).toEqual([]);
  });
});
