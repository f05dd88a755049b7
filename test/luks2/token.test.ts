import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { encodeToken, findToken, type UnsealedToken, withToken } from '../../src/luks2/token.js';
import { KEY_ARN, sampleHeader, sampleToken } from './sample-headers.js';

const MAC = Buffer.alloc(32, 7);

const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((value) => value !== '__proto__');
const anyToken: fc.Arbitrary<UnsealedToken> = fc.record(
  {
    keyId: fc.constantFrom(KEY_ARN, 'arn:aws-cn:kms:cn-north-1:000000000000:key/mrk-0123456789abcdef0123456789abcdef'),
    encryptedDataKey: fc.uint8Array({ minLength: 1, maxLength: 1024 }).map((bytes) => Buffer.from(bytes)),
    encryptionContext: fc.dictionary(text, text, { maxKeys: 8, noNullPrototype: true }),
    volumeId: fc.bigInt({ min: 0n, max: 16n ** 17n - 1n }).map((id) => `vol-${id.toString(16).padStart(17, '0')}`),
    kms: fc.constantFrom('embedded', 'aws', 'aws:us-gov-west-1', 'http://127.0.0.1:8080', 'https://kms.example.org/path'),
    imageBytes: fc.integer({ min: 1, max: 2 ** 53 - 2 ** 21 }),
    allocation: fc.constantFrom('full', 'sparse'),
    created: fc.date({ min: new Date(0), max: new Date('9999-01-01'), noInvalidDate: true }).map((date) => date.toISOString()),
  },
  { noNullPrototype: true },
);

describe('the aws-kms token', () => {
  test('is found as it was encoded', () => {
    fc.assert(
      fc.property(anyToken, (token) => {
        const sealed = { ...token, headerMac: MAC };
        const { metadata } = sampleHeader({ token, mac: MAC });
        assert.deepEqual(findToken(JSON.parse(JSON.stringify(metadata)), 'a.img'), sealed);
      }),
    );
  });

  test('has the members that stock tools and people look for', () => {
    const token = sampleToken({ encryptedDataKey: Buffer.from('blob') });
    assert.deepEqual(encodeToken({ ...token, headerMac: MAC }), {
      type: 'aws-kms',
      keyslots: [],
      'aws-kms-key-id': KEY_ARN,
      'aws-kms-ciphertext-blob': 'YmxvYg==',
      'aws-kms-encryption-context': { 'aws:ebs:id': 'vol-0123456789abcdef0', purpose: 'test' },
      'volseal-version': 1,
      'volseal-volume-id': 'vol-0123456789abcdef0',
      'volseal-kms': 'embedded',
      'volseal-image-bytes': '67108864',
      'volseal-created': '2026-01-02T03:04:05.678Z',
      'volseal-header-mac': MAC.toString('base64'),
    });
  });

  test('of a sparse volume says so, under a version that readers of full volumes refuse', () => {
    const full = encodeToken({ ...sampleToken(), headerMac: MAC });
    const sparse = encodeToken({ ...sampleToken({ allocation: 'sparse', encryptedDataKey: Buffer.from('blob') }), headerMac: MAC });
    assert.equal(sparse['volseal-version'], 2);
    assert.equal(sparse['volseal-allocation'], 'sparse');
    assert.deepEqual(
      Object.keys(sparse).filter((member) => !(member in full)),
      ['volseal-allocation'],
    );
  });

  const wrong: { what: string; token: Partial<UnsealedToken>; says: RegExp }[] = [
    { what: 'an alias for the ARN', token: { keyId: 'alias/aws/ebs' }, says: /aws-kms-key-id/ },
    { what: 'an empty blob', token: { encryptedDataKey: Buffer.alloc(0) }, says: /ciphertext-blob/ },
    { what: 'a blob of 6145 bytes', token: { encryptedDataKey: Buffer.alloc(6145) }, says: /ciphertext-blob/ },
    { what: 'a context of more than 4096 bytes', token: { encryptionContext: { a: 'x'.repeat(4096) } }, says: /encryption-context/ },
    { what: 'an empty context key', token: { encryptionContext: { '': 'x' } }, says: /encryption-context/ },
    { what: 'a short volume id', token: { volumeId: 'vol-0123' }, says: /volume-id/ },
    { what: 'an unknown KMS', token: { kms: 'ftp://x' }, says: /volseal-kms/ },
    { what: 'no bytes', token: { imageBytes: 0 }, says: /image-bytes/ },
    { what: 'half a byte', token: { imageBytes: 1.5 }, says: /image-bytes/ },
    { what: 'too many bytes', token: { imageBytes: 2 ** 53 }, says: /image-bytes/ },
    { what: 'another date', token: { created: 'yesterday' }, says: /created/ },
  ];
  for (const { what, token, says } of wrong) {
    test(`is not encoded with ${what}`, () => {
      assert.throws(() => encodeToken(sampleToken(token)), { code: 'ERR_ARGUMENT', message: says });
    });
  }

  test('takes the longest blob and context', () => {
    encodeToken(sampleToken({ encryptedDataKey: Buffer.alloc(6144), encryptionContext: { a: 'x'.repeat(4095) } }));
  });

  const missing = Object.keys(encodeToken({ ...sampleToken(), headerMac: MAC })).filter((member) => member !== 'type');
  for (const member of missing) {
    test(`is refused without ${member}`, () => {
      const { metadata } = sampleHeader({ mac: MAC });
      Reflect.deleteProperty(metadata.tokens['0']!, member);
      assert.throws(() => findToken(metadata, '/data/a.img'), {
        code: 'ERR_HEADER_TOKEN',
        message: new RegExp(`^/data/a.img: .*${member}`),
      });
    });
  }

  const tampered: Record<string, unknown>[] = [
    { 'aws-kms-ciphertext-blob': 'YmxvYg' },
    { 'aws-kms-ciphertext-blob': 'YmxvYh==' },
    { 'aws-kms-ciphertext-blob': 'YmxvYg==\n' },
    { 'aws-kms-ciphertext-blob': '' },
    { 'aws-kms-encryption-context': { a: 1 } },
    { 'aws-kms-encryption-context': ['a'] },
    { 'aws-kms-encryption-context': null },
    { 'volseal-version': 2 },
    { 'volseal-version': '1' },
    { 'volseal-version': 3, 'volseal-allocation': 'sparse' },
    { 'volseal-allocation': 'sparse' },
    { 'volseal-version': 2, 'volseal-allocation': 'full' },
    { 'volseal-version': 2, 'volseal-allocation': null },
    { 'volseal-image-bytes': '007' },
    { 'volseal-image-bytes': 7 },
    { 'volseal-header-mac': MAC.subarray(1).toString('base64') },
    { 'volseal-something-new': true },
    { keyslots: ['0'] },
  ];
  for (const change of tampered) {
    test(`is refused with ${JSON.stringify(change)}`, () => {
      const { metadata } = sampleHeader({ mac: MAC });
      Object.assign(metadata.tokens['0']!, change);
      assert.throws(() => findToken(metadata, 'a.img'), { code: 'ERR_HEADER_TOKEN' });
    });
  }

  test('must be there once', () => {
    const { metadata } = sampleHeader({ mac: MAC });
    const without = { ...metadata, tokens: { '4': { type: 'clevis', keyslots: [] } } };
    assert.throws(() => findToken(without, 'a.img'), { code: 'ERR_HEADER_TOKEN', message: /no aws-kms token/ });
    const twice = { ...metadata, tokens: { '0': metadata.tokens['0']!, '5': metadata.tokens['0']! } };
    assert.throws(() => findToken(twice, 'a.img'), { code: 'ERR_HEADER_TOKEN', message: /2 aws-kms tokens \(0, 5\)/ });
  });

  test('replaces its predecessor and no other token', () => {
    const { metadata } = sampleHeader({ mac: MAC });
    const before = { ...metadata, tokens: { '0': { type: 'clevis', keyslots: [] }, '3': metadata.tokens['0']! } };
    const after = withToken(before, { ...sampleToken({ kms: 'aws:eu-west-1' }), headerMac: MAC });
    assert.deepEqual(Object.keys(after.tokens), ['0', '1']);
    assert.equal(after.tokens['0']!.type, 'clevis');
    assert.equal(findToken(after, 'a.img').kms, 'aws:eu-west-1');
    assert.deepEqual(Object.keys(before.tokens), ['0', '3']);
    const full = { ...metadata, tokens: Object.fromEntries(Array.from({ length: 32 }, (_, name) => [name, { type: 'x', keyslots: [] }])) };
    assert.throws(() => withToken(full, sampleToken()), { code: 'ERR_ARGUMENT', message: /all 32 tokens/ });
  });
});
