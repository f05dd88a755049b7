import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, test } from 'vitest';
import { type KeyHandle, native } from '../../src/native.js';
import { importKey, revealKey, withKey } from './test-keys.js';

const directory = mkdtempSync(join(tmpdir(), 'volseal recovery '));
afterAll(() => rmSync(directory, { recursive: true }));

const LETTERS = 'cbdefghijklnrtuv';
/** The text of 32 bytes, by the words of native/vault/recovery_key.h. */
function textOf(bytes: Buffer): string {
  const checksum = createHash('sha256').update('volseal recovery key v1').update(bytes).digest().subarray(0, 4);
  const letters = [...Buffer.concat([bytes, checksum]).toString('hex')].map((digit) => LETTERS[Number.parseInt(digit, 16)]).join('');
  return letters.match(/.{8}/g)!.join('-');
}

function reading(text: string | Buffer, read: (fd: number) => KeyHandle): string {
  const path = join(directory, 'text');
  writeFileSync(path, text);
  const fd = openSync(path, 'r');
  try {
    const key = read(fd);
    const found = revealKey(key).toString('latin1');
    native.keyWipe(key);
    return found;
  } finally {
    closeSync(fd);
  }
}
const recoveryKey = (text: string | Buffer): string => reading(text, native.recoveryKeyRead);
const passphrase = (text: string | Buffer): string => reading(text, native.passphraseRead);

function written(key: KeyHandle): string {
  const path = join(directory, 'written');
  const fd = openSync(path, 'w');
  try {
    native.recoveryKeyWrite(key, fd);
  } finally {
    closeSync(fd);
  }
  return readFileSync(path, 'latin1');
}

describe('a recovery key', () => {
  test('is nine groups of eight letters, the last one a checksum, and never the same twice', () => {
    const texts = Array.from({ length: 20 }, () => {
      const key = native.recoveryKeyGenerate();
      const text = written(key);
      native.keyWipe(key);
      return text;
    });
    assert.equal(new Set(texts).size, 20);
    for (const text of texts) {
      assert.match(text, /^([cbdefghijklnrtuv]{8}-){8}[cbdefghijklnrtuv]{8}$/);
      const hex = [...text.replaceAll('-', '')].map((letter) => LETTERS.indexOf(letter).toString(16)).join('');
      assert.equal(textOf(Buffer.from(hex, 'hex').subarray(0, 32)), text);
    }
  });

  test('is read as it may have been typed: in capitals, with other spaces and hyphens, with a line end', () => {
    const text = textOf(randomBytes(32));
    const letters = text.replaceAll('-', '');
    for (const typed of [text, `${text}\n`, text.toUpperCase(), letters, `${letters.match(/.{4}/g)!.join(' ')}\r\n`, `\n  ${text}\t`])
      assert.equal(recoveryKey(typed), text, typed);
  });

  test('with any letter changed, or two neighbours changed about, is refused', () => {
    const text = textOf(randomBytes(32));
    for (let at = 0; at < text.length; at += 1) {
      if (text[at] === '-') continue;
      const other = LETTERS[(LETTERS.indexOf(text[at]!) + 1) % 16];
      assert.throws(() => recoveryKey(text.slice(0, at) + other + text.slice(at + 1)), /mistyped/);
      const next = text[at + 1] ?? '-';
      if (next !== '-' && next !== text[at])
        assert.throws(() => recoveryKey(text.slice(0, at) + next + text[at] + text.slice(at + 2)), /mistyped/);
    }
  });

  test('what is none is refused, and its bytes are not in the message', () => {
    const text = textOf(randomBytes(32));
    for (const [bad, message] of [
      ['', /0 letters/],
      [text.slice(0, -1), /71 letters/],
      [`${text}c`, /73 letters/],
      [text.replace(/.$/, 'x'), /not all of/],
      [text.replace(/.$/, '\0'), /not all of/],
      [randomBytes(600), /more than 512/],
    ] as const) {
      assert.throws(
        () => recoveryKey(bad),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'ERR_ARGUMENT');
          assert.match(error.message, message);
          return !error.message.includes(text.slice(0, 8));
        },
      );
    }
  });

  test('nothing but a recovery key is written out', () => {
    for (const bytes of [randomBytes(64), randomBytes(80), randomBytes(32)])
      withKey(bytes, (key) => assert.throws(() => written(key), { code: 'ERR_ARGUMENT' }));
    const gone = importKey(randomBytes(8));
    native.keyWipe(gone);
    assert.throws(() => written(gone), { code: 'ERR_KEY_GONE' });
  });
});

describe('a passphrase', () => {
  test('is the file without one line end', () => {
    assert.equal(passphrase('correct horse'), 'correct horse');
    assert.equal(passphrase('correct horse\n'), 'correct horse');
    assert.equal(passphrase('correct horse\n\n'), 'correct horse\n');
    assert.equal(passphrase(' a\0b '), ' a\0b ');
    assert.equal(passphrase('x'.repeat(512)).length, 512);
  });

  test('that is empty or too long is refused', () => {
    for (const bad of ['', '\n', 'x'.repeat(513)]) assert.throws(() => passphrase(bad), { code: 'ERR_ARGUMENT' });
  });
});
