import { describe, expect, test } from 'vitest';
import { shownParameters } from '../../src/audit/parameters.js';

describe('shownParameters', () => {
  const secret = 'c2VjcmV0';

  test.each([
    ...['Plaintext', 'PLAINTEXT', 'plaintext', 'Plain text', 'plainText', 'CiphertextBlob', 'ciphertextblob', 'GrantToken', 'GrantTokens'],
    ...['Recipient', 'PrivateKeyPlaintext', 'Unknown', 'keyId', ''],
  ])('leaves out %j', (name) => {
    expect(shownParameters({ [name]: secret, KeyId: 'k' })).toEqual({ keyId: 'k' });
  });

  test('leaves out unknown members of structures, and values of another form', () => {
    const Constraints = { EncryptionContextSubset: { a: 'b', c: 1 }, Plaintext: secret };
    const shown = shownParameters({
      Constraints,
      KeyId: { Plaintext: secret },
      Operations: ['Decrypt', { Plaintext: secret }],
      Tags: [{ TagKey: 'a', TagValue: 'b', Plaintext: secret }, secret],
      EncryptionContext: [secret],
      Name: undefined,
    });
    expect(shown).toEqual({
      constraints: { encryptionContextSubset: { a: 'b' } },
      operations: ['Decrypt'],
      tags: [{ tagKey: 'a', tagValue: 'b' }],
    });
    expect(JSON.stringify(shown)).not.toContain(secret);
  });

  test('keeps names of encryption contexts as they are', () => {
    expect(shownParameters({ EncryptionContext: { Plaintext: 'x', 'aws:ebs:id': 'vol-1' } })).toEqual({
      encryptionContext: { Plaintext: 'x', 'aws:ebs:id': 'vol-1' },
    });
  });
});
