import assert from 'node:assert/strict';
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { native } from '../../src/native.js';
import { importKey, revealKey, withKey, withVolumeKey, wrong } from './test-keys.js';

const hmac = (key: Uint8Array, message: Uint8Array): Buffer => createHmac('sha256', key).update(message).digest();

describe('keyHmac', () => {
  test('RFC 4231, test case 2', () => {
    withKey(Buffer.from('Jefe'), (key) => {
      const mac = native.keyHmac(key, Buffer.from('what do ya want for nothing?'));
      assert.equal(mac.toString('hex'), '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843');
    });
  });

  test("agrees with OpenSSL's for every key length, and any message", () => {
    for (let length = 1; length <= 64; length++) {
      const bytes = randomBytes(length);
      withKey(bytes, (key) => {
        for (const size of [0, 1, 55, 56, 63, 64, 65, 4096, 100_000]) {
          const message = randomBytes(size);
          assert.ok(native.keyHmac(key, message).equals(hmac(bytes, message)), `key ${length}, message ${size}`);
        }
      });
    }
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), fc.uint8Array({ maxLength: 300 }), (bytes, message) => {
        withKey(bytes, (key) => assert.ok(native.keyHmac(key, message).equals(hmac(bytes, message))));
      }),
    );
  });

  test('a volume key makes the same MAC as before it was prepared', () => {
    const bytes = randomBytes(64);
    withVolumeKey(bytes, (key) => assert.ok(native.keyHmac(key, Buffer.from('x')).equals(hmac(bytes, Buffer.from('x')))));
  });

  test('refuses a key of 65 bytes, a message that is no bytes, a wiped key', () => {
    withKey(randomBytes(65), (key) => assert.throws(() => native.keyHmac(key, Buffer.alloc(1)), { code: 'ERR_ARGUMENT' }));
    withKey(randomBytes(32), (key) => assert.throws(() => native.keyHmac(key, wrong('text')), { code: 'ERR_ARGUMENT' }));
    const gone = importKey(randomBytes(32));
    native.keyWipe(gone);
    assert.throws(() => native.keyHmac(gone, Buffer.alloc(1)), { code: 'ERR_KEY_GONE' });
  });
});

describe('keyDerive', () => {
  test('is the HMAC of the label, in the vault', () => {
    const bytes = randomBytes(64);
    withKey(bytes, (key) => {
      const derived = native.keyDerive(key, Buffer.from('volseal header mac'));
      assert.equal(native.keyByteLength(derived), 32);
      assert.ok(revealKey(derived).equals(hmac(bytes, Buffer.from('volseal header mac'))));
      assert.ok(revealKey(key).equals(bytes));
      native.keyWipe(derived);
    });
  });

  test('of a wiped key is refused and leaves no key behind', () => {
    const gone = importKey(randomBytes(32));
    native.keyWipe(gone);
    const { liveKeys } = native.vaultInfo();
    assert.throws(() => native.keyDerive(gone, Buffer.from('label')), { code: 'ERR_KEY_GONE' });
    assert.equal(native.vaultInfo().liveKeys, liveKeys);
  });
});

describe('keyPbkdf2', () => {
  test("agrees with OpenSSL's", () => {
    for (const [length, saltBytes, iterations] of [
      [64, 32, 1],
      [64, 32, 2],
      [64, 32, 1000],
      [32, 0, 7],
      [1, 200, 999],
      [64, 64, 3000],
    ] as const) {
      const [bytes, salt] = [randomBytes(length), randomBytes(saltBytes)];
      withKey(bytes, (key) => {
        for (const hash of ['sha1', 'sha256', 'sha384', 'sha512'] as const) {
          for (const byteCount of [1, 20, 32, 64]) {
            const derived = native.keyPbkdf2(key, salt, iterations, hash, byteCount);
            const expected = pbkdf2Sync(bytes, salt, iterations, byteCount, hash);
            assert.ok(derived.equals(expected), `${length}, ${saltBytes}, ${iterations}, ${hash}, ${byteCount}`);
          }
        }
      });
    }
  });

  for (const iterations of [0, -1, 0.5, 10_000_001, 2 ** 32 + 1, Number.NaN, Number.POSITIVE_INFINITY, '1000']) {
    test(`refuses ${JSON.stringify(iterations)} (${iterations}) iterations`, () => {
      withKey(randomBytes(64), (key) => {
        assert.throws(() => native.keyPbkdf2(key, Buffer.alloc(32), wrong(iterations), 'sha256', 32), { code: 'ERR_ARGUMENT' });
      });
    });
  }
});

describe('publicDigest', () => {
  test.each(['sha1', 'sha256', 'sha384', 'sha512'] as const)("%s agrees with Node's", (hash) => {
    for (const size of [0, 1, 55, 56, 64, 111, 112, 128, 16_384]) {
      const bytes = randomBytes(size);
      assert.deepEqual(native.publicDigest(hash, bytes), createHash(hash).update(bytes).digest(), `${size} bytes`);
    }
  });

  test('refuses another hash, and what are no bytes', () => {
    for (const [hash, bytes] of [
      ['md5', Buffer.alloc(1)],
      ['sha256', 'text'],
    ]) {
      assert.throws(() => native.publicDigest(wrong(hash), wrong(bytes)), { code: 'ERR_ARGUMENT' });
    }
  });
});
