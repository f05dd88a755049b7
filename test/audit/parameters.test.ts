import assert from 'node:assert/strict';
import { test } from 'vitest';
import { shortened, shownParameters } from '../../src/audit/parameters.js';

test('a record shows the members that it knows, in the type that the API gives them, and nothing else', () => {
  const secret = 'c2VjcmV0';
  const shown = shownParameters({
    KeyId: 'k1',
    NumberOfBytes: 64,
    DryRun: false,
    EncryptionContext: { 'aws:ebs:id': 'vol-1', PLAINTEXT: 7 },
    Constraints: { EncryptionContextSubset: { a: 'b' }, SourceArn: 'arn', Plaintext: secret },
    Tags: [{ TagKey: 'a', TagValue: 'b', Plaintext: secret }, secret],
    Operations: ['Decrypt', { Plaintext: secret }],
    KeyMetadata: { Arn: 'arn', CreationDate: new Date(1000), Plaintext: secret },
    Plaintext: secret,
    PLAINTEXT: secret,
    plaintext: secret,
    ' Plaintext': secret,
    CiphertextBlob: secret,
    GrantTokens: [secret],
    Recipient: { Plaintext: secret },
    Policy: { Plaintext: secret },
    Description: [secret],
    keyId: secret,
    constructor: secret,
  });
  assert.deepEqual(shown, {
    keyId: 'k1',
    numberOfBytes: 64,
    dryRun: false,
    encryptionContext: { 'aws:ebs:id': 'vol-1' },
    constraints: { encryptionContextSubset: { a: 'b' }, sourceArn: 'arn' },
    tags: [{ tagKey: 'a', tagValue: 'b' }],
    operations: ['Decrypt'],
    keyMetadata: { arn: 'arn', creationDate: 1 },
  });
});

test('what is too long is not repeated: its size is, and the key', () => {
  const Description = 'x'.repeat(10_000);
  assert.deepEqual(shownParameters({ KeyId: 'k1', Description }, true), {
    keyId: 'k1',
    description: { omitted: true, originalSize: 10_002 },
  });
  assert.equal(shownParameters({ KeyId: 'k1', Description }).description, Description);
  assert.deepEqual(shownParameters({ Policy: '"'.repeat(100_000) }).policy, { omitted: true, originalSize: 200_002 });
  const names = ['KeyId', 'Name', 'Marker', 'SourceArn', 'AliasName', 'TargetKeyId', 'GrantId', 'KeySpec', 'KeyUsage', 'Origin'];
  const many = shownParameters(Object.fromEntries(names.map((name) => [name, 'x'.repeat(500)])), true);
  assert.equal(many.omitted, true);
  assert.equal(shortened('short'), 'short');
  assert.ok(shortened(Description).length < 600);
});
