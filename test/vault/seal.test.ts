import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { describe, test } from 'vitest';
import { type KeyHandle, native } from '../../src/native.js';
import { importKey, revealKey, withKey, withVolumeKey } from './test-keys.js';

const IV_BYTES = 12;
const TAG_BYTES = 16;

function opensslSeal(master: Buffer, payload: Buffer, aad: Buffer): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv('aes-256-gcm', master, iv).setAAD(aad);
  return Buffer.concat([iv, cipher.update(payload), cipher.final(), cipher.getAuthTag()]);
}

function opensslOpen(master: Buffer, sealed: Buffer, aad: Buffer): Buffer {
  const cipher = createDecipheriv('aes-256-gcm', master, sealed.subarray(0, IV_BYTES));
  cipher.setAAD(aad).setAuthTag(sealed.subarray(-TAG_BYTES));
  return Buffer.concat([cipher.update(sealed.subarray(IV_BYTES, -TAG_BYTES)), cipher.final()]);
}

const PAYLOAD_LENGTHS = [1, 15, 16, 17, 31, 32, 33, 64, 127, 128, 129, 1024, 4095, 4096];
const AAD_LENGTHS = [0, 1, 15, 16, 17, 300, 8192];

describe('keySeal and keyOpen', () => {
  const masterBytes = randomBytes(32);
  const withMaster = (use: (master: KeyHandle) => void): void => withKey(masterBytes, use);

  test("OpenSSL opens what keySeal made, and keyOpen what OpenSSL's GCM made", () => {
    withMaster((master) => {
      for (const payloadBytes of PAYLOAD_LENGTHS) {
        for (const aadBytes of AAD_LENGTHS) {
          const [payload, aad] = [randomBytes(payloadBytes), randomBytes(aadBytes)];
          const sealed = withKey(payload, (key) => native.keySeal(master, key, aad));
          assert.equal(sealed.length, IV_BYTES + payloadBytes + TAG_BYTES);
          assert.ok(opensslOpen(masterBytes, sealed, aad).equals(payload), `sealing ${payloadBytes} under ${aadBytes}`);

          const opened = native.keyOpen(master, opensslSeal(masterBytes, payload, aad), aad)!;
          assert.equal(native.keyByteLength(opened), payloadBytes);
          assert.ok(revealKey(opened).equals(payload), `opening ${payloadBytes} under ${aadBytes}`);
          native.keyWipe(opened);
        }
      }
    });
  });

  test('no IV comes twice', () => {
    withMaster((master) => {
      withKey(randomBytes(32), (payload) => {
        const ivs = Array.from({ length: 1000 }, () => native.keySeal(master, payload, Buffer.alloc(0)).toString('hex', 0, IV_BYTES));
        assert.equal(new Set(ivs).size, 1000);
      });
    });
  });

  test('a change of any bit is noticed, and leaves no key behind', () => {
    withMaster((master) => {
      const aad = randomBytes(20);
      const sealed = opensslSeal(masterBytes, randomBytes(32), aad);
      const { liveKeys } = native.vaultInfo();
      for (let bit = 0; bit < sealed.length * 8; bit++) {
        const changed = Buffer.from(sealed);
        changed[bit >> 3]! ^= 1 << (bit & 7);
        assert.equal(native.keyOpen(master, changed, aad), undefined, `bit ${bit}`);
      }
      for (let bit = 0; bit < aad.length * 8; bit++) {
        const changed = Buffer.from(aad);
        changed[bit >> 3]! ^= 1 << (bit & 7);
        assert.equal(native.keyOpen(master, sealed, changed), undefined, `bit ${bit} of the AAD`);
      }
      assert.equal(native.keyOpen(master, sealed, Buffer.concat([aad, Buffer.alloc(1)])), undefined);
      assert.equal(native.vaultInfo().liveKeys, liveKeys);
      withKey(randomBytes(32), (other) => assert.equal(native.keyOpen(other, sealed, aad), undefined));
    });
  });

  test('what is too short to be sealed does not open', () => {
    withMaster((master) => {
      for (let length = 0; length < IV_BYTES + TAG_BYTES; length++) {
        assert.equal(native.keyOpen(master, randomBytes(length), Buffer.alloc(0)), undefined, `${length} bytes`);
      }
    });
  });

  test('what is longer than a key can be is refused or does not open', () => {
    withMaster((master) => {
      const sealed = opensslSeal(masterBytes, randomBytes(4097), Buffer.alloc(0));
      let opened: KeyHandle | undefined;
      try {
        opened = native.keyOpen(master, sealed, Buffer.alloc(0));
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ERR_ARGUMENT');
      }
      assert.equal(opened, undefined);
    });
  });

  test('a master key of another length is refused', () => {
    for (const length of [16, 24, 31, 33, 64]) {
      withKey(randomBytes(length), (master) => {
        withKey(randomBytes(32), (payload) => {
          assert.throws(() => native.keySeal(master, payload, Buffer.alloc(0)), { code: 'ERR_ARGUMENT' });
          assert.throws(() => native.keyOpen(master, Buffer.alloc(60), Buffer.alloc(0)), { code: 'ERR_ARGUMENT' });
        });
      });
    }
  });

  test('a volume key is never sealed: KMS wraps it', () => {
    withMaster((master) => {
      withVolumeKey(randomBytes(64), (key) => {
        assert.throws(() => native.keySeal(master, key, Buffer.alloc(0)), { code: 'ERR_ARGUMENT' });
      });
    });
  });

  test('wiped keys are gone for both', () => {
    withMaster((master) => {
      const gone = importKey(randomBytes(32));
      native.keyWipe(gone);
      assert.throws(() => native.keySeal(gone, master, Buffer.alloc(0)), { code: 'ERR_KEY_GONE' });
      assert.throws(() => native.keySeal(master, gone, Buffer.alloc(0)), { code: 'ERR_KEY_GONE' });
      assert.throws(() => native.keyOpen(gone, Buffer.alloc(60), Buffer.alloc(0)), { code: 'ERR_KEY_GONE' });
    });
  });
});
