import assert from 'node:assert/strict';
import { createDecipheriv, createHash, pbkdf2Sync, randomBytes } from 'node:crypto';
import { describe, test } from 'vitest';
import { type LuksHash, native } from '../../src/native.js';
import { importKey, revealKey, withKey, withVolumeKey, wrong } from './test-keys.js';

const STRIPES = 4000;
/** For a volume key of 64 bytes. */
const AREA_BYTES = STRIPES * 64;
const HASHES: readonly LuksHash[] = ['sha1', 'sha256', 'sha384', 'sha512'];

/** The splitter's step as the LUKS1 specification has it (AF_merge), by OpenSSL. */
function diffused(bytes: Buffer, hash: LuksHash): Buffer {
  const digestBytes = createHash(hash).digest().length;
  return Buffer.concat(
    Array.from({ length: Math.ceil(bytes.length / digestBytes) }, (_, index) => {
      const number = Buffer.alloc(4);
      number.writeUInt32BE(index);
      const piece = bytes.subarray(index * digestBytes, (index + 1) * digestBytes);
      return createHash(hash).update(number).update(piece).digest().subarray(0, piece.length);
    }),
  );
}

const xored = (one: Buffer, other: Buffer): Buffer => Buffer.from(one.map((byte, index) => byte ^ other[index]!));

/** Opens a keyslot's area without the code under test. */
function opened(
  passphrase: Buffer,
  area: Buffer,
  kdfHash: LuksHash,
  salt: Buffer,
  iterations: number,
  afHash: LuksHash,
  slotKeyBytes: number,
): Buffer {
  const slotKey = pbkdf2Sync(passphrase, salt, iterations, slotKeyBytes, kdfHash);
  const stripeBytes = area.length / STRIPES;
  let running: Buffer = Buffer.alloc(stripeBytes);
  for (let sector = 0; sector < area.length / 512; sector += 1) {
    const tweak = Buffer.alloc(16);
    tweak.writeUInt32LE(sector);
    const cipher = slotKeyBytes === 64 ? 'aes-256-xts' : 'aes-128-xts';
    const plain = createDecipheriv(cipher, slotKey, tweak).update(area.subarray(sector * 512, (sector + 1) * 512));
    for (let at = 0; at < 512; at += stripeBytes) {
      const mixed = xored(running, plain.subarray(at, at + stripeBytes));
      running = sector === area.length / 512 - 1 && at === 512 - stripeBytes ? mixed : diffused(mixed, afHash);
    }
  }
  return running;
}

describe('a keyslot', () => {
  for (const kdfHash of HASHES) {
    for (const afHash of HASHES) {
      test(`opens to the volume key, for us and for OpenSSL: PBKDF2-${kdfHash}, splitter ${afHash}`, () => {
        for (const [length, keyBytes, slotKeyBytes] of [
          [1, 64, 64],
          [64, 32, 32],
          [80, 32, 64],
          [128, 64, 32],
          [129, 64, 64],
          [512, 32, 32],
        ] as const) {
          const [bytes, text, salt] = [randomBytes(keyBytes), randomBytes(length), randomBytes(32)];
          withVolumeKey(bytes, (volumeKey) =>
            withKey(text, (passphrase) => {
              const area = native.keyslotSeal(passphrase, volumeKey, kdfHash, salt, 3, afHash, slotKeyBytes);
              assert.equal(area.length, STRIPES * keyBytes);
              assert.ok(opened(text, area, kdfHash, salt, 3, afHash, slotKeyBytes).equals(bytes), `${length}`);
              const key = native.keyslotOpen(passphrase, area, kdfHash, salt, 3, afHash, slotKeyBytes);
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
        const area = native.keyslotSeal(passphrase, volumeKey, 'sha512', salt, 2, 'sha512', 64);
        const isBytes = (changed: Buffer, otherSalt = salt, iterations = 2, by = passphrase): boolean => {
          const key = native.keyslotOpen(by, changed, 'sha512', otherSalt, iterations, 'sha512', 64);
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
        const seal = (): Buffer => native.keyslotSeal(passphrase, volumeKey, 'sha512', Buffer.alloc(32), 1, 'sha512', 64);
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
        withKey(randomBytes(33), (odd) => refused(() => native.keyslotSeal(short, odd, 'sha512', salt, 1, 'sha512', 64)));
        for (const slotKeyBytes of [0, 31, 33, 63, 65, wrong('64')])
          refused(() => native.keyslotOpen(short, area, 'sha512', salt, 1, 'sha512', slotKeyBytes));
        refused(() => native.keyslotOpen(short, area, 'sha512', salt, 1, wrong('md5'), 64));
        refused(() => native.keyslotSeal(volumeKey, volumeKey, 'sha512', salt, 1, 'sha512', 64));
        refused(() => native.keyslotOpen(volumeKey, area, 'sha512', salt, 1, 'sha512', 64));
        refused(() => native.keyslotOpen(short, area.subarray(1), 'sha512', salt, 1, 'sha512', 64));
        refused(() => native.keyslotOpen(short, area, wrong('md5'), salt, 1, 'sha512', 64));
        for (const iterations of [0, -1, 1.5, 100_000_001])
          refused(() => native.keyslotOpen(short, area, 'sha512', salt, iterations, 'sha512', 64));
      }),
    );
    const gone = importKey(randomBytes(32));
    native.keyWipe(gone);
    refused(() => native.keyslotOpen(gone, area, 'sha512', salt, 1, 'sha512', 64), 'ERR_KEY_GONE');
    assert.equal(native.vaultInfo().liveKeys, before);
  });

  test('a longer time gets more iterations', () => {
    const [one, ten] = [native.passphraseIterations(100), native.passphraseIterations(60_000)];
    assert.ok(one > 1000 && ten > one, `${one}, ${ten}`);
    assert.throws(() => native.passphraseIterations(0), { code: 'ERR_ARGUMENT' });
  });
});
