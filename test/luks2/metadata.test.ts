import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { assertSupported, decodeBase64, headerAreaBytes, parseMetadata } from '../../src/luks2/metadata.js';
import type { Luks2Metadata } from '../../src/luks2/metadata-object.js';
import { sampleHeader } from './sample-headers.js';

const AREA_BYTES = 12288;

function area(text: string | Buffer, bytes = AREA_BYTES): Buffer {
  const all = Buffer.alloc(bytes);
  Buffer.from(text).copy(all);
  return all;
}

function sample(): Luks2Metadata {
  return structuredClone(sampleHeader().metadata);
}

/** A sample changed by `change`, as text in an area. */
function changed(change: (metadata: Luks2Metadata & Record<string, unknown>) => void): Buffer {
  const metadata = sample();
  change(metadata);
  return area(JSON.stringify(metadata));
}

const KEYSLOT = {
  type: 'luks2',
  key_size: 64,
  af: { type: 'luks1', stripes: 4000, hash: 'sha256' },
  area: { type: 'raw', offset: '32768', size: '258048', encryption: 'aes-xts-plain64', key_size: 64 },
  kdf: { type: 'argon2id', time: 4, memory: 1048576, cpus: 4, salt: 'CH8VUy4AwACyg9fqT5NjFvQ4EKrfO0zBqz3unO6skZ8=' },
};

describe('the JSON area', () => {
  test('keeps keyslots, tokens and members that it does not know', () => {
    const metadata = sample();
    metadata.keyslots['3'] = structuredClone(KEYSLOT);
    metadata.digests['0']!.keyslots.push('3');
    metadata.tokens['7'] = { type: 'clevis', keyslots: ['3'], jwe: { nested: [1, 2.5, null, true, 'ü'] } };
    metadata.config.flags = ['allow-discards'];
    (metadata as Record<string, unknown>)['from-the-future'] = { a: [] };
    const text = JSON.stringify(metadata);
    assert.equal(JSON.stringify(parseMetadata(area(text))), text);
  });

  const malformed: { what: string; bytes: () => Buffer; says: RegExp }[] = [
    { what: 'without NUL', bytes: () => area('{'.padEnd(AREA_BYTES, ' ')), says: /does not end with NUL/ },
    { what: 'that begins with a space', bytes: () => area(` ${JSON.stringify(sample())}`), says: /does not begin with \{/ },
    { what: 'that is empty', bytes: () => area(''), says: /does not begin with \{/ },
    { what: 'with bytes behind NUL', bytes: () => area(`${JSON.stringify(sample())}\0x`), says: /bytes behind its end/ },
    { what: 'with text behind the object', bytes: () => area(`${JSON.stringify(sample())}x`), says: /not JSON/ },
    { what: 'cut short', bytes: () => area(JSON.stringify(sample()).slice(0, -1)), says: /not JSON/ },
    { what: 'not in UTF-8', bytes: () => area(Buffer.from('{"\xff":1}', 'latin1')), says: /not JSON/ },
    { what: 'with a half surrogate', bytes: () => area(`{"a":"\\ud800"}`), says: /half a surrogate/ },
    { what: 'with __proto__', bytes: () => area(`{"__proto__":{"config":{}}}`), says: /__proto__/ },
    { what: 'with a number beyond 2^53', bytes: () => area(`{"a":9007199254740993}`), says: /beyond 2\^53/ },
    { what: 'with an infinite number', bytes: () => area(`{"a":1e999}`), says: /beyond 2\^53/ },
    { what: 'nested deep', bytes: () => area(`{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`), says: /nested deeper/ },
    { what: 'without segments', bytes: () => changed((m) => Reflect.deleteProperty(m, 'segments')), says: /segments: / },
    { what: 'with keyslots as a list', bytes: () => changed((m) => Object.assign(m, { keyslots: [] })), says: /keyslots: / },
    {
      what: 'with a named segment',
      bytes: () => changed((m) => Object.assign(m.segments, { zero: m.segments['0'] })),
      says: /segments.zero: /,
    },
    {
      what: 'with a padded object name',
      bytes: () => changed((m) => Object.assign(m.segments, { '00': m.segments['0'] })),
      says: /segments.00: .*|not an object name/,
    },
    { what: 'with a numeric offset', bytes: () => changed((m) => Object.assign(m.segments['0']!, { offset: 4096 })), says: /0\.offset: / },
    {
      what: 'with a negative offset',
      bytes: () => changed((m) => Object.assign(m.segments['0']!, { offset: '-512' })),
      says: /0\.offset: /,
    },
    {
      what: 'with a huge offset',
      bytes: () => changed((m) => Object.assign(m.segments['0']!, { offset: '9'.repeat(400) })),
      says: /0\.offset: /,
    },
    { what: 'with another size word', bytes: () => changed((m) => Object.assign(m.segments['0']!, { size: 'all' })), says: /0\.size: / },
    {
      what: 'with a token of no type',
      bytes: () => changed((m) => Reflect.deleteProperty(m.tokens['0']!, 'type')),
      says: /tokens\.0\.type/,
    },
    {
      what: 'with a token of a missing keyslot',
      bytes: () => changed((m) => m.tokens['0']!.keyslots.push('5')),
      says: /tokens\.0\.keyslots refers to 5/,
    },
    {
      what: 'with a digest of a missing keyslot',
      bytes: () => changed((m) => m.digests['0']!.keyslots.push('5')),
      says: /digests\.0\.keyslots refers/,
    },
    {
      what: 'with a digest of a missing segment',
      bytes: () => changed((m) => m.digests['0']!.segments.push('1')),
      says: /digests\.0\.segments refers/,
    },
    {
      what: 'of another size than it says',
      bytes: () => changed((m) => Object.assign(m.config, { json_size: '4096' })),
      says: /names a size of 4096/,
    },
    {
      what: 'with an odd keyslot area',
      bytes: () => changed((m) => Object.assign(m.config, { keyslots_size: '1000' })),
      says: /keyslots_size/,
    },
    {
      what: 'with a vast keyslot area',
      bytes: () => changed((m) => Object.assign(m.config, { keyslots_size: '1099511627776' })),
      says: /keyslots_size/,
    },
    {
      what: 'with data inside the header',
      bytes: () => changed((m) => Object.assign(m.segments['0']!, { offset: '32768' })),
      says: /segments\.0\.offset lies inside the header's \d+ bytes/,
    },
    {
      what: 'with 33 tokens',
      bytes: () =>
        changed((m) => {
          for (let name = 0; name < 33; name += 1) m.tokens[String(name)] = { type: 't', keyslots: [] };
        }),
      says: /tokens: has more than 32/,
    },
  ];
  for (const { what, bytes, says } of malformed) {
    test(`is refused ${what}`, () => {
      assert.throws(() => parseMetadata(bytes()), { code: 'ERR_HEADER_DAMAGED', message: says });
    });
  }

  test('never makes anything but a typed error of arbitrary JSON', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc
            .dictionary(fc.constantFrom('keyslots', 'tokens', 'segments', 'digests', 'config'), fc.jsonValue())
            .map((value) => JSON.stringify(value)),
        ),
        (text) => {
          assert.throws(() => parseMetadata(area(text.slice(0, AREA_BYTES - 1))), { code: 'ERR_HEADER_DAMAGED' });
        },
      ),
    );
  });
});

describe('what is supported', () => {
  test('gives the segment and the digest', () => {
    const metadata = sample();
    const { segment, digest } = assertSupported(metadata, 'a.img');
    assert.deepEqual(segment, { offsetBytes: 16 * 1024 * 1024, sizeBytes: 'dynamic', sectorBytes: 512 });
    assert.equal(digest.iterations, 1000);
    assert.equal(digest.salt.length, 32);
    assert.equal(digest.digest.length, 32);
    assert.equal(headerAreaBytes(metadata), 32768 + 1024 * 1024);
  });

  for (const sectorBytes of [512, 1024, 2048, 4096] as const) {
    test(`takes sectors of ${sectorBytes} bytes, a fixed size and a detached header`, () => {
      const metadata = sample();
      Object.assign(metadata.segments['0']!, { sector_size: sectorBytes, size: '8192', offset: '0' });
      assert.deepEqual(assertSupported(metadata, 'a.img').segment, { offsetBytes: 0, sizeBytes: 8192, sectorBytes });
    });
  }

  const segment = (change: Record<string, unknown>) => (metadata: Luks2Metadata) => void Object.assign(metadata.segments['0']!, change);
  const digest = (change: Record<string, unknown>) => (metadata: Luks2Metadata) => void Object.assign(metadata.digests['0']!, change);
  const refused: { what: string; change: (metadata: Luks2Metadata) => void; says: RegExp }[] = [
    ...[
      'cipher_null-ecb',
      'cipher_null-cbc-essiv:sha256',
      'aes-cbc-essiv:sha256',
      'aes-xts-plain',
      'AES-XTS-PLAIN64',
      'serpent-xts-plain64',
      '',
    ].map((encryption) => ({
      what: `the cipher "${encryption}"`,
      change: segment({ encryption }),
      says: new RegExp(`cipher "${encryption}" is not`),
    })),
    {
      what: 'a segment without cipher',
      change: (m) => void Reflect.deleteProperty(m.segments['0']!, 'encryption'),
      says: /cipher \(none\)/,
    },
    { what: 'a linear segment', change: segment({ type: 'linear' }), says: /type "linear"/ },
    { what: 'an integrity layer', change: segment({ integrity: { type: 'hmac(sha256)' } }), says: /integrity/ },
    { what: 'segment flags', change: segment({ flags: ['in-reencryption'] }), says: /flags \["in-reencryption"\]/ },
    { what: 'empty segment flags', change: segment({ flags: [] }), says: /flags/ },
    { what: 'an unknown member', change: segment({ iv_large_sectors: true }), says: /unknown member "iv_large_sectors"/ },
    { what: 'another tweak', change: segment({ iv_tweak: '8' }), says: /tweaks from "8"/ },
    { what: 'a tweak as a number', change: segment({ iv_tweak: 0 }), says: /tweaks from 0/ },
    { what: 'a sector size of 8192', change: segment({ sector_size: 8192 }), says: /sector size 8192/ },
    { what: 'a sector size as text', change: segment({ sector_size: '512' }), says: /sector size "512"/ },
    { what: 'an odd offset', change: segment({ offset: '16777217' }), says: /data offset 16777217 is out of range/ },
    { what: 'an offset of 2^64', change: segment({ offset: '18446744073709551104' }), says: /out of range/ },
    { what: 'a size of 0', change: segment({ size: '0' }), says: /data size 0/ },
    { what: 'a size in part sectors', change: segment({ size: '1024', sector_size: 4096 }), says: /data size 1024/ },
    { what: 'a size out of range', change: segment({ size: '9223372036854775808' }), says: /data size/ },
    { what: 'no segment', change: (m) => void Object.assign(m, { segments: {} }), says: /segments \(none\)/ },
    { what: 'a second segment', change: (m) => void Object.assign(m.segments, { '1': m.segments['0'] }), says: /segments 0, 1/ },
    { what: 'a segment of another name', change: (m) => void Object.assign(m, { segments: { '1': m.segments['0'] } }), says: /segments 1/ },
    {
      what: 'a requirement',
      change: (m) => void Object.assign(m.config, { requirements: { mandatory: ['online-reencrypt-v2'] } }),
      says: /requirement online-reencrypt-v2 \(a re-encryption in progress\)/,
    },
    {
      what: 'a requirement of hardware encryption',
      change: (m) => void Object.assign(m.config, { requirements: { mandatory: ['inline-hw-tags', 'opal'] } }),
      says: /requirement inline-hw-tags, opal;/,
    },
    {
      what: 'a requirement beside that of a sparse volume',
      change: (m) => void Object.assign(m.config, { requirements: { mandatory: ['volseal-sparse', 'opal'] } }),
      says: /requirement opal/,
    },
    {
      what: 'requirements of another kind',
      change: (m) => void Object.assign(m.config, { requirements: { newer: [] } }),
      says: /requirement newer/,
    },
    { what: 'no digest', change: (m) => void Object.assign(m, { digests: {} }), says: /0 digests instead of one/ },
    { what: 'two digests', change: (m) => void Object.assign(m.digests, { '1': m.digests['0'] }), says: /2 digests/ },
    { what: 'another digest type', change: digest({ type: 'argon2' }), says: /digest 0: type/ },
    {
      what: 'another hash',
      change: digest({ hash: 'md5' }),
      says: /digest 0 proves the volume key by "md5", and volseal by sha1, sha256, sha384, sha512 only/,
    },
    { what: 'no iterations', change: digest({ iterations: 0 }), says: /iterations/ },
    { what: 'too many iterations', change: digest({ iterations: 10_000_001 }), says: /iterations/ },
    { what: 'half an iteration', change: digest({ iterations: 1.5 }), says: /iterations/ },
    { what: 'an empty salt', change: digest({ salt: '' }), says: /salt/ },
    { what: 'a vast salt', change: digest({ salt: Buffer.alloc(65).toString('base64') }), says: /salt/ },
    { what: 'a salt that is not base64', change: digest({ salt: '!'.repeat(44) }), says: /salt/ },
    { what: 'a short digest', change: digest({ digest: Buffer.alloc(19).toString('base64') }), says: /value is not base64 of 20 to 64/ },
  ];
  for (const { what, change, says } of refused) {
    test(`is not ${what}`, () => {
      const metadata = sample();
      change(metadata);
      assert.throws(
        () => assertSupported(metadata, '/data/a.img'),
        (error: Error & { code: string }) => {
          assert.equal(error.code, 'ERR_HEADER_UNSUPPORTED');
          assert.match(error.message, says);
          assert.match(error.message, /^\/data\/a\.img: /);
          return true;
        },
      );
    });
  }

  test('messages carry no control characters out of a header', () => {
    const metadata = sample();
    Object.assign(metadata.segments['0']!, { encryption: '\u001b[2J\u202e', type: 'crypt' });
    assert.throws(
      () => assertSupported(metadata, 'a.img'),
      (error: Error) => !/\p{C}/u.test(error.message),
    );
  });
});

describe('base64', () => {
  test('is taken in its canonical form only', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        assert.deepEqual(decodeBase64(Buffer.from(bytes).toString('base64')), Buffer.from(bytes));
      }),
    );
    for (const text of ['A', 'AA', 'AAA', 'AB==', 'AAB=', 'AA==\n', ' AA==', 'AA=', 'A-_A', '===='])
      assert.equal(decodeBase64(text), undefined, text);
  });
});
