import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import type { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { openStore } from '../../../src/kms/embedded/store/store.js';
import { ask, done, openEmbedded, refused, revealed, spent, temporaryHome, withoutLeak } from '../harness.js';

const ARN = 'arn:aws:kms:local:000000000000:';
const ACCOUNT = 'arn:aws:iam::000000000000:';
const ROOT = `${ACCOUNT}root`;
const ANNA = `${ACCOUNT}user/anna`;
const CONTEXT = { 'aws:ebs:id': 'vol-1' };
const DAY = 24 * 60 * 60;

const newKey = (kms: EmbeddedKms, request: object = {}): string => done(kms, 'CreateKey', request).KeyMetadata.KeyId;
const policyOf = (...statements: object[]) => JSON.stringify({ Version: '2012-10-17', Statement: statements });
const allow = (principal: string, ...actions: string[]) => ({
  Effect: 'Allow',
  Principal: { AWS: principal },
  Action: actions,
  Resource: '*',
});

/** Changes a key's record behind the service's back, as time would. */
function age(
  home: string,
  keyId: string,
  change: (record: NonNullable<ReturnType<ReturnType<typeof openStore>['key']>>) => object,
): Promise<void> {
  const store = openStore(home);
  const record = store.key(keyId)!;
  store.transaction(() => store.putKey({ ...record, ...change(record) }));
  return store.close();
}

describe('deletion', () => {
  test('waits, can be called off, and leaves the key disabled then', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const { CiphertextBlob } = done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 });
    const { DeletionDate, ...rest } = done(kms, 'ScheduleKeyDeletion', { KeyId, PendingWindowInDays: 7 });
    assert.deepEqual(rest, { KeyId: `${ARN}key/${KeyId}`, KeyState: 'PendingDeletion', PendingWindowInDays: 7 });
    assert.ok(Math.abs(DeletionDate - Date.now() / 1000 - 7 * DAY) < 60);
    const described = done(kms, 'DescribeKey', { KeyId }).KeyMetadata;
    assert.deepEqual([described.KeyState, described.Enabled, described.DeletionDate], ['PendingDeletion', false, DeletionDate]);
    const pending = `${ARN}key/${KeyId} is pending deletion.`;
    const blocked: [string, object][] = [
      ['Decrypt', { CiphertextBlob }],
      ['Encrypt', { KeyId, Plaintext: 'AAAA' }],
      ['GenerateDataKey', { KeyId, NumberOfBytes: 64 }],
      ['ReEncrypt', { CiphertextBlob, DestinationKeyId: KeyId }],
      ['CreateGrant', { KeyId, GranteePrincipal: ANNA, Operations: ['Decrypt'] }],
      ['EnableKey', { KeyId }],
      ['DisableKey', { KeyId }],
      ['ScheduleKeyDeletion', { KeyId }],
      ['CreateAlias', { AliasName: 'alias/x', TargetKeyId: KeyId }],
      ['TagResource', { KeyId, Tags: [] }],
      ['UntagResource', { KeyId, TagKeys: [] }],
      ['UpdateKeyDescription', { KeyId, Description: '' }],
      ['EnableKeyRotation', { KeyId }],
      ['RotateKeyOnDemand', { KeyId }],
    ];
    for (const [operation, request] of blocked) refused(ask(kms, operation, request), 'KMSInvalidStateException', pending);
    for (const operation of [
      'GetKeyPolicy',
      'ListGrants',
      'ListKeyRotations',
      'ListResourceTags',
      'GetKeyRotationStatus',
      'ListKeyPolicies',
    ])
      done(kms, operation, { KeyId });
    assert.deepEqual(done(kms, 'CancelKeyDeletion', { KeyId }), { KeyId: `${ARN}key/${KeyId}` });
    refused(ask(kms, 'CancelKeyDeletion', { KeyId }), 'KMSInvalidStateException', /not pending deletion/);
    assert.equal(done(kms, 'DescribeKey', { KeyId }).KeyMetadata.KeyState, 'Disabled');
    done(kms, 'EnableKey', { KeyId });
    done(kms, 'Decrypt', { CiphertextBlob });
    refused(ask(kms, 'ScheduleKeyDeletion', { KeyId, PendingWindowInDays: 6 }), 'ValidationException', /greater than or equal to 7/);
    refused(ask(kms, 'ScheduleKeyDeletion', { KeyId, PendingWindowInDays: 31 }), 'ValidationException', /less than or equal to 30/);
  });

  test('ends a key when its time has come: no name leads to it, nothing it wrapped opens, no grant is left', async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    const KeyId = newKey(kms);
    const { CiphertextBlob } = done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 });
    const { GrantToken } = done(kms, 'CreateGrant', { KeyId, GranteePrincipal: ANNA, RetiringPrincipal: ANNA, Operations: ['Decrypt'] });
    done(kms, 'CreateAlias', { AliasName: 'alias/gone', TargetKeyId: KeyId });
    done(kms, 'ScheduleKeyDeletion', { KeyId });
    await age(home, KeyId, () => ({ deletionAtSeconds: Date.now() / 1000 - 1 }));
    const check = () => {
      refused(ask(kms, 'DescribeKey', { KeyId }), 'NotFoundException', `Key '${ARN}key/${KeyId}' does not exist`);
      refused(ask(kms, 'CancelKeyDeletion', { KeyId }), 'NotFoundException', /does not exist/);
      refused(ask(kms, 'Decrypt', { CiphertextBlob }), 'AccessDeniedException', /does not exist/);
      refused(ask(kms, 'DescribeKey', { KeyId: 'alias/gone' }), 'NotFoundException', /gone|does not exist/);
      assert.deepEqual(
        done(kms, 'ListKeys').Keys.filter((key: { KeyId: string }) => key.KeyId === KeyId),
        [],
      );
    };
    check();
    newKey(kms);
    check();
    assert.deepEqual(done(kms, 'ListAliases').Aliases, []);
    assert.deepEqual(done(kms, 'ListRetirableGrants', { RetiringPrincipal: ANNA }).Grants, []);
    refused(ask(kms, 'RetireGrant', { GrantToken }, ANNA), 'InvalidGrantTokenException', /token/);
  });
});

describe('rotation', () => {
  test('on demand: new material seals, old material opens, 25 times', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const wrap = () => done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64, EncryptionContext: CONTEXT });
    const blobs = [wrap()];
    for (let index = 0; index < 25; index++) {
      assert.deepEqual(done(kms, 'RotateKeyOnDemand', { KeyId }), { KeyId: `${ARN}key/${KeyId}` });
      blobs.push(wrap());
    }
    refused(ask(kms, 'RotateKeyOnDemand', { KeyId }), 'LimitExceededException', /on-demand rotations limit/);
    assert.equal(new Set(blobs.map(({ KeyMaterialId }) => KeyMaterialId)).size, 26);
    for (const { CiphertextBlob, KeyMaterialId } of blobs) {
      assert.equal(done(kms, 'Decrypt', { CiphertextBlob, EncryptionContext: CONTEXT }).KeyMaterialId, KeyMaterialId);
    }
    const first = done(kms, 'ListKeyRotations', { KeyId, Limit: 20 });
    const second = done(kms, 'ListKeyRotations', { KeyId, Marker: first.NextMarker });
    const rotations = [...first.Rotations, ...second.Rotations];
    assert.deepEqual(
      rotations.map(({ KeyMaterialId }) => KeyMaterialId),
      blobs.slice(1).map(({ KeyMaterialId }) => KeyMaterialId),
    );
    assert.deepEqual(new Set(rotations.map(({ RotationType }) => RotationType)), new Set(['ON_DEMAND']));
    assert.deepEqual(rotations.map(({ KeyMaterialState }) => KeyMaterialState).filter((state) => state === 'CURRENT').length, 1);
    assert.equal(done(kms, 'ListKeyRotations', { KeyId, IncludeKeyMaterial: 'ALL_KEY_MATERIAL' }).Rotations.length, 26);
  });

  test('by itself, when it is due and the key next seals', async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    const KeyId = newKey(kms);
    assert.deepEqual(done(kms, 'GetKeyRotationStatus', { KeyId }), { KeyId: `${ARN}key/${KeyId}`, KeyRotationEnabled: false });
    done(kms, 'EnableKeyRotation', { KeyId, RotationPeriodInDays: 90 });
    const status = done(kms, 'GetKeyRotationStatus', { KeyId });
    assert.deepEqual([status.KeyRotationEnabled, status.RotationPeriodInDays], [true, 90]);
    assert.ok(Math.abs(status.NextRotationDate - Date.now() / 1000 - 90 * DAY) < 60);
    const before = done(kms, 'Encrypt', { KeyId, Plaintext: 'AAAA' });
    await age(home, KeyId, () => ({ rotation: { periodDays: 90, nextAtSeconds: Date.now() / 1000 - 1 } }));
    const after = done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 32 });
    const [rotation, ...more] = done(kms, 'ListKeyRotations', { KeyId }).Rotations;
    assert.deepEqual(more, []);
    assert.deepEqual(
      [rotation.RotationType, rotation.KeyMaterialState, rotation.KeyMaterialId],
      ['AUTOMATIC', 'CURRENT', after.KeyMaterialId],
    );
    assert.ok(done(kms, 'GetKeyRotationStatus', { KeyId }).NextRotationDate > Date.now() / 1000 + 89 * DAY);
    done(kms, 'Decrypt', { CiphertextBlob: before.CiphertextBlob });
    done(kms, 'DisableKeyRotation', { KeyId });
    assert.equal(done(kms, 'GetKeyRotationStatus', { KeyId }).KeyRotationEnabled, false);
    refused(ask(kms, 'EnableKeyRotation', { KeyId, RotationPeriodInDays: 89 }), 'ValidationException', /rotationPeriodInDays/);
    done(kms, 'DisableKey', { KeyId });
    refused(ask(kms, 'EnableKeyRotation', { KeyId }), 'DisabledException', /disabled/);
  });
});

describe('tags', () => {
  test('are put, replaced, listed, taken off', () => {
    const kms = openEmbedded();
    const tag = (TagKey: string, TagValue: string) => ({ TagKey, TagValue });
    const KeyId = newKey(kms, { Tags: [tag('team', 'vdi')] });
    done(kms, 'TagResource', { KeyId, Tags: [tag('team', 'backup'), tag('cost', '7')] });
    assert.deepEqual(done(kms, 'ListResourceTags', { KeyId }), { Tags: [tag('cost', '7'), tag('team', 'backup')], Truncated: false });
    const first = done(kms, 'ListResourceTags', { KeyId, Limit: 1 });
    assert.deepEqual(done(kms, 'ListResourceTags', { KeyId, Marker: first.NextMarker }).Tags, [tag('team', 'backup')]);
    done(kms, 'UntagResource', { KeyId, TagKeys: ['cost', 'none'] });
    assert.deepEqual(done(kms, 'ListResourceTags', { KeyId }).Tags, [tag('team', 'backup')]);
    refused(ask(kms, 'TagResource', { KeyId, Tags: [tag('a', '1'), tag('a', '2')] }), 'TagException', 'Duplicate tag keys');
    refused(ask(kms, 'TagResource', { KeyId, Tags: [tag('AWS:a', '1')] }), 'TagException', 'Tags beginning with aws: are reserved');
    const many = Array.from({ length: 50 }, (_, index) => tag(`t${index}`, ''));
    refused(ask(kms, 'TagResource', { KeyId, Tags: many }), 'TagException', 'Too many tags');
    refused(ask(kms, 'CreateKey', { Tags: [...many, tag('x', '')] }), 'TagException', 'Too many tags');
    refused(ask(kms, 'TagResource', { KeyId, Tags: [tag('', '1')] }), 'ValidationException', /greater than or equal to 1/);
  });
});

describe('key policies', () => {
  test('the default one leaves the key to the account', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const { Policy, PolicyName } = done(kms, 'GetKeyPolicy', { KeyId });
    assert.equal(PolicyName, 'default');
    assert.deepEqual(JSON.parse(Policy).Statement[0].Principal, { AWS: ROOT });
    assert.deepEqual(done(kms, 'ListKeyPolicies', { KeyId }), { PolicyNames: ['default'], Truncated: false });
    refused(ask(kms, 'GetKeyPolicy', { KeyId, PolicyName: 'other' }), 'NotFoundException', 'No such policy exists: other');
  });

  test('decide from the moment they are put, over grants too', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms, { Policy: policyOf(allow(ROOT, 'kms:*'), allow(ANNA, 'kms:Encrypt')) });
    const asAnna = (operation: string) => ask(kms, operation, { KeyId, Plaintext: operation === 'Encrypt' ? 'AAAA' : undefined }, ANNA);
    assert.equal(asAnna('Encrypt').status, 200);
    refused(asAnna('DescribeKey'), 'AccessDeniedException', /no identity-based policy/);
    done(kms, 'CreateGrant', { KeyId, GranteePrincipal: ANNA, Operations: ['DescribeKey'] });
    assert.equal(asAnna('DescribeKey').status, 200);
    const deny = { Effect: 'Deny', Principal: { AWS: ANNA }, Action: 'kms:*', Resource: '*' };
    done(kms, 'PutKeyPolicy', { KeyId, Policy: policyOf(allow(ROOT, 'kms:*'), deny), PolicyName: 'default' });
    for (const operation of ['Encrypt', 'DescribeKey'])
      refused(
        asAnna(operation),
        'AccessDeniedException',
        new RegExp(`kms:${operation}.* with an explicit deny in a resource-based policy$`),
      );
  });

  test('that would lock everybody out are refused, unless that is wanted', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const locked = policyOf(allow(ANNA, 'kms:Decrypt'));
    refused(
      ask(kms, 'PutKeyPolicy', { KeyId, Policy: locked }),
      'MalformedPolicyDocumentException',
      'The new key policy will not allow you to update the key policy in the future.',
    );
    refused(ask(kms, 'CreateKey', { Policy: locked }), 'MalformedPolicyDocumentException', /in the future/);
    refused(ask(kms, 'PutKeyPolicy', { KeyId, Policy: '{}' }), 'MalformedPolicyDocumentException', /Statement/);
    const long = policyOf({ ...allow(ROOT, 'kms:*'), Sid: 'x'.repeat(33_000) });
    refused(ask(kms, 'PutKeyPolicy', { KeyId, Policy: long }), 'LimitExceededException', /32768 bytes/);
    done(kms, 'PutKeyPolicy', { KeyId, Policy: locked, BypassPolicyLockoutSafetyCheck: true });
    refused(ask(kms, 'GetKeyPolicy', { KeyId }), 'AccessDeniedException', /no resource-based policy/);
  });

  test.each([
    ['the kind of the key', { StringEquals: { 'kms:KeySpec': 'SYMMETRIC_DEFAULT' } }],
    ['its tags', { StringEquals: { 'aws:ResourceTag/env': 'prod' } }],
    ['the check itself', { Bool: { 'kms:BypassPolicyLockoutSafetyCheck': 'false' } }],
  ])('are checked with what the next PutKeyPolicy will have: %s', (_, Condition) => {
    const kms = openEmbedded();
    const Tags = [{ TagKey: 'env', TagValue: 'prod' }];
    const KeyId = newKey(kms, { Tags });
    const denying = policyOf(allow(ROOT, 'kms:*'), { ...allow(ROOT, 'kms:PutKeyPolicy'), Effect: 'Deny', Condition });
    const allowing = policyOf({ ...allow(ROOT, 'kms:*'), Condition }, allow(ROOT, 'kms:Get*'));
    refused(ask(kms, 'CreateKey', { Tags, Policy: denying }), 'MalformedPolicyDocumentException', /in the future/);
    refused(ask(kms, 'PutKeyPolicy', { KeyId, Policy: denying }), 'MalformedPolicyDocumentException', /in the future/);
    done(kms, 'PutKeyPolicy', { KeyId: newKey(kms, { Tags, Policy: allowing }), Policy: allowing });
  });

  test('see what the request is about', () => {
    const kms = openEmbedded();
    const some = (Condition: object, ...actions: string[]) => ({ ...allow(ANNA, ...actions), Condition });
    const KeyId = newKey(kms, {
      Tags: [{ TagKey: 'team', TagValue: 'vdi' }],
      Policy: policyOf(
        allow(ROOT, 'kms:*'),
        some({ StringEquals: { 'kms:EncryptionContext:aws:ebs:id': 'vol-1' } }, 'kms:GenerateDataKeyWithoutPlaintext'),
        some(
          { 'ForAllValues:StringEquals': { 'kms:EncryptionContextKeys': ['a'] }, Null: { 'kms:EncryptionContextKeys': false } },
          'kms:Encrypt',
        ),
        some({ StringEquals: { 'aws:ResourceTag/team': 'vdi', 'kms:RequestAlias': 'alias/mine' } }, 'kms:DescribeKey'),
        some({ NumericGreaterThanEquals: { 'kms:ScheduleKeyDeletionPendingWindowInDays': 14 } }, 'kms:ScheduleKeyDeletion'),
        some({ 'ForAnyValue:StringEquals': { 'kms:ResourceAliases': 'alias/mine' } }, 'kms:ListGrants'),
        some(
          {
            'ForAllValues:StringEquals': { 'kms:GrantOperations': ['Decrypt'] },
            StringEquals: { 'kms:GranteePrincipal': ANNA, 'kms:GrantConstraintType': 'EncryptionContextSubset' },
          },
          'kms:CreateGrant',
        ),
        some({ Bool: { 'kms:GrantIsForAWSResource': true } }, 'kms:RevokeGrant'),
      ),
    });
    const may = (operation: string, request: object, expected: boolean) => {
      const answer = ask(kms, operation, { KeyId, ...request }, ANNA);
      if (expected) assert.equal(answer.status, 200, JSON.stringify(answer.body));
      else refused(answer, 'AccessDeniedException', new RegExp(operation));
    };
    may('GenerateDataKeyWithoutPlaintext', { NumberOfBytes: 64, EncryptionContext: CONTEXT }, true);
    may('GenerateDataKeyWithoutPlaintext', { NumberOfBytes: 64, EncryptionContext: { 'aws:ebs:id': 'vol-2' } }, false);
    may('GenerateDataKeyWithoutPlaintext', { NumberOfBytes: 64 }, false);
    may('Encrypt', { Plaintext: 'AAAA', EncryptionContext: { a: '1' } }, true);
    may('Encrypt', { Plaintext: 'AAAA', EncryptionContext: { a: '1', b: '2' } }, false);
    may('Encrypt', { Plaintext: 'AAAA' }, false);
    may('ListGrants', {}, false);
    done(kms, 'CreateAlias', { AliasName: 'alias/mine', TargetKeyId: KeyId });
    may('ListGrants', {}, true);
    may('DescribeKey', {}, false);
    may('DescribeKey', { KeyId: 'alias/mine' }, true);
    const grant = { GranteePrincipal: ANNA, Operations: ['Decrypt'], Constraints: { EncryptionContextSubset: CONTEXT } };
    may('CreateGrant', grant, true);
    may('CreateGrant', { ...grant, Operations: ['Decrypt', 'Encrypt'] }, false);
    may('CreateGrant', { ...grant, Constraints: undefined }, false);
    may('CreateGrant', { ...grant, GranteePrincipal: ROOT }, false);
    may('RevokeGrant', { GrantId: 'x' }, false);
    may('ScheduleKeyDeletion', { PendingWindowInDays: 7 }, false);
    may('ScheduleKeyDeletion', { PendingWindowInDays: 30 }, true);
  });

  test('identity policies count where the key policy leaves it to the account, and for what concerns no key', async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    const open = newKey(kms);
    const closed = newKey(kms, { Policy: policyOf(allow(ROOT, 'kms:PutKeyPolicy')) });
    const store = openStore(home);
    const statements = [
      { Effect: 'Allow', Action: ['kms:Encrypt', 'kms:CreateAlias'], Resource: `${ARN}key/*` },
      { Effect: 'Allow', Action: 'kms:CreateAlias', Resource: `${ARN}alias/anna-*` },
      { Effect: 'Allow', Action: ['kms:ListKeys', 'kms:GenerateRandom'], Resource: '*' },
      { Effect: 'Deny', Action: 'kms:Encrypt', Resource: '*', Condition: { StringEquals: { 'kms:EncryptionContext:secret': 'yes' } } },
    ];
    store.transaction(() => store.putPrincipal({ principalArn: ANNA, policies: [policyOf(...statements)], createdAtSeconds: 0 }));
    await store.close();
    const encrypt = (KeyId: string, EncryptionContext = {}) => ask(kms, 'Encrypt', { KeyId, Plaintext: 'AAAA', EncryptionContext }, ANNA);
    assert.equal(encrypt(open).status, 200);
    refused(encrypt(closed), 'AccessDeniedException', /no resource-based policy/);
    refused(encrypt(open, { secret: 'yes' }), 'AccessDeniedException', /with an explicit deny in an identity-based policy$/);
    done(kms, 'CreateAlias', { AliasName: 'alias/anna-1', TargetKeyId: open }, ANNA);
    refused(ask(kms, 'CreateAlias', { AliasName: 'alias/bert', TargetKeyId: open }, ANNA), 'AccessDeniedException', /alias\/bert/);
    assert.equal(done(kms, 'ListKeys', {}, ANNA).Keys.length, 2);
    spent(ask(kms, 'GenerateRandom', { NumberOfBytes: 16 }, ANNA).plaintext);
    for (const operation of ['CreateKey', 'ListAliases']) {
      refused(
        ask(kms, operation, {}, ANNA),
        'AccessDeniedException',
        `User: ${ANNA} is not authorized to perform: kms:${operation} on resource: * because no identity-based policy allows the kms:${operation} action`,
      );
    }
  });
});

describe('ReEncrypt', () => {
  test('moves a data key to another key and context, and nobody sees it', async () => {
    const kms = openEmbedded();
    await withoutLeak(() => {
      const [from, to] = [newKey(kms), newKey(kms)];
      const original = ask(kms, 'GenerateDataKey', { KeyId: from, NumberOfBytes: 64, EncryptionContext: CONTEXT });
      const request = {
        CiphertextBlob: original.body.CiphertextBlob,
        SourceEncryptionContext: CONTEXT,
        DestinationKeyId: to,
        DestinationEncryptionContext: { copy: '1' },
      };
      const { CiphertextBlob, ...rest } = done(kms, 'ReEncrypt', request);
      assert.deepEqual(rest, {
        KeyId: `${ARN}key/${to}`,
        SourceKeyId: `${ARN}key/${from}`,
        SourceEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        DestinationEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        SourceKeyMaterialId: original.body.KeyMaterialId,
        DestinationKeyMaterialId: done(kms, 'DescribeKey', { KeyId: to }).KeyMetadata.CurrentKeyMaterialId,
      });
      const moved = ask(kms, 'Decrypt', { CiphertextBlob, EncryptionContext: { copy: '1' } });
      assert.equal(revealed(moved.plaintext!), revealed(original.plaintext!));
      spent(moved.plaintext);
      spent(original.plaintext);
      refused(ask(kms, 'ReEncrypt', { ...request, SourceEncryptionContext: {} }), 'InvalidCiphertextException', '');
      refused(ask(kms, 'ReEncrypt', { ...request, SourceKeyId: to }), 'IncorrectKeyException', /does not identify a CMK/);
      refused(ask(kms, 'ReEncrypt', { ...request, DryRun: true }), 'DryRunOperationException', /succeeded/, 412);
    });
  });

  test('asks permission on both keys', () => {
    const kms = openEmbedded();
    const [from, to] = [newKey(kms), newKey(kms)];
    const { CiphertextBlob } = done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId: from, NumberOfBytes: 64 });
    const move = () => ask(kms, 'ReEncrypt', { CiphertextBlob, DestinationKeyId: to }, ANNA);
    refused(move(), 'AccessDeniedException', /kms:ReEncryptFrom/);
    done(kms, 'CreateGrant', { KeyId: from, GranteePrincipal: ANNA, Operations: ['ReEncryptFrom'] });
    refused(move(), 'AccessDeniedException', new RegExp(`kms:ReEncryptTo on resource: .*${to}`));
    done(kms, 'CreateGrant', { KeyId: to, GranteePrincipal: ANNA, Operations: ['ReEncryptTo'] });
    assert.equal(move().status, 200);
  });
});

test('a description is changed, and random bytes are random', () => {
  const kms = openEmbedded();
  const KeyId = newKey(kms, { Description: 'old' });
  done(kms, 'UpdateKeyDescription', { KeyId, Description: 'new' });
  assert.equal(done(kms, 'DescribeKey', { KeyId }).KeyMetadata.Description, 'new');
  const random = (NumberOfBytes: number) => ask(kms, 'GenerateRandom', { NumberOfBytes });
  const texts = [spent(random(32).plaintext), spent(random(32).plaintext)];
  assert.notEqual(texts[0], texts[1]);
  assert.equal(Buffer.from(texts[0]!, 'base64').length, 32);
  refused(random(1025), 'ValidationException', /1024/);
  refused(ask(kms, 'GenerateRandom'), 'ValidationException', 'NumberOfBytes is required.');
});
