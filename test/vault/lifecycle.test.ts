import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { type KeyHandle, native } from '../../src/native.js';
import { importKey, revealKey, withKey, withVolumeKey, wrong } from './test-keys.js';

const GONE = { name: 'VolsealError', code: 'ERR_KEY_GONE' };
const ARGUMENT = { name: 'VolsealError', code: 'ERR_ARGUMENT' };

describe('handles', () => {
  test('a wiped one is gone for every call', () => {
    const key = importKey(randomBytes(32));
    withKey(randomBytes(32), (living) => {
      assert.equal(native.keyWipe(key), true);
      assert.equal(native.keyWipe(key), false);
      const calls: (() => unknown)[] = [
        () => native.keyByteLength(key),
        () => native.keyRevealBase64(key, Buffer.alloc(100), 0),
        () => native.keyHmac(key, Buffer.alloc(1)),
        () => native.keyDerive(key, Buffer.alloc(1)),
        () => native.keyPbkdf2(key, Buffer.alloc(16), 1, 'sha256', 32),
        () => native.keySeal(living, key, Buffer.alloc(0)),
        () => native.keySeal(key, living, Buffer.alloc(0)),
        () => native.keyOpen(key, Buffer.alloc(64), Buffer.alloc(0)),
        () => native.xtsPrepare(key),
        () => native.xtsTransform(key, true, 512, 0, Buffer.alloc(512), Buffer.alloc(512)),
      ];
      for (const call of calls) assert.throws(call, GONE, String(call));
    });
  });

  test('never name a later key: 10,000 times imported and wiped', () => {
    const handles = new Set<KeyHandle>();
    const first = importKey(randomBytes(32));
    native.keyWipe(first);
    for (let cycle = 0; cycle < 10_000; cycle++) {
      const key = native.keyGenerate(32);
      assert.ok(Number.isSafeInteger(key) && key > 0);
      assert.ok(!handles.has(key), `handle ${key} came twice`);
      handles.add(key);
      assert.throws(() => native.keyByteLength(first), GONE);
      native.keyWipe(key);
    }
    for (const key of handles) assert.equal(native.keyWipe(key), false);
  });

  test('hundreds at once, each with its own bytes, wiped in any order', () => {
    const { liveKeys } = native.vaultInfo();
    const keys = Array.from({ length: 300 }, () => randomBytes(48)).map((bytes) => ({ bytes, key: importKey(bytes) }));
    assert.equal(native.vaultInfo().liveKeys, liveKeys + 300);
    for (const { key } of keys.filter((_, index) => index % 3 === 0)) native.keyWipe(key);
    for (const { bytes, key } of keys.filter((_, index) => index % 3 !== 0)) {
      assert.ok(revealKey(key).equals(bytes));
      native.keyWipe(key);
    }
    assert.equal(native.vaultInfo().liveKeys, liveKeys);
  });

  test('values that are none are refused', () => {
    for (const value of ['1', null, undefined, {}, [], 1n, true, Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY]) {
      assert.throws(() => native.keyByteLength(wrong(value)), ARGUMENT, `${typeof value} ${String(value)}`);
    }
    for (const value of [0, 1, 2 ** 31, 2 ** 32, 2 ** 52, 2 ** 53 - 1]) {
      assert.throws(
        () => native.keyByteLength(wrong(value)),
        (error: Error & { code?: string }) => ['ERR_KEY_GONE', 'ERR_ARGUMENT'].includes(error.code ?? ''),
        String(value),
      );
    }
  });
});

describe('keyGenerate', () => {
  test('makes keys of the length asked for, no two alike', () => {
    const seen = new Set<string>();
    for (const length of [16, 32, 64, 1024, 4096]) {
      const key = native.keyGenerate(length);
      assert.equal(native.keyByteLength(key), length);
      const bytes = revealKey(key);
      assert.equal(bytes.length, length);
      assert.ok(!seen.has(bytes.toString('hex', 0, 16)));
      seen.add(bytes.toString('hex', 0, 16));
      native.keyWipe(key);
    }
  });

  for (const length of [0, 4097, -1, 1.5, Number.NaN, 2 ** 32 + 1, '32', undefined]) {
    test(`refuses ${String(length)} bytes`, () => assert.throws(() => native.keyGenerate(wrong(length)), ARGUMENT));
  }
});

describe('keyRevealBase64', () => {
  test('writes the text where it is told, and nothing beside it', () => {
    const bytes = randomBytes(100);
    withKey(bytes, (key) => {
      const target = Buffer.alloc(200, '#');
      native.keyRevealBase64(key, target, 30);
      assert.equal(target.toString(), `${'#'.repeat(30)}${bytes.toString('base64')}${'#'.repeat(34)}`);
    });
  });

  test('fits exactly, and not with one byte less', () => {
    const bytes = randomBytes(64);
    withKey(bytes, (key) => {
      const target = Buffer.alloc(90);
      native.keyRevealBase64(key, target, 2);
      assert.equal(target.toString('latin1', 2), bytes.toString('base64'));
      assert.throws(() => native.keyRevealBase64(key, target, 3), ARGUMENT);
      for (const start of [-1, 91, 0.5, Number.NaN, 2 ** 53, 2 ** 64, '2']) {
        assert.throws(() => native.keyRevealBase64(key, target, wrong(start)), ARGUMENT, String(start));
      }
    });
  });

  test('refuses a target that V8 would keep on its own heap: 64 bytes or fewer', () => {
    withKey(randomBytes(16), (key) => {
      for (const length of [0, 24, 63, 64]) assert.throws(() => native.keyRevealBase64(key, new Uint8Array(length), 0), ARGUMENT);
      native.keyRevealBase64(key, new Uint8Array(65), 0);
    });
  });

  test('refuses a volume key', () => {
    for (const length of [32, 64]) {
      withVolumeKey(randomBytes(length), (key) => {
        const target = Buffer.alloc(200);
        assert.throws(() => native.keyRevealBase64(key, target, 0), ARGUMENT);
        assert.ok(target.every((byte) => byte === 0));
      });
    }
  });
});

describe('keys in files', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'volseal-key-file-'));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  function withFile<T>(name: string, flags: string, use: (fd: number) => T): T {
    const fd = openSync(join(directory, name), flags, 0o600);
    try {
      return use(fd);
    } finally {
      closeSync(fd);
    }
  }

  test('written and read back', () => {
    const bytes = randomBytes(32);
    withKey(bytes, (key) => withFile('root', 'w+', (fd) => native.keyWriteFile(fd, key)));
    assert.ok(readFileSync(join(directory, 'root')).equals(bytes));
    withFile('root', 'r', (fd) => {
      const key = native.keyReadFile(fd, 32);
      assert.ok(revealKey(key).equals(bytes));
      native.keyWipe(key);
    });
  });

  test('reading starts at 0 wherever the file stands', () => {
    const bytes = randomBytes(100);
    writeFileSync(join(directory, 'read'), bytes);
    withFile('read', 'r', (fd) => {
      for (let times = 0; times < 2; times++) {
        readSync(fd, Buffer.alloc(7));
        const key = native.keyReadFile(fd, 100);
        assert.ok(revealKey(key).equals(bytes));
        native.keyWipe(key);
      }
    });
  });

  test('a file of another length is refused and leaves no key behind', () => {
    const { liveKeys } = native.vaultInfo();
    for (const length of [0, 1, 31, 33, 4096]) {
      writeFileSync(join(directory, 'other'), randomBytes(length));
      withFile('other', 'r', (fd) => assert.throws(() => native.keyReadFile(fd, 32), ARGUMENT, `${length} bytes`));
    }
    assert.equal(native.vaultInfo().liveKeys, liveKeys);
  });

  test('a file that cannot be written stays as it is', () => {
    writeFileSync(join(directory, 'old'), 'old');
    withKey(randomBytes(32), (key) => {
      withFile('old', 'r', (fd) => assert.throws(() => native.keyWriteFile(fd, key), ARGUMENT));
    });
    assert.equal(readFileSync(join(directory, 'old'), 'utf8'), 'old');
  });

  test('a volume key is never written', () => {
    withVolumeKey(randomBytes(64), (key) => {
      withFile('never', 'w+', (fd) => assert.throws(() => native.keyWriteFile(fd, key), ARGUMENT));
    });
    assert.equal(statSync(join(directory, 'never')).size, 0);
  });

  test('a descriptor that nobody opened is an error', () => {
    assert.throws(
      () => native.keyReadFile(1_000_000, 32),
      (error: Error & { code?: string }) => ['ERR_IO', 'ERR_ARGUMENT'].includes(error.code ?? ''),
    );
  });

  test('descriptors and lengths that are none are refused', () => {
    withFile('root', 'r', (fd) => {
      for (const length of [0, -1, 4097, 0.5, Number.NaN, '32'])
        assert.throws(() => native.keyReadFile(fd, wrong(length)), ARGUMENT, String(length));
    });
    for (const fd of [-1, 0.5, Number.NaN, 2 ** 31, 2 ** 32, '0', null])
      assert.throws(() => native.keyReadFile(wrong(fd), 32), ARGUMENT, String(fd));
  });
});
