/** Every member of every request: those of AWS's current model are known, all others are refused. */
import * as sdk from '@aws-sdk/client-kms';
import { describe, expect, test } from 'vitest';
import { operationNames } from '../../../src/kms/embedded/operations/registry.js';
import { ask, done, openEmbedded, refused } from '../harness.js';

/** A structure of the SDK's schema: kind 3, namespace, name, traits, names of its members, schemas of its members. */
type Structure = readonly [3, string, string, unknown, readonly string[], readonly unknown[]];
type OperationSchema = readonly [9, string, string, unknown, () => Structure];

const models = new Map(
  Object.values(sdk as Record<string, unknown>)
    .filter((value): value is OperationSchema => Array.isArray(value) && value[0] === 9)
    .map((schema) => [schema[2], schema[4]()] as const),
);

/** The paths of all members of a request, those of structures within it too: `Constraints.SourceArn`. */
function membersOf([, , , , names, types]: Structure, prefix = ''): string[] {
  return names.flatMap((name, index) => {
    const type = types[index];
    const inner = typeof type === 'function' ? (type as () => readonly unknown[])() : undefined;
    return [`${prefix}${name}`, ...(inner?.[0] === 3 ? membersOf(inner as unknown as Structure, `${prefix}${name}.`) : [])];
  });
}

/** `A.B` with a value: `{A: {B: value}}`. */
const requestWith = (path: string, value: unknown): object => {
  const [name = '', ...inner] = path.split('.');
  return { [name]: inner.length === 0 ? value : requestWith(inner.join('.'), value) };
};

test('the model of AWS has all operations of the embedded KMS', () => {
  expect(operationNames().filter((name) => !models.has(name))).toEqual([]);
});

test('all other operations of AWS are unsupported, and what nobody has is unknown', () => {
  const kms = openEmbedded();
  const others = [...models.keys()].filter((name) => !operationNames().includes(name));
  expect(others).toContain('GenerateDataKeyPair');
  for (const name of others) {
    refused(ask(kms, name), 'UnsupportedOperationException', `The embedded KMS does not support the operation ${name}.`);
  }
  refused(ask(kms, 'MakeCoffee'), 'UnknownOperationException', /MakeCoffee/);
});

describe.each(operationNames())('%s', (operation) => {
  const members = membersOf(models.get(operation)!);

  test('knows the members of the model', () => {
    const kms = openEmbedded();
    for (const member of members) {
      const value = member === 'Plaintext' ? Buffer.alloc(32).toString('base64') : 7;
      // An unknown member is refused by its name before any other problem is looked at.
      expect(ask(kms, operation, requestWith(member, value)).body.message ?? '', member).not.toMatch(/request member/);
    }
  });

  test('refuses a member that it does not have', () => {
    const kms = openEmbedded();
    const plaintext = operation === 'Encrypt' ? { Plaintext: Buffer.alloc(32).toString('base64') } : {};
    for (const name of ['SourceArn', 'keyId', 'toString', 'constructor', '']) {
      const answer = ask(kms, operation, { ...plaintext, [name]: 'x' });
      refused(answer, 'UnsupportedOperationException', `The embedded KMS does not support the request member ${JSON.stringify(name)}.`);
    }
  });
});

test('members of inner structures are refused as well', () => {
  const kms = openEmbedded();
  const KeyId = done(kms, 'CreateKey').KeyMetadata.KeyId;
  const grant = { KeyId, GranteePrincipal: 'arn:aws:iam::000000000000:user/anna', Operations: ['Decrypt'] };
  refused(
    ask(kms, 'CreateGrant', { ...grant, Constraints: { EncryptionContextEqual: {} } }),
    'UnsupportedOperationException',
    /"Constraints\.EncryptionContextEqual"/,
  );
  refused(
    ask(kms, 'TagResource', { KeyId, Tags: [{ TagKey: 'a', TagValue: 'b', Value: 'c' }] }),
    'UnsupportedOperationException',
    /"Tags\.0\.Value"/,
  );
});

test('null in an optional member counts as absent', () => {
  const kms = openEmbedded();
  const { KeyId } = done(kms, 'CreateKey', { Description: null, Policy: null, Tags: null, MultiRegion: null }).KeyMetadata;
  done(kms, 'ListKeys', { Limit: null, Marker: null });
  done(kms, 'CreateGrant', {
    KeyId,
    GranteePrincipal: 'ebs.amazonaws.com',
    Operations: ['Decrypt'],
    Name: null,
    Constraints: { SourceArn: null },
  });
  refused(ask(kms, 'DescribeKey', { KeyId: null }), 'ValidationException', /Value null at 'keyId'/);
});

test.each([
  ['KeySpec', 'nonsense', /'keySpec'.*enum value set: \[.*RSA_2048.*SYMMETRIC_DEFAULT/],
  ['CustomerMasterKeySpec', 'ML_DSA_44', /'customerMasterKeySpec'.*enum value set/],
  ['KeyUsage', 'nonsense', /'keyUsage'.*enum value set: \[.*ENCRYPT_DECRYPT/],
  ['Origin', 'nonsense', /'origin'.*enum value set: \[.*EXTERNAL/],
  ['Tags', [{ TagKey: '', TagValue: '' }], /'tags\.1\.member\.tagKey'.*length greater than or equal to 1/],
  ['Tags', Array.from({ length: 80_000 }, () => ({})), /'tags'.*length less than or equal to 1000/],
] as const)('CreateKey with %s %o is a ValidationException', (member, value, message) => {
  refused(ask(openEmbedded(), 'CreateKey', { [member]: value }), 'ValidationException', message);
});

describe('a dry run that ignores the ciphertext', () => {
  const dry = { DryRun: true, DryRunModifiers: ['IGNORE_CIPHERTEXT'] };
  const anna = 'arn:aws:iam::000000000000:user/anna';

  test('checks permissions without a ciphertext', () => {
    const kms = openEmbedded();
    const [KeyId, other] = [1, 2].map(() => done(kms, 'CreateKey').KeyMetadata.KeyId);
    const reEncrypt = { ...dry, SourceKeyId: KeyId, DestinationKeyId: other };
    refused(ask(kms, 'Decrypt', { ...dry, KeyId }), 'DryRunOperationException', /would have succeeded/, 412);
    refused(ask(kms, 'ReEncrypt', reEncrypt), 'DryRunOperationException', /would have succeeded/, 412);
    refused(ask(kms, 'Decrypt', { ...dry, KeyId }, anna), 'AccessDeniedException', /kms:Decrypt/);
    refused(ask(kms, 'ReEncrypt', reEncrypt, anna), 'AccessDeniedException', /kms:ReEncryptFrom/);
  });

  test('needs a key, and a dry run', () => {
    const kms = openEmbedded();
    const KeyId = done(kms, 'CreateKey').KeyMetadata.KeyId;
    refused(ask(kms, 'Decrypt', dry), 'ValidationException', /KeyId is required/);
    refused(ask(kms, 'ReEncrypt', { ...dry, DestinationKeyId: KeyId }), 'ValidationException', /SourceKeyId is required/);
    refused(ask(kms, 'Decrypt', { KeyId, DryRunModifiers: dry.DryRunModifiers }), 'ValidationException', /only valid when DryRun/);
    refused(ask(kms, 'Decrypt', { ...dry, KeyId, DryRunModifiers: ['x'] }), 'ValidationException', /IGNORE_CIPHERTEXT/);
    refused(ask(kms, 'Decrypt', { KeyId, DryRun: true }), 'ValidationException', /'ciphertextBlob'/);
  });
});
