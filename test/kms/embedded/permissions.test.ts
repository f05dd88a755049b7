/** The permissions that each operation needs: all of them, and no more. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { administerKms } from '../../../src/kms/embedded/administration.js';
import { operationNames } from '../../../src/kms/embedded/operations/registry.js';
import { takeRequest } from '../../../src/kms/shared/wire.js';
import { done, openEmbedded, temporaryHome } from '../harness.js';

const PREFIX = 'arn:aws:kms:local:000000000000:';
const ANNA = 'arn:aws:iam::000000000000:user/anna';
const ROOT = 'arn:aws:iam::000000000000:root';

/**
 * Of an action, the resource it is needed on: `key`, `other` (a second key), a new `alias`, the `old` one, `*`, a
 * principal.
 */
type Permission = readonly [action: string, resource: 'key' | 'other' | 'new' | 'alias' | 'old' | '*' | 'anna'];
type Case = readonly [operation: string, request: object, permissions: readonly Permission[]];

const onKey = (operation: string, request: object = {}): Case => [operation, { KeyId: '$KEY', ...request }, [[operation, 'key']]];
const data = { NumberOfBytes: 64 };
const policy = { Statement: { Effect: 'Allow', Principal: { AWS: ROOT }, Action: 'kms:*', Resource: '*' } };

const cases: readonly Case[] = [
  onKey('CancelKeyDeletion', { KeyId: '$DELETED' }),
  [
    'CreateAlias',
    { AliasName: 'alias/new', TargetKeyId: '$KEY' },
    [
      ['CreateAlias', 'alias'],
      ['CreateAlias', 'key'],
    ],
  ],
  onKey('CreateGrant', { GranteePrincipal: ANNA, Operations: ['Decrypt'] }),
  ['CreateKey', {}, [['CreateKey', '*']]],
  [
    'CreateKey',
    { Tags: [{ TagKey: 'a', TagValue: 'b' }] },
    [
      ['CreateKey', '*'],
      ['TagResource', 'new'],
    ],
  ],
  ['Decrypt', { CiphertextBlob: '$BLOB' }, [['Decrypt', 'key']]],
  [
    'DeleteAlias',
    { AliasName: 'alias/old' },
    [
      ['DeleteAlias', 'old'],
      ['DeleteAlias', 'key'],
    ],
  ],
  onKey('DescribeKey'),
  onKey('DisableKey'),
  onKey('DisableKeyRotation'),
  onKey('EnableKey'),
  onKey('EnableKeyRotation'),
  onKey('Encrypt', { Plaintext: Buffer.alloc(64).toString('base64') }),
  onKey('GenerateDataKey', data),
  onKey('GenerateDataKeyWithoutPlaintext', data),
  ['GenerateRandom', data, [['GenerateRandom', '*']]],
  onKey('GetKeyPolicy'),
  onKey('GetKeyRotationStatus'),
  ['ListAliases', {}, [['ListAliases', '*']]],
  ['ListAliases', { KeyId: '$KEY' }, [['ListAliases', '*']]],
  onKey('ListGrants'),
  onKey('ListKeyPolicies'),
  onKey('ListKeyRotations'),
  ['ListKeys', {}, [['ListKeys', '*']]],
  onKey('ListResourceTags'),
  ['ListRetirableGrants', { RetiringPrincipal: ANNA }, [['ListRetirableGrants', 'anna']]],
  onKey('PutKeyPolicy', { Policy: JSON.stringify(policy), BypassPolicyLockoutSafetyCheck: true }),
  [
    'ReEncrypt',
    { CiphertextBlob: '$BLOB', DestinationKeyId: '$OTHER' },
    [
      ['ReEncryptFrom', 'key'],
      ['ReEncryptTo', 'other'],
    ],
  ],
  // The grant itself gives the permission; an identity policy can too.
  ['RetireGrant', { KeyId: '$ARN', GrantId: '$GRANT' }, [['RetireGrant', 'key']]],
  onKey('RevokeGrant', { GrantId: '$GRANT' }),
  onKey('RotateKeyOnDemand'),
  onKey('ScheduleKeyDeletion'),
  onKey('TagResource', { Tags: [{ TagKey: 'a', TagValue: 'b' }] }),
  onKey('UntagResource', { TagKeys: ['a'] }),
  [
    'UpdateAlias',
    { AliasName: 'alias/old', TargetKeyId: '$OTHER' },
    [
      ['UpdateAlias', 'old'],
      ['UpdateAlias', 'key'],
      ['UpdateAlias', 'other'],
    ],
  ],
  onKey('UpdateKeyDescription', { Description: 'x' }),
];

test('the table has every operation', () => {
  expect([...new Set(cases.map(([operation]) => operation))].sort()).toEqual(operationNames());
});

describe.each(cases)('%s %j', (operation, request, permissions) => {
  test('needs its permissions, each of them, and no others', async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    const [key, other, deleted] = [1, 2, 3].map(() => done(kms, 'CreateKey').KeyMetadata);
    done(kms, 'CreateAlias', { AliasName: 'alias/old', TargetKeyId: key.KeyId });
    done(kms, 'ScheduleKeyDeletion', { KeyId: deleted.KeyId });
    const { CiphertextBlob } = done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId: key.KeyId, NumberOfBytes: 64 });
    const { GrantId } = done(kms, 'CreateGrant', { KeyId: key.KeyId, GranteePrincipal: 'ebs.amazonaws.com', Operations: ['Decrypt'] });
    const target = operation === 'CancelKeyDeletion' ? deleted : key;
    const resources = {
      key: target.Arn,
      other: other.Arn,
      new: `${PREFIX}key/*`,
      alias: `${PREFIX}alias/new`,
      old: `${PREFIX}alias/old`,
      '*': '*',
      anna: ANNA,
    };
    const body = JSON.stringify(request)
      .replaceAll('$KEY', key.KeyId)
      .replaceAll('$OTHER', other.KeyId)
      .replaceAll('$DELETED', deleted.KeyId)
      .replaceAll('$ARN', key.Arn)
      .replaceAll('$BLOB', CiphertextBlob)
      .replaceAll('$GRANT', GrantId);
    const administration = administerKms(home);
    const askWith = async (granted: readonly Permission[]) => {
      const Statement = granted.map(([action, resource]) => ({ Effect: 'Allow', Action: `kms:${action}`, Resource: resources[resource] }));
      administration.putPrincipal(ANNA, granted.length === 0 ? [] : [JSON.stringify({ Statement })]);
      const reply = kms.handle(takeRequest(`TrentService.${operation}`, {}, [Buffer.from(body)]), { principalArn: ANNA });
      return { status: reply.status, said: JSON.parse(reply.body.toString()) };
    };
    try {
      for (const left of permissions) {
        const { said } = await askWith(permissions.filter((permission) => permission !== left));
        expect(said.__type).toBe('AccessDeniedException');
        expect(said.message).toContain(`kms:${left[0]}`);
      }
      const answer = await askWith(permissions);
      expect(answer.status, JSON.stringify(answer.said)).toBe(200);
    } finally {
      await administration.close();
    }
  });

  test("has the permissions of AWS's documentation", () => {
    const commands = new URL('../../../node_modules/@aws-sdk/client-kms/dist-types/commands/', import.meta.url);
    const text = readFileSync(new URL(`${operation}Command.d.ts`, commands), 'utf8');
    const section = /<b>Required permissions<\/b>([\s\S]*?)<b>Related operations/.exec(text)?.[1] ?? '';
    const documented = new Set([...section.matchAll(/kms:(\w+)/g)].map(([, action]) => action));
    // A pattern for both of its permissions; the permission for tags is needed with tags only.
    documented.delete('ReEncrypt');
    if (!('Tags' in request)) documented.delete(operation === 'CreateKey' ? 'TagResource' : '');
    const needed = new Set(permissions.map(([action]) => action));
    expect([...documented].filter((action) => !needed.has(action!))).toEqual([]);
  });
});

test('UpdateAlias needs the permission on a key that is pending deletion too', async () => {
  const home = temporaryHome();
  const kms = openEmbedded(home);
  const [former, next] = [1, 2].map(() => done(kms, 'CreateKey').KeyMetadata);
  done(kms, 'CreateAlias', { AliasName: 'alias/old', TargetKeyId: former.KeyId });
  done(kms, 'ScheduleKeyDeletion', { KeyId: former.KeyId });
  const administration = administerKms(home);
  const deny = { Effect: 'Deny', Action: 'kms:*', Resource: former.Arn };
  administration.putPrincipal(ANNA, [JSON.stringify({ Statement: [{ Effect: 'Allow', Action: 'kms:*', Resource: '*' }, deny] })]);
  await administration.close();
  const update = (principalArn: string) =>
    kms.handle(
      {
        target: 'TrentService.UpdateAlias',
        headers: {},
        body: Buffer.from(JSON.stringify({ AliasName: 'alias/old', TargetKeyId: next.KeyId })),
      },
      { principalArn },
    ).status;
  expect([update(ANNA), update(ROOT)]).toEqual([400, 200]);
});
