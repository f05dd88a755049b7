/** A KMS with a region and an account that its operator chose. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { administerKms, initialiseKms } from '../../../src/kms/embedded/administration.js';
import { ask, done, openEmbedded, refused, temporaryHome } from '../harness.js';

const ACCOUNT = { region: 'eu-west-1', accountId: '111122223333' };
const PREFIX = 'arn:aws:kms:eu-west-1:111122223333:';
const ROOT = 'arn:aws:iam::111122223333:root';
const ANNA = 'arn:aws:iam::111122223333:user/anna';

test('its ARNs, policies, grants and records name them', async () => {
  const home = temporaryHome();
  await initialiseKms(home, undefined, ACCOUNT);
  const kms = openEmbedded(home);
  const { Arn, KeyId, AWSAccountId } = done(kms, 'CreateKey').KeyMetadata;
  expect([Arn, AWSAccountId]).toEqual([`${PREFIX}key/${KeyId}`, ACCOUNT.accountId]);
  expect(JSON.parse(done(kms, 'GetKeyPolicy', { KeyId: Arn }).Policy).Statement[0].Principal.AWS).toBe(ROOT);
  done(kms, 'CreateAlias', { AliasName: 'alias/a', TargetKeyId: KeyId });
  expect(done(kms, 'ListAliases').Aliases[0].AliasArn).toBe(`${PREFIX}alias/a`);
  done(kms, 'CreateGrant', { KeyId, GranteePrincipal: 'ebs.amazonaws.com', Operations: ['Decrypt'] });
  expect(done(kms, 'ListGrants', { KeyId }).Grants[0].IssuingAccount).toBe(ROOT);
  refused(ask(kms, 'DescribeKey', { KeyId: `arn:aws:kms:local:000000000000:key/${KeyId}` }), 'NotFoundException', 'Invalid arn local');

  const administration = administerKms(home);
  expect(
    administration.putPrincipal('user/anna', [JSON.stringify({ Statement: { Effect: 'Allow', Action: 'kms:*', Resource: '*' } })]),
  ).toBe(ANNA);
  expect(() => administration.putPrincipal('arn:aws:iam::000000000000:user/bert', [])).toThrow(/no principal/);
  await administration.close();
  done(kms, 'DescribeKey', { KeyId: 'alias/a' }, ANNA);
  done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId: 'alias/aws/ebs', NumberOfBytes: 64 }, ANNA);
  refused(
    ask(kms, 'DescribeKey', { KeyId: 'alias/a' }, 'arn:aws:iam::000000000000:root'),
    'AccessDeniedException',
    /no resource-based policy/,
  );

  const record = JSON.parse(readFileSync(join(home, 'audit', 'embedded', 'audit.jsonl'), 'utf8').split('\n')[0]!);
  expect([record.awsRegion, record.recipientAccountId, record.userIdentity.arn]).toEqual([ACCOUNT.region, ACCOUNT.accountId, ROOT]);
});

test('are chosen once, and checked', async () => {
  const code = (expected: string) => (error: unknown) => error instanceof VolsealError && error.code === expected;
  const home = temporaryHome();
  for (const [region, accountId] of [
    ['', '111122223333'],
    ['eu west', '111122223333'],
    ['eu-west-1', '1'],
    ['eu-west-1', 'a'.repeat(12)],
  ] as const) {
    await expect(initialiseKms(home, undefined, { region, accountId })).rejects.toSatisfy(code('ERR_ARGUMENT'));
  }
  await initialiseKms(home, undefined, ACCOUNT);
  await expect(initialiseKms(home, undefined, { ...ACCOUNT, region: 'us-east-1' })).rejects.toSatisfy(code('ERR_KMS_STORE'));
});
