import assert from 'node:assert/strict';
import { createDecipheriv, createHash, pbkdf2Sync, randomBytes } from 'node:crypto';
import { describe, test } from 'vitest';
import { type KeyslotHash, native } from '../../src/native.js';
import { importKey, revealKey, withKey, withVolumeKey, wrong } from './test-keys.js';

const STRIPE_BYTES = 64;
const AREA_BYTES = 4000 * STRIPE_BYTES;

/** The splitter's step as the LUKS1 specification has it (AF_merge), by OpenSSL. */
function diffused(bytes: Buffer, hash: KeyslotHash): Buffer {
  const digestBytes = hash === 'sha256' ? 32 : 64;
  return Buffer.concat(
    Array.from({ length: STRIPE_BYTES / digestBytes }, (_, index) => {
      const number = Buffer.alloc(4);
      number.writeUInt32BE(index);
      return createHash(hash)
        .update(number)
        .update(bytes.subarray(index * digestBytes, (index + 1) * digestBytes))
        .digest();
    }),
  );
}

const xored = (one: Buffer, other: Buffer): Buffer => Buffer.from(one.map((byte, index) => byte ^ other[index]!));

/** Opens a keyslot's area without the code under test. */
function opened(passphrase: Buffer, area: Buffer, kdfHash: KeyslotHash, salt: Buffer, iterations: number, afHash: KeyslotHash): Buffer {
  const slotKey = pbkdf2Sync(passphrase, salt, iterations, 64, kdfHash);
  let running: Buffer = Buffer.alloc(STRIPE_BYTES);
  for (let sector = 0; sector < AREA_BYTES / 512; sector += 1) {
    const tweak = Buffer.alloc(16);
    tweak.writeUInt32LE(sector);
    const plain = createDecipheriv('aes-256-xts', slotKey, tweak).update(area.subarray(sector * 512, (sector + 1) * 512));
    for (let at = 0; at < 512; at += STRIPE_BYTES) {
      const mixed = xored(running, plain.subarray(at, at + STRIPE_BYTES));
      running = sector === AREA_BYTES / 512 - 1 && at === 512 - STRIPE_BYTES ? mixed : diffused(mixed, afHash);
    }
  }
  return running;
}

describe('a keyslot', () => {
  for (const kdfHash of ['sha256', 'sha512'] as const) {
    for (const afHash of ['sha256', 'sha512'] as const) {
      test(`opens to the volume key, for us and for OpenSSL: PBKDF2-${kdfHash}, splitter ${afHash}`, () => {
        const bytes = randomBytes(64);
        for (const length of [1, 80, 128, 129, 512]) {
          const [text, salt] = [randomBytes(length), randomBytes(32)];
          withVolumeKey(bytes, (volumeKey) =>
            withKey(text, (passphrase) => {
              const area = native.keyslotSeal(passphrase, volumeKey, kdfHash, salt, 3, afHash);
              assert.equal(area.length, AREA_BYTES);
              assert.ok(opened(text, area, kdfHash, salt, 3, afHash).equals(bytes), `${length}`);
              const key = native.keyslotOpen(passphrase, area, kdfHash, salt, 3, afHash);
              assert.ok(revealKey(key).equals(bytes), `${length}`);
              native.keyWipe(key);
            }),
          );
        }
      });
    }
  }

  test('every changed bit of the area gives another key, and so does another passphrase, salt or number of iterations', () => {
    const [bytes, text, salt] = [randomBytes(64), randomBytes(80), randomBytes(32)];
    withKey(bytes, (volumeKey) =>
      withKey(text, (passphrase) => {
        const area = native.keyslotSeal(passphrase, volumeKey, 'sha512', salt, 2, 'sha512');
        const isBytes = (changed: Buffer, otherSalt = salt, iterations = 2, by = passphrase): boolean => {
          const key = native.keyslotOpen(by, changed, 'sha512', otherSalt, iterations, 'sha512');
          const same = revealKey(key).equals(bytes);
          native.keyWipe(key);
          return same;
        };
        assert.ok(isBytes(area));
        for (const bit of [0, 7, 8 * 511, 8 * 100_000 + 3, 8 * (AREA_BYTES - 64), 8 * AREA_BYTES - 1]) {
          const changed = Buffer.from(area);
          changed[bit >> 3]! ^= 1 << (bit & 7);
          assert.ok(!isBytes(changed), `bit ${bit}`);
        }
        assert.ok(!isBytes(area, randomBytes(32)));
        assert.ok(!isBytes(area, salt, 3));
        withKey(randomBytes(80), (other) => assert.ok(!isBytes(area, salt, 2, other)));
      }),
    );
  });

  test('two areas of one key and passphrase share no sector', () => {
    withKey(randomBytes(64), (volumeKey) =>
      withKey(randomBytes(8), (passphrase) => {
        const seal = (): Buffer => native.keyslotSeal(passphrase, volumeKey, 'sha512', Buffer.alloc(32), 1, 'sha512');
        const [one, two] = [seal(), seal()];
        for (let at = 0; at < AREA_BYTES; at += 512) assert.ok(!one.subarray(at, at + 512).equals(two.subarray(at, at + 512)));
      }),
    );
  });

  test('refuses what it must not take, and keeps no key of it', () => {
    const before = native.vaultInfo().liveKeys;
    const [salt, area] = [Buffer.alloc(32), Buffer.alloc(AREA_BYTES)];
    const refused = (call: () => unknown, code = 'ERR_ARGUMENT') => assert.throws(call, { code });
    withKey(randomBytes(32), (short) =>
      withVolumeKey(randomBytes(64), (volumeKey) => {
        refused(() => native.keyslotSeal(short, short, 'sha512', salt, 1, 'sha512'));
        refused(() => native.keyslotSeal(volumeKey, volumeKey, 'sha512', salt, 1, 'sha512'));
        refused(() => native.keyslotOpen(volumeKey, area, 'sha512', salt, 1, 'sha512'));
        refused(() => native.keyslotOpen(short, area.subarray(1), 'sha512', salt, 1, 'sha512'));
        refused(() => native.keyslotOpen(short, area, wrong('md5'), salt, 1, 'sha512'));
        for (const iterations of [0, -1, 1.5, 100_000_001])
          refused(() => native.keyslotOpen(short, area, 'sha512', salt, iterations, 'sha512'));
      }),
    );
    const gone = importKey(randomBytes(32));
    native.keyWipe(gone);
    refused(() => native.keyslotOpen(gone, area, 'sha512', salt, 1, 'sha512'), 'ERR_KEY_GONE');
    assert.equal(native.vaultInfo().liveKeys, before);
  });

  test('a longer time gets more iterations', () => {
    const [one, ten] = [native.passphraseIterations(100), native.passphraseIterations(60_000)];
    assert.ok(one > 1000 && ten > one, `${one}, ${ten}`);
    assert.throws(() => native.passphraseIterations(0), { code: 'ERR_ARGUMENT' });
  });
});
