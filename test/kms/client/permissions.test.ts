import assert from 'node:assert/strict';
import { onTestFinished, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { checkPermissions } from '../../../src/kms/client/permissions.js';
import { administratorPolicies } from '../../../src/kms/client/policy-documents.js';
import { administerKms } from '../../../src/kms/embedded/administration.js';
import { done, openEmbedded, temporaryHome } from '../harness.js';

const ACCOUNT = 'arn:aws:iam::000000000000:';
const ANNA = `${ACCOUNT}user/anna`;

test('what is missing is said, statement by statement, until nothing is; and nothing is made', async () => {
  const home = temporaryHome();
  const kms = openEmbedded(home);
  const keyArn: string = done(kms, 'CreateKey').KeyMetadata.Arn;
  const check = () =>
    checkPermissions({ kind: 'embedded', home }, { principal: ANNA, keyId: keyArn, contextPairs: { user: 'anna' }, workspaces: true });
  const statements: object[] = [];
  const administration = administerKms(home);
  onTestFinished(() => administration.close());
  const wanted = ['GenerateDataKeyWithoutPlaintext', 'Decrypt', 'DescribeKey', 'CreateGrant'];
  for (const action of wanted) {
    const denied = (await check()).filter(({ allowed }) => allowed === false);
    assert.ok(
      denied.some((one) => one.action === action),
      action,
    );
    const { missing, reason } = denied.find((one) => one.action === action)!;
    assert.deepEqual(missing, { Effect: 'Allow', Action: `kms:${action}`, Resource: keyArn });
    assert.match(reason ?? '', /^User: .*user\/anna is not authorized to perform: kms:.* because no identity-based policy allows/);
    statements.push(missing!);
    administration.putPrincipal('user/anna', [JSON.stringify({ Statement: statements })]);
  }
  const last = await check();
  assert.deepEqual(
    last.filter(({ allowed }) => allowed === false),
    [],
  );
  assert.deepEqual(
    last.filter(({ allowed }) => allowed === undefined).map(({ action }) => action),
    ['RetireGrant'],
  );
  assert.deepEqual(done(kms, 'ListGrants', { KeyId: keyArn }).Grants, []);
  done(kms, 'CreateGrant', { KeyId: keyArn, GranteePrincipal: `${ACCOUNT}user/bert`, RetiringPrincipal: ANNA, Operations: ['Decrypt'] });
  assert.equal((await check()).find(({ action }) => action === 'RetireGrant')?.allowed, true);
  assert.equal(done(kms, 'ListGrants', { KeyId: keyArn }).Grants.length, 1);
  const deny = { Effect: 'Deny', Principal: { AWS: ANNA }, Action: 'kms:Decrypt', Resource: '*' };
  const root = { Effect: 'Allow', Principal: { AWS: `${ACCOUNT}root` }, Action: 'kms:*', Resource: '*' };
  done(kms, 'PutKeyPolicy', { KeyId: keyArn, Policy: JSON.stringify({ Statement: [root, deny] }) });
  const refused = (await check()).filter(({ allowed }) => allowed === false);
  assert.deepEqual(
    refused.map(({ purpose, missing }) => [purpose, missing]),
    [
      ['create', undefined],
      ['attach', undefined],
    ],
  );
  done(kms, 'DisableKey', { KeyId: keyArn });
  await assert.rejects(check(), (error) => error instanceof VolsealError && error.code === 'ERR_KMS_KEY_STATE');
});

test('for a key named by its alias, the statements name its ARN, and suffice; nobody who only encrypts needs CreateGrant', async () => {
  const home = temporaryHome();
  const kms = openEmbedded(home);
  const keyArn: string = done(kms, 'CreateKey').KeyMetadata.Arn;
  done(kms, 'CreateAlias', { AliasName: 'alias/new', TargetKeyId: keyArn });
  const check = () => checkPermissions({ kind: 'embedded', home }, { principal: ANNA, keyId: 'alias/new', contextPairs: {} });
  const missing = (await check()).flatMap((one) => one.missing ?? []);
  assert.deepEqual(
    missing.map((statement) => [Reflect.get(statement, 'Action'), Reflect.get(statement, 'Resource')]),
    [
      ['kms:GenerateDataKeyWithoutPlaintext', keyArn],
      ['kms:Decrypt', keyArn],
      ['kms:Decrypt', keyArn],
    ],
  );
  const administration = administerKms(home);
  onTestFinished(() => administration.close());
  administration.putPrincipal('user/anna', [JSON.stringify({ Statement: missing })]);
  assert.ok((await check()).every(({ allowed }) => allowed === true));
});

test('an alias as the resource of a policy is refused: it would allow nothing', () => {
  const administration = administerKms(temporaryHome());
  onTestFinished(() => administration.close());
  const put = (Resource: string, Action = 'kms:Decrypt') =>
    administration.putPrincipal('user/anna', [JSON.stringify({ Statement: [{ Effect: 'Allow', Action, Resource }] })]);
  const alias = 'arn:aws:kms:local:000000000000:alias/new';
  for (const resource of ['alias/new', 'new', alias]) assert.throws(() => put(resource), /Resource.*(must be an ARN|names an alias)/);
  put('*');
  put('arn:aws:kms:local:000000000000:key/*');
  for (const action of ['kms:CreateAlias', 'kms:*', 'kms:*alias']) put(alias, action);
});

test("the administrator's two parts are policies that this KMS takes, and that suffice", async () => {
  const home = temporaryHome();
  const kms = openEmbedded(home);
  const keyArn: string = done(kms, 'CreateKey').KeyMetadata.Arn;
  const { keyPolicyStatements, identityPolicy } = administratorPolicies(keyArn, ANNA, true);
  const root = { Effect: 'Allow', Principal: { AWS: `${ACCOUNT}root` }, Action: 'kms:PutKeyPolicy', Resource: '*' };
  done(kms, 'PutKeyPolicy', {
    KeyId: keyArn,
    Policy: JSON.stringify({ Version: '2012-10-17', Statement: [root, ...keyPolicyStatements] }),
  });
  const administration = administerKms(home);
  administration.putPrincipal('user/anna', [JSON.stringify(identityPolicy)]);
  await administration.close();
  const checks = await checkPermissions({ kind: 'embedded', home }, { principal: ANNA, keyId: keyArn, contextPairs: {}, workspaces: true });
  assert.deepEqual(
    checks.filter(({ allowed }) => allowed === false),
    [],
  );
  done(kms, 'ListKeys', {}, ANNA);
  done(kms, 'ListAliases', {}, ANNA);
  assert.throws(
    () => administratorPolicies('alias/x'),
    (error) => error instanceof VolsealError && error.code === 'ERR_ARGUMENT',
  );
  assert.match(JSON.stringify(administratorPolicies(keyArn)), /role\/WorkSpacesAdministrator/);
  assert.doesNotMatch(JSON.stringify(administratorPolicies(keyArn)), /ListKeys/);
});
