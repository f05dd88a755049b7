import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { administerKms, initialiseKms } from '../../../src/kms/embedded/administration.js';
import { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { native } from '../../../src/native.js';
import { ask, done, temporaryHome, withoutLeak } from '../harness.js';

const storeError = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.match(error.message, pattern);
  return error.code === 'ERR_KMS_STORE';
};

/** Uses the KMS of `home` once and gives a blob, or opens one. */
async function wrapped(home: string, blob?: string): Promise<string> {
  const kms = EmbeddedKms.open(home);
  try {
    if (blob === undefined)
      return done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId: 'alias/aws/ebs', NumberOfBytes: 64 }).CiphertextBlob;
    done(kms, 'Decrypt', { CiphertextBlob: blob });
    return blob;
  } finally {
    await kms.close();
  }
}

describe('a root key that does not lie beside the store', () => {
  test('a pipe is no file with a passphrase: each opening would wait for it, and its thread with it', async () => {
    const home = temporaryHome();
    const passphraseFile = join(home, 'pipe');
    assert.equal(spawnSync('mkfifo', [passphraseFile]).status, 0);
    await assert.rejects(async () => initialiseKms(home, { passphraseFile }), storeError(/pipe is no regular file/));
  });

  test('under a passphrase: the same opens, another does not, and makes no new key', async () => {
    const home = temporaryHome();
    const passphraseFile = join(home, 'passphrase');
    writeFileSync(passphraseFile, 'correct horse battery staple\nsecond line\n');
    await withoutLeak(async () => {
      await initialiseKms(home, { passphraseFile });
      const blob = await wrapped(home);
      assert.equal(existsSync(join(home, 'kms', 'root.key')), false);
      assert.equal(statSync(join(home, 'kms', 'root-key.json')).mode & 0o777, 0o600);
      assert.doesNotMatch(readFileSync(join(home, 'kms', 'root-key.json'), 'utf8'), /horse/);
      await wrapped(home, blob);
      for (const text of ['correct horse battery stapl', '']) {
        writeFileSync(passphraseFile, text);
        await assert.rejects(wrapped(home), storeError(/no new one is made/));
      }
      rmSync(passphraseFile);
      await assert.rejects(wrapped(home), (error) => error instanceof VolsealError && error.code === 'ERR_IO');
      writeFileSync(passphraseFile, 'correct horse battery staple');
      await wrapped(home, blob);
    });
  });

  test('from a command: its bytes in base64, and nothing else', async () => {
    const home = temporaryHome();
    const file = join(home, 'key');
    const put = (bytes: Buffer, end = '\n') => writeFileSync(file, bytes.toString('base64') + end);
    const key = Buffer.alloc(32, 7);
    put(key);
    await withoutLeak(async () => {
      await initialiseKms(home, { command: ['cat', file] });
      const blob = await wrapped(home);
      put(key, '');
      await wrapped(home, blob);
      put(Buffer.alloc(32, 8));
      await assert.rejects(wrapped(home), storeError(/the command cat .* is not the root key that/));
      for (const bytes of [Buffer.alloc(31), Buffer.alloc(33)]) {
        put(bytes);
        await assert.rejects(wrapped(home), storeError(/something else than 32 bytes/));
      }
      writeFileSync(file, 'no base64!');
      await assert.rejects(wrapped(home), storeError(/something else than 32 bytes/));
      rmSync(file);
      await assert.rejects(wrapped(home), storeError(/the command cat ended with 1/));
      assert.deepEqual(
        readdirSync(join(home, 'kms')).filter((name) => name.startsWith('root.')),
        [],
      );
    });
    const other = temporaryHome();
    await assert.rejects(initialiseKms(other, { command: ['/no/such/program'] }), storeError(/ENOENT/));
  });

  test('is chosen before there is a store', async () => {
    const home = temporaryHome();
    await wrapped(home);
    await assert.rejects(initialiseKms(home, { command: ['true'] }), storeError(/exists already/));
    const fresh = temporaryHome();
    mkdirSync(join(fresh, 'kms'));
    writeFileSync(join(fresh, 'kms', 'root-key.json'), '{"source":"heaven"}');
    await assert.rejects(wrapped(fresh), storeError(/does not say where the root key comes from/));
  });
});

describe('a backup', () => {
  test('is made while others write, and opens in another home with its root key', async () => {
    const home = temporaryHome();
    const blob = await wrapped(home);
    const kms = EmbeddedKms.open(home);
    const administration = administerKms(home);
    const target = join(home, 'copy of the store');
    const copying = administration.backUp(target, false);
    for (let index = 0; index < 20; index++) done(kms, 'CreateKey');
    assert.deepEqual(await copying, { directory: target, rootKey: join(home, 'kms', 'root.key') });
    assert.deepEqual(readdirSync(target), ['store.mdb']);
    assert.equal(statSync(target).mode & 0o777, 0o700);
    await assert.rejects(
      administration.backUp(target, false),
      (error) => error instanceof VolsealError && error.code === 'ERR_TARGET_EXISTS',
    );
    assert.equal((await administration.backUp(join(home, 'whole'), true)).rootKey, undefined);
    await administration.close();
    await kms.close();

    const restored = temporaryHome();
    cpSync(target, join(restored, 'kms'), { recursive: true });
    await assert.rejects(wrapped(restored, blob), storeError(/root\.key is missing/));
    const stranger = temporaryHome();
    await wrapped(stranger);
    cpSync(join(stranger, 'kms', 'root.key'), join(restored, 'kms', 'root.key'));
    await assert.rejects(wrapped(restored, blob), storeError(/is not the root key/));
    cpSync(join(home, 'kms', 'root.key'), join(restored, 'kms', 'root.key'));
    await wrapped(restored, blob);
    const whole = temporaryHome();
    cpSync(join(home, 'whole'), join(whole, 'kms'), { recursive: true });
    await wrapped(whole, blob);
    const copy = EmbeddedKms.open(whole);
    assert.equal(ask(copy, 'ListKeys').body.Keys.length, 21);
    await copy.close();
    assert.equal(native.vaultInfo().liveKeys, 0);
  });

  test('touches nothing that is there, whatever its name', async () => {
    const home = temporaryHome();
    await wrapped(home);
    const administration = administerKms(home);
    onTestFinished(() => administration.close());
    const other = join(home, '.copy.partial');
    mkdirSync(other);
    writeFileSync(join(other, 'mine'), '');
    await administration.backUp(join(home, 'copy'), false);
    assert.deepEqual(readdirSync(other), ['mine']);
    mkdirSync(join(home, 'empty'));
    await assert.rejects(administration.backUp(join(home, 'empty'), false), { code: 'ERR_TARGET_EXISTS' });
    assert.deepEqual(
      readdirSync(home).filter((name) => name.includes('partial')),
      ['.copy.partial'],
    );
  });

  test('that fails leaves nothing', async () => {
    const home = temporaryHome();
    await wrapped(home);
    const administration = administerKms(home);
    onTestFinished(() => administration.close());
    const before = readdirSync(home);
    await assert.rejects(
      administration.backUp(join(home, 'none', 'copy'), false),
      (error) => error instanceof VolsealError && error.code === 'ERR_IO',
    );
    assert.deepEqual(readdirSync(home), before);
  });
});
