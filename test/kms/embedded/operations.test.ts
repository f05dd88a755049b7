import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import type { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { native } from '../../../src/native.js';
import { ask, done, openEmbedded, refused, revealed, spent, withoutLeak } from '../harness.js';

const ARN = 'arn:aws:kms:local:000000000000:';
const ROOT = 'arn:aws:iam::000000000000:root';
const ABSENT = '00000000-0000-4000-8000-000000000000';
const EncryptionContext = { 'aws:ebs:id': 'vol-1' };

const newKey = (kms: EmbeddedKms): string => ask(kms, 'CreateKey').body.KeyMetadata.KeyId;

describe('keys', () => {
  test('CreateKey and DescribeKey answer with the whole metadata', () => {
    const kms = openEmbedded();
    const { KeyMetadata } = ask(kms, 'CreateKey', {
      Description: 'golden images',
      KeySpec: 'SYMMETRIC_DEFAULT',
      Origin: 'AWS_KMS',
      MultiRegion: false,
      Tags: [],
    }).body;
    assert.match(KeyMetadata.KeyId, /^[0-9a-f-]{36}$/);
    assert.match(KeyMetadata.CurrentKeyMaterialId, /^[0-9a-f]{64}$/);
    assert.ok(Math.abs(KeyMetadata.CreationDate - Date.now() / 1000) < 60);
    const { KeyId, CurrentKeyMaterialId, CreationDate, ...rest } = KeyMetadata;
    assert.deepEqual(rest, {
      AWSAccountId: '000000000000',
      Arn: `${ARN}key/${KeyId}`,
      Enabled: true,
      Description: 'golden images',
      KeyUsage: 'ENCRYPT_DECRYPT',
      KeyState: 'Enabled',
      Origin: 'AWS_KMS',
      KeyManager: 'CUSTOMER',
      CustomerMasterKeySpec: 'SYMMETRIC_DEFAULT',
      KeySpec: 'SYMMETRIC_DEFAULT',
      EncryptionAlgorithms: ['SYMMETRIC_DEFAULT'],
      MultiRegion: false,
    });
    for (const name of [KeyId, rest.Arn]) assert.deepEqual(ask(kms, 'DescribeKey', { KeyId: name }).body, { KeyMetadata });
  });

  test('CreateKey refuses what it would otherwise have to ignore', () => {
    const kms = openEmbedded();
    const cases: [object, RegExp][] = [
      [{ KeySpec: 'RSA_2048' }, /RSA_2048/],
      [{ CustomerMasterKeySpec: 'HMAC_256' }, /HMAC_256/],
      [{ KeyUsage: 'SIGN_VERIFY' }, /SIGN_VERIFY/],
      [{ Origin: 'EXTERNAL' }, /EXTERNAL/],
      [{ MultiRegion: true }, /multi-Region/],
      [{ CustomKeyStoreId: 'cks-1' }, /key stores/],
    ];
    for (const [body, message] of cases) refused(ask(kms, 'CreateKey', body), 'UnsupportedOperationException', message);
    assert.deepEqual(ask(kms, 'ListKeys').body.Keys, []);
  });

  test('ListKeys goes through pages', () => {
    const kms = openEmbedded();
    const made = [newKey(kms), newKey(kms), newKey(kms)].sort();
    const first = ask(kms, 'ListKeys', { Limit: 2 }).body;
    assert.equal(first.Truncated, true);
    const second = ask(kms, 'ListKeys', { Limit: 2, Marker: first.NextMarker }).body;
    assert.equal(second.Truncated, false);
    assert.equal(second.NextMarker, undefined);
    assert.deepEqual(
      [...first.Keys, ...second.Keys],
      made.map((KeyId) => ({ KeyId, KeyArn: `${ARN}key/${KeyId}` })),
    );
    refused(
      ask(kms, 'ListKeys', { Limit: 0 }),
      'ValidationException',
      "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1",
    );
    refused(ask(kms, 'ListKeys', { Limit: 1001 }), 'ValidationException', /less than or equal to 1000/);
    refused(ask(kms, 'ListKeys', { Marker: '!' }), 'InvalidMarkerException', /marker/);
  });

  test('names that lead nowhere are told apart as AWS tells them', () => {
    const kms = openEmbedded();
    const cases: [string, string][] = [
      [ABSENT, `Key '${ARN}key/${ABSENT}' does not exist`],
      [`${ARN}key/${ABSENT}`, `Key '${ARN}key/${ABSENT}' does not exist`],
      ['alias/none', `Alias ${ARN}alias/none is not found.`],
      [`${ARN}alias/none`, `Alias ${ARN}alias/none is not found.`],
      ['none', "Invalid keyId 'none'"],
      ['alias/', "Invalid keyId 'alias/'"],
      [`arn:aws:kms:us-west-2:000000000000:key/${ABSENT}`, 'Invalid arn us-west-2'],
      [`arn:aws:s3:local:000000000000:key/${ABSENT}`, `Invalid keyId 'arn:aws:s3:local:000000000000:key/${ABSENT}'`],
    ];
    for (const [KeyId, message] of cases) {
      refused(ask(kms, 'DescribeKey', { KeyId }), 'NotFoundException', message);
      refused(ask(kms, 'GenerateDataKey', { KeyId, NumberOfBytes: 64 }), 'NotFoundException', message);
    }
  });

  test('a disabled key does nothing but describe itself, until it is enabled', async () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const { CiphertextBlob } = ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 }).body;
    assert.deepEqual(ask(kms, 'DisableKey', { KeyId }), { status: 200, body: {}, plaintext: undefined });
    assert.equal(ask(kms, 'DescribeKey', { KeyId }).body.KeyMetadata.KeyState, 'Disabled');
    await withoutLeak(() => {
      const disabled = `${ARN}key/${KeyId} is disabled.`;
      refused(ask(kms, 'Decrypt', { CiphertextBlob }), 'DisabledException', disabled);
      refused(ask(kms, 'Encrypt', { KeyId, Plaintext: 'AAAA' }), 'DisabledException', disabled);
      refused(ask(kms, 'GenerateDataKey', { KeyId, NumberOfBytes: 64 }), 'DisabledException', disabled);
      refused(ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 }), 'DisabledException', disabled);
    });
    ask(kms, 'EnableKey', { KeyId });
    assert.equal(ask(kms, 'DescribeKey', { KeyId }).body.KeyMetadata.Enabled, true);
    spent(ask(kms, 'Decrypt', { CiphertextBlob }).plaintext);
    refused(ask(kms, 'DisableKey', { KeyId: ABSENT }), 'NotFoundException', /does not exist/);
    refused(ask(kms, 'DisableKey', { KeyId: 'alias/x' }), 'NotFoundException', "Invalid keyId 'alias/x'");
  });
});

describe('AWS managed keys', () => {
  for (const alias of ['alias/aws/ebs', 'alias/aws/workspaces']) {
    test(`${alias} makes its key when first used, and only then`, () => {
      const kms = openEmbedded();
      assert.deepEqual(ask(kms, 'ListAliases').body.Aliases, []);
      const { KeyMetadata } = ask(kms, 'DescribeKey', { KeyId: alias }).body;
      assert.equal(KeyMetadata.KeyManager, 'AWS');
      assert.match(KeyMetadata.Description, /^Default key that protects my/);
      assert.equal(ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId: `${ARN}${alias}`, NumberOfBytes: 64 }).body.KeyId, KeyMetadata.Arn);
      assert.equal(ask(kms, 'ListKeys').body.Keys.length, 1);
      assert.equal(ask(kms, 'ListAliases').body.Aliases[0].TargetKeyId, KeyMetadata.KeyId);
    });
  }

  test('cannot be disabled, given an alias, or lose theirs', () => {
    const kms = openEmbedded();
    const { KeyId, Arn } = ask(kms, 'DescribeKey', { KeyId: 'alias/aws/ebs' }).body.KeyMetadata;
    refused(
      ask(kms, 'DisableKey', { KeyId }),
      'AccessDeniedException',
      `User: ${ROOT} is not authorized to perform: kms:DisableKey on resource: ${Arn} because no resource-based policy allows the kms:DisableKey action`,
    );
    refused(ask(kms, 'CreateAlias', { AliasName: 'alias/mine', TargetKeyId: KeyId }), 'AccessDeniedException', /kms:CreateAlias/);
    refused(ask(kms, 'DeleteAlias', { AliasName: 'alias/aws/ebs' }), 'AccessDeniedException', /kms:DeleteAlias/);
    refused(ask(kms, 'DescribeKey', { KeyId: 'alias/aws/s3' }), 'NotFoundException', /alias\/aws\/s3 is not found/);
    assert.equal(ask(kms, 'DescribeKey', { KeyId }).body.KeyMetadata.KeyState, 'Enabled');
  });
});

describe('aliases', () => {
  test('name a key, move to another, go away', () => {
    const kms = openEmbedded();
    const [one, two] = [newKey(kms), newKey(kms)];
    assert.deepEqual(ask(kms, 'CreateAlias', { AliasName: 'alias/a', TargetKeyId: one }).body, {});
    assert.equal(ask(kms, 'DescribeKey', { KeyId: 'alias/a' }).body.KeyMetadata.KeyId, one);
    ask(kms, 'UpdateAlias', { AliasName: 'alias/a', TargetKeyId: `${ARN}key/${two}` });
    assert.equal(ask(kms, 'DescribeKey', { KeyId: `${ARN}alias/a` }).body.KeyMetadata.KeyId, two);
    assert.deepEqual(ask(kms, 'ListAliases', { KeyId: one }).body.Aliases, []);
    ask(kms, 'DeleteAlias', { AliasName: 'alias/a' });
    refused(ask(kms, 'DeleteAlias', { AliasName: 'alias/a' }), 'NotFoundException', `Alias ${ARN}alias/a is not found.`);
    refused(ask(kms, 'UpdateAlias', { AliasName: 'alias/a', TargetKeyId: one }), 'NotFoundException', /alias\/a is not found/);
  });

  test('ListAliases goes through pages, of all keys or of one', () => {
    const kms = openEmbedded();
    const [one, two] = [newKey(kms), newKey(kms)];
    for (const name of ['a', 'b', 'c']) ask(kms, 'CreateAlias', { AliasName: `alias/${name}`, TargetKeyId: name === 'b' ? two : one });
    const names = (body: { Aliases: { AliasName: string }[] }) => body.Aliases.map(({ AliasName }) => AliasName);
    const first = ask(kms, 'ListAliases', { Limit: 2 }).body;
    assert.deepEqual(names(first), ['alias/a', 'alias/b']);
    assert.deepEqual(names(ask(kms, 'ListAliases', { Marker: first.NextMarker }).body), ['alias/c']);
    assert.deepEqual(names(ask(kms, 'ListAliases', { KeyId: one }).body), ['alias/a', 'alias/c']);
    assert.equal(ask(kms, 'ListAliases').body.Truncated, false);
  });

  test('bad names, taken names, too many', () => {
    const kms = openEmbedded();
    const TargetKeyId = newKey(kms);
    const create = (AliasName: string) => ask(kms, 'CreateAlias', { AliasName, TargetKeyId });
    refused(create('mine'), 'ValidationException', /must start with the prefix "alias\/"/);
    refused(create('alias/'), 'ValidationException', /must start with the prefix/);
    refused(
      create('alias/sp ace'),
      'ValidationException',
      "1 validation error detected: Value 'alias/sp ace' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$",
    );
    refused(create(`alias/${'x'.repeat(251)}`), 'ValidationException', /length less than or equal to 256/);
    refused(create('alias/aws/mine'), 'NotAuthorizedException', /reserved/);
    create('alias/mine');
    refused(create('alias/mine'), 'AlreadyExistsException', `An alias with the name ${ARN}alias/mine already exists`);
    for (let index = 1; index < 50; index++) assert.equal(create(`alias/${index}`).status, 200);
    refused(create('alias/51'), 'LimitExceededException', /50 aliases/);
  });
});

describe('data keys', () => {
  test('GenerateDataKey and Decrypt carry one key, and no body shows it', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    for (const [length, request] of [
      [64, { NumberOfBytes: 64 }],
      [32, { KeySpec: 'AES_256' }],
      [16, { KeySpec: 'AES_128' }],
      [1, { NumberOfBytes: 1 }],
      [1024, { NumberOfBytes: 1024 }],
    ] as const) {
      const made = ask(kms, 'GenerateDataKey', { KeyId, EncryptionContext, ...request });
      const { CiphertextBlob, Plaintext, KeyMaterialId } = made.body;
      assert.equal(made.body.KeyId, `${ARN}key/${KeyId}`);
      assert.equal(Plaintext, 'A'.repeat(4 * Math.ceil(length / 3)));
      assert.equal(native.keyByteLength(made.plaintext!), length);
      const opened = ask(kms, 'Decrypt', { CiphertextBlob, KeyId, EncryptionContext });
      assert.deepEqual(opened.body, { KeyId: `${ARN}key/${KeyId}`, Plaintext, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT', KeyMaterialId });
      assert.equal(revealed(opened.plaintext!), revealed(made.plaintext!));
      assert.equal(spent(opened.plaintext), spent(made.plaintext));
    }
  });

  test('without plaintext there is none, in body or vault', () =>
    withoutLeak(() => {
      const kms = openEmbedded();
      const answer = ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId: newKey(kms), NumberOfBytes: 64 });
      assert.deepEqual(Object.keys(answer.body).sort(), ['CiphertextBlob', 'KeyId', 'KeyMaterialId']);
      assert.equal(answer.plaintext, undefined);
      return kms.close();
    }));

  test('lengths and specs', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const generate = (request: object) => ask(kms, 'GenerateDataKey', { KeyId, ...request });
    const broken = '1 validation error detected: ';
    refused(generate({}), 'ValidationException', 'Please specify either number of bytes or key spec.');
    refused(generate({ NumberOfBytes: 64, KeySpec: 'AES_256' }), 'ValidationException', /either/);
    refused(
      generate({ NumberOfBytes: 0 }),
      'ValidationException',
      `${broken}Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1`,
    );
    refused(
      generate({ NumberOfBytes: 1025 }),
      'ValidationException',
      `${broken}Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024`,
    );
    refused(
      generate({ KeySpec: 'AES_512' }),
      'ValidationException',
      `${broken}Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]`,
    );
    refused(generate({ NumberOfBytes: '64' }), 'SerializationException', /NumberOfBytes/);
    refused(generate({ NumberOfBytes: 1.5 }), 'SerializationException', /NumberOfBytes/);
    refused(
      ask(kms, 'GenerateDataKey', { NumberOfBytes: 0 }),
      'ValidationException',
      /^2 validation errors detected: Value null at 'keyId'.*; Value '0' at 'numberOfBytes'/,
    );
    refused(generate({ NumberOfBytes: 64, Recipient: {} }), 'UnsupportedOperationException', /Nitro/);
  });
});

describe('encrypt and decrypt', () => {
  test('what was encrypted comes back, up to 4096 bytes', async () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    await withoutLeak(() => {
      for (const length of [1, 2, 3, 64, 4096]) {
        const Plaintext = Buffer.alloc(length, 'xyz').toString('base64');
        const { body } = ask(kms, 'Encrypt', { KeyId, Plaintext, EncryptionContext });
        assert.deepEqual(Object.keys(body).sort(), ['CiphertextBlob', 'EncryptionAlgorithm', 'KeyId']);
        assert.ok(Buffer.from(body.CiphertextBlob, 'base64').length <= 6144);
        assert.equal(spent(ask(kms, 'Decrypt', { CiphertextBlob: body.CiphertextBlob, EncryptionContext }).plaintext), Plaintext);
      }
      refused(
        ask(kms, 'Encrypt', { KeyId }),
        'ValidationException',
        "1 validation error detected: Value null at 'plaintext' failed to satisfy constraint: Member must not be null",
      );
    });
  });

  test('the context must be the same pairs, in any order', async () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const { CiphertextBlob } = ask(kms, 'GenerateDataKeyWithoutPlaintext', {
      KeyId,
      NumberOfBytes: 64,
      EncryptionContext: { a: 'bc', d: 'e' },
    }).body;
    spent(ask(kms, 'Decrypt', { CiphertextBlob, EncryptionContext: { d: 'e', a: 'bc' } }).plaintext);
    await withoutLeak(() => {
      for (const context of [
        undefined,
        null,
        {},
        { a: 'bc' },
        { ab: 'c', d: 'e' },
        { A: 'bc', d: 'e' },
        { a: 'bc', d: 'E' },
        { a: 'bc', d: 'e', f: '' },
      ]) {
        refused(ask(kms, 'Decrypt', { CiphertextBlob, EncryptionContext: context }), 'InvalidCiphertextException', '');
      }
    });
  });

  test('a pair named __proto__ is refused, as in all JSON from outside', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    for (const name of ['__proto__', '\\u005f_proto__']) {
      const body = `{"KeyId":"${KeyId}","NumberOfBytes":64,"EncryptionContext":{"${name}":"x"}}`;
      refused(ask(kms, 'GenerateDataKeyWithoutPlaintext', body), 'SerializationException', /has a member named __proto__/);
    }
    const { CiphertextBlob } = ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 }).body;
    const body = `{"CiphertextBlob":"${CiphertextBlob}","EncryptionContext":{"__proto__":"x"}}`;
    refused(ask(kms, 'Decrypt', body), 'SerializationException', /__proto__/);
  });

  test('contexts that are none', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const withContext = (context: unknown) =>
      ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64, EncryptionContext: context });
    for (const context of [{ '': 'x' }, [], 'a', { a: null }, { a: 'x'.repeat(8192) }]) {
      refused(withContext(context), 'ValidationException', /encryption context/);
    }
    refused(withContext({ a: 1 }), 'SerializationException', 'NUMBER_VALUE can not be converted to a String');
    refused(withContext({ a: true }), 'SerializationException', 'TRUE_VALUE can not be converted to a String');
  });

  test('keys that differ only in case are two keys', () => {
    const kms = openEmbedded();
    const EncryptionContext = { a: '1', A: '2' };
    const { CiphertextBlob } = done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId: newKey(kms), NumberOfBytes: 64, EncryptionContext });
    spent(ask(kms, 'Decrypt', { CiphertextBlob, EncryptionContext: { A: '2', a: '1' } }).plaintext);
    refused(ask(kms, 'Decrypt', { CiphertextBlob, EncryptionContext: { a: '2', A: '1' } }), 'InvalidCiphertextException', '');
  });

  test('blobs of other keys, of unknown keys, of no key', () => {
    const [kms, other] = [openEmbedded(), openEmbedded()];
    const [KeyId, another] = [newKey(kms), newKey(kms)];
    const { CiphertextBlob } = ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 }).body;
    refused(
      ask(kms, 'Decrypt', { CiphertextBlob, KeyId: another }),
      'IncorrectKeyException',
      'The key ID in the request does not identify a CMK that can perform this operation.',
    );
    refused(ask(kms, 'Decrypt', { CiphertextBlob, KeyId: ABSENT }), 'NotFoundException', /does not exist/);
    const denied = ask(other, 'Decrypt', { CiphertextBlob });
    refused(
      denied,
      'AccessDeniedException',
      'The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.',
    );
    assert.ok('Message' in denied.body);
    refused(ask(kms, 'Decrypt', { CiphertextBlob: 'AAAA' }), 'InvalidCiphertextException', '');
    refused(ask(kms, 'Decrypt', { CiphertextBlob: '' }), 'ValidationException', /'ciphertextBlob'.*length greater than or equal to 1/);
    refused(
      ask(kms, 'Decrypt', { CiphertextBlob: Buffer.alloc(6145).toString('base64') }),
      'ValidationException',
      /less than or equal to 6144/,
    );
    refused(ask(kms, 'Decrypt', {}), 'ValidationException', /Value null at 'ciphertextBlob'/);
    for (const text of ['*', 'AA', 'AAB=', 'AAAA ', 'AA-_'])
      refused(ask(kms, 'Decrypt', { CiphertextBlob: text }), 'SerializationException', /base64/);
  });

  test('a dry run, a grant token and a foreign algorithm end what would succeed', async () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const { CiphertextBlob } = ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 }).body;
    await withoutLeak(() => {
      const requests: [string, object][] = [
        ['Decrypt', { CiphertextBlob }],
        ['Encrypt', { KeyId, Plaintext: 'AAAA' }],
        ['GenerateDataKey', { KeyId, NumberOfBytes: 64 }],
        ['GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 }],
      ];
      for (const [operation, request] of requests) {
        refused(
          ask(kms, operation, { ...request, DryRun: true }),
          'DryRunOperationException',
          'The request would have succeeded, but the DryRun option is set.',
          412,
        );
        refused(ask(kms, operation, { ...request, GrantTokens: ['t'] }), 'InvalidGrantTokenException', /grant token/);
      }
      refused(ask(kms, 'Decrypt', { CiphertextBlob, EncryptionAlgorithm: 'RSAES_OAEP_SHA_256' }), 'InvalidKeyUsageException', /symmetric/);
      refused(ask(kms, 'Decrypt', { CiphertextBlob, EncryptionContext, DryRun: true }), 'InvalidCiphertextException', '');
    });
  });
});

test('what is not a request', () => {
  const kms = openEmbedded();
  for (const operation of ['', 'Nonsense', 'constructor', 'decrypt'])
    refused(ask(kms, operation), 'UnknownOperationException', /no operation/);
  for (const operation of ['Sign', 'GenerateMac', 'ImportKeyMaterial', 'CreateCustomKeyStore', 'ReplicateKey'])
    refused(ask(kms, operation), 'UnsupportedOperationException', new RegExp(operation));
  for (const body of ['', '{', '[]', 'null', '"x"']) refused(ask(kms, 'ListKeys', body), 'SerializationException', /not a JSON object/);
});
