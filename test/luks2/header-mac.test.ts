import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { decodeHeader, encodeHeader, type Luks2Header } from '../../src/luks2/header.js';
import { headerMacInput, sealHeader, verifyHeader } from '../../src/luks2/header-mac.js';
import type { Luks2Metadata } from '../../src/luks2/metadata-object.js';
import { newHeader } from '../../src/luks2/new-header.js';
import { findToken, withToken } from '../../src/luks2/token.js';
import { type KeyHandle, native } from '../../src/native.js';
import { sampleHeader, sampleKeyslot, sampleToken } from './sample-headers.js';

const rawKey = randomBytes(64);
let volumeKey: KeyHandle;
let otherKey: KeyHandle;
let sealed: Luks2Header;

beforeAll(() => {
  volumeKey = native.keyImportBase64(Buffer.from(rawKey.toString('base64')));
  otherKey = native.keyGenerate(64);
  sealed = newHeader({ volumeKey, token: sampleToken(), sectorBytes: 4096, placement: 'embedded' }, 'new.img');
});
afterAll(() => {
  native.keyWipe(volumeKey);
  native.keyWipe(otherKey);
});

/** The sealed header after `change`, through the codec: what a forger's file would give. */
function forged(change: (header: Luks2Header) => void): Luks2Header {
  const header = structuredClone(sealed);
  change(header);
  return decodeHeader(encodeHeader(header), 'a.img').header;
}

const inSegment = (change: object) => (header: Luks2Header) => void Object.assign(header.metadata.segments['0']!, change);
const inDigest = (change: object) => (header: Luks2Header) => void Object.assign(header.metadata.digests['0']!, change);
const inToken = (change: object) => (header: Luks2Header) => void Object.assign(header.metadata.tokens['0']!, change);
const inMetadata = (change: (metadata: Luks2Metadata) => void) => (header: Luks2Header) => change(header.metadata);

describe('the header MAC', () => {
  test('holds for the volume key, and gives the token', () => {
    const { header } = decodeHeader(encodeHeader(sealed), 'a.img');
    const token = verifyHeader(volumeKey, header, 'a.img');
    assert.deepEqual(token, findToken(header.metadata, 'a.img'));
    assert.equal(token.volumeId, 'vol-0123456789abcdef0');
  });

  test('is HMAC-SHA-256 of the documented text under the documented key', () => {
    const header = sampleHeader({ key: rawKey, token: sampleToken({ encryptedDataKey: Buffer.from('blob') }) });
    Object.assign(header.metadata.digests['0']!, { salt: 'SALT', digest: 'DIGEST' });
    const text =
      '{"digests":{"0":{"digest":"DIGEST","hash":"sha256","iterations":1000,"salt":"SALT","segments":["0"],"type":"pbkdf2"}},' +
      '"segments":{"0":{"encryption":"aes-xts-plain64","iv_tweak":"0","offset":"16777216","sector_size":512,"size":"dynamic","type":"crypt"}},' +
      '"token":{"aws-kms-ciphertext-blob":"YmxvYg==","aws-kms-encryption-context":{"aws:ebs:id":"vol-0123456789abcdef0","purpose":"test"},' +
      '"aws-kms-key-id":"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab","keyslots":[],"type":"aws-kms",' +
      '"volseal-created":"2026-01-02T03:04:05.678Z","volseal-image-bytes":"67108864","volseal-kms":"embedded","volseal-version":1,' +
      '"volseal-volume-id":"vol-0123456789abcdef0"},"uuid":"0a1b2c3d-4e5f-4678-9abc-def012345678"}';
    assert.equal(headerMacInput(header, 'a.img').toString(), text);
    const macKey = createHmac('sha256', rawKey).update('volseal header mac v1').digest();
    const mac = createHmac('sha256', macKey).update(text).digest('base64');
    const token = sealHeader(volumeKey, header, 'a.img').metadata.tokens['0'];
    assert.equal((token as Record<string, unknown>)['volseal-header-mac'], mac);
  });

  test('does not depend on the order of members', () => {
    const reversed = <T extends object>(object: T): T => Object.fromEntries(Object.entries(object).reverse()) as T;
    const { metadata } = sealed;
    const header = {
      ...sealed,
      metadata: reversed({
        ...metadata,
        segments: { '0': reversed(metadata.segments['0']!) },
        tokens: { '0': reversed(metadata.tokens['0']!) },
        digests: { '0': reversed(metadata.digests['0']!) },
      }),
    };
    assert.notEqual(JSON.stringify(header.metadata), JSON.stringify(metadata));
    verifyHeader(volumeKey, header, 'a.img');
  });

  test('leaves no key behind in the vault', () => {
    const { liveKeys } = native.vaultInfo();
    verifyHeader(volumeKey, sealed, 'a.img');
    assert.throws(() => verifyHeader(volumeKey, forged(inToken({ 'volseal-kms': 'aws:eu-west-1' })), 'a.img'));
    sealHeader(volumeKey, sealed, 'a.img');
    assert.equal(native.vaultInfo().liveKeys, liveKeys);
  });

  const detected: [string, (header: Luks2Header) => void][] = [
    ['the UUID', (header) => void Object.assign(header, { uuid: '0a1b2c3d-4e5f-4678-9abc-def012345679' })],
    ['the data offset', inSegment({ offset: '2097152' })],
    ['a detached offset', inSegment({ offset: '0' })],
    ['the data size', inSegment({ size: '4096' })],
    ['the sector size', inSegment({ sector_size: 512 })],
    ['the KMS key', inToken({ 'aws-kms-key-id': 'arn:aws:kms:eu-central-1:999999999999:key/1234abcd-12ab-34cd-56ef-1234567890ab' })],
    ['the blob', inToken({ 'aws-kms-ciphertext-blob': randomBytes(184).toString('base64') })],
    ['the context', inToken({ 'aws-kms-encryption-context': { 'aws:ebs:id': 'vol-0123456789abcdef0' } })],
    ['the volume id', inToken({ 'volseal-volume-id': 'vol-0123456789abcdef1' })],
    ['the KMS', inToken({ 'volseal-kms': 'http://attacker.example' })],
    ['the image length', inToken({ 'volseal-image-bytes': '512' })],
    ['the date', inToken({ 'volseal-created': '2030-01-01T00:00:00Z' })],
    ['the MAC', inToken({ 'volseal-header-mac': Buffer.alloc(32).toString('base64') })],
    ['a member of the digest', inDigest({ comment: 'x' })],
    ['requirements', inMetadata((metadata) => void Object.assign(metadata.config, { requirements: {} }))],
    ['the name of the digest', inMetadata((metadata) => void Object.assign(metadata, { digests: { '1': metadata.digests['0'] } }))],
  ];
  for (const [what, change] of detected) {
    test(`detects a change of ${what}`, () => {
      assert.throws(() => verifyHeader(volumeKey, forged(change), '/data/a.img'), {
        code: 'ERR_HEADER_MAC',
        message: /^\/data\/a\.img: the header of vol-[0-9a-f]{17} was changed/,
      });
    });
  }

  const unsupported: [string, (header: Luks2Header) => void][] = [
    ['a null cipher', inSegment({ encryption: 'cipher_null-ecb' })],
    ['a linear segment', inSegment({ type: 'linear' })],
    ['another tweak', inSegment({ iv_tweak: '1' })],
    ['an integrity layer', inSegment({ integrity: {} })],
    [
      'a requirement',
      inMetadata((metadata) => void Object.assign(metadata.config, { requirements: { mandatory: ['offline-reencrypt'] } })),
    ],
    ['more iterations than a header may ask for', inDigest({ iterations: 2_000_000_000 })],
  ];
  for (const [what, change] of unsupported) {
    test(`is not even asked about ${what}`, () => {
      assert.throws(() => verifyHeader(volumeKey, forged(change), 'a.img'), { code: 'ERR_HEADER_UNSUPPORTED' });
    });
  }

  const allowed: [string, (header: Luks2Header) => void][] = [
    ['the label', (header) => void Object.assign(header, { label: 'renamed', subsystem: 'x' })],
    ['the sequence number', (header) => void Object.assign(header, { sequence: 99n })],
    ['another token', inMetadata((metadata) => void Object.assign(metadata.tokens, { '9': { type: 'clevis', keyslots: [] } }))],
    [
      'a keyslot',
      inMetadata((metadata) => {
        metadata.keyslots['0'] = sampleKeyslot();
        metadata.digests['0']!.keyslots.push('0');
      }),
    ],
    [
      'a digest of no segment',
      inMetadata((metadata) => void Object.assign(metadata.digests, { '1': { ...metadata.digests['0'], segments: [] } })),
    ],
    ['activation flags', inMetadata((metadata) => void Object.assign(metadata.config, { flags: ['allow-discards'] }))],
  ];
  for (const [what, change] of allowed) {
    test(`leaves room for ${what}`, () => {
      verifyHeader(volumeKey, forged(change), 'a.img');
    });
  }

  test('moved under another name the token still counts', () => {
    verifyHeader(
      volumeKey,
      forged(inMetadata((metadata) => void Object.assign(metadata, { tokens: { '5': metadata.tokens['0'] } }))),
      'a.img',
    );
  });
});

describe('the digest of the volume key', () => {
  test('tells another key before the MAC is looked at', () => {
    assert.throws(() => verifyHeader(otherKey, sealed, '/data/a.img'), {
      code: 'ERR_KEY_DIGEST',
      message: /^\/data\/a\.img: the key that arn:aws:kms:\S+ unwrapped is not the key of this volume \(vol-/,
    });
  });

  test('fails where the digest was changed', () => {
    for (const change of [
      { digest: randomBytes(32).toString('base64') },
      { salt: randomBytes(32).toString('base64') },
      { iterations: 1001 },
    ]) {
      assert.throws(() => verifyHeader(volumeKey, forged(inDigest(change)), 'a.img'), { code: 'ERR_KEY_DIGEST' });
    }
  });

  test('is of the whole key: one bit more or less is another key', () => {
    const near = Buffer.from(rawKey);
    near[63]! ^= 1;
    const nearKey = native.keyImportBase64(Buffer.from(near.toString('base64')));
    assert.throws(() => verifyHeader(nearKey, sealed, 'a.img'), { code: 'ERR_KEY_DIGEST' });
    native.keyWipe(nearKey);
  });

  test('asks for a key that is still there', () => {
    const gone = native.keyGenerate(64);
    native.keyWipe(gone);
    assert.throws(() => verifyHeader(gone, sealed, 'a.img'), { code: 'ERR_KEY_GONE' });
    assert.throws(() => newHeader({ volumeKey: gone, token: sampleToken(), sectorBytes: 512, placement: 'embedded' }, 'a.img'), {
      code: 'ERR_KEY_GONE',
    });
  });
});

describe('a new header', () => {
  test('is new each time: UUID, salt, MAC', () => {
    const again = newHeader({ volumeKey, token: sampleToken(), sectorBytes: 4096, placement: 'embedded' }, 'a.img');
    assert.notEqual(again.uuid, sealed.uuid);
    assert.match(again.uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.notEqual(again.metadata.digests['0']!.salt, sealed.metadata.digests['0']!.salt);
  });

  test('is not verified before it was sealed', () => {
    const unsealed = { ...sealed, metadata: withToken(sealed.metadata, sampleToken()) };
    assert.throws(() => verifyHeader(volumeKey, unsealed, 'a.img'), { code: 'ERR_HEADER_TOKEN', message: /volseal-header-mac/ });
    verifyHeader(volumeKey, sealHeader(volumeKey, unsealed, 'a.img'), 'a.img');
  });

  test('with a token that is not valid is refused', () => {
    assert.throws(() => newHeader({ volumeKey, token: sampleToken({ volumeId: 'x' }), sectorBytes: 512, placement: 'detached' }, 'a.img'), {
      code: 'ERR_ARGUMENT',
    });
  });
});
