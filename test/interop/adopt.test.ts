/** Volumes of cryptsetup that come under KMS; cryptsetup is the judge before and after. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { onTestFinished, test, vi } from 'vitest';
import {
  adoptVolume,
  decryptImage,
  describeVolume,
  readHeaderText,
  reencryptInPlace,
  VolsealError,
  verifyVolume,
} from '../../src/index.js';
import { serveKms } from '../../src/kms/embedded/http/server.js';
import { native } from '../../src/native.js';
import { built } from '../built.js';
import { signAs } from '../kms/harness.js';
import { describeUnless } from '../requirements.js';
import { until } from '../until.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { fill, foreign, PBKDF2 } from './foreign-volume.js';
import { describeCopies, scanMemory } from './memory-scan.js';
import { requireTool, runTool, skipWithout, tryTool } from './tools.js';

const PROCESS = built('test/interop/adopt-process.ts');
const MIB = 1024 * 1024;
/** Data without a header before it. */
const DETACHED = { offsetBytes: 0, sectorBytes: 512 };

const ARGON2 = ['--pbkdf', 'argon2id', '--pbkdf-force-iterations', '4', '--pbkdf-memory', '1024', '--pbkdf-parallel', '1'];

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

describeUnless(skipWithout('cryptsetup'))('adopting a volume of cryptsetup', () => {
  for (const sectorBytes of [512, 4096]) {
    test(`by a passphrase, sectors of ${sectorBytes}: KMS opens it then, the passphrase as before, and cryptsetup too`, async () => {
      const box = sandbox();
      const made = foreign(box, ['--sector-size', String(sectorBytes)]);
      const { volume, pass, image, key } = made;
      await fill(made);
      const uuid = runTool('cryptsetup', ['luksUUID', volume]).trim();
      const adopted = await adoptVolume(volume, { kms: box.kms, passphraseFile: pass, encryptionContext: { user: 'alice' } });
      assert.deepEqual([adopted.uuid, adopted.imageBytes, adopted.openedBy, adopted.sectorBytes], [uuid, image.length, '0', sectorBytes]);
      assert.deepEqual(
        adopted.keyslotList.map(({ kind }) => kind),
        ['passphrase'],
      );
      assert.ok((await dataKeyOf(volume, box.kms)).equals(key));
      for (const options of [{ kms: box.kms }, { passphraseFile: pass }]) {
        await decryptImage(volume, box.path('back'), { ...options, force: true });
        assert.ok(box.contents('back').equals(image));
      }
      runTool('cryptsetup', ['open', '--test-passphrase', '--key-file', pass, volume]);
      await assert.rejects(adoptVolume(volume, { kms: box.kms, passphraseFile: pass }), failsWith('ERR_ARGUMENT', /under KMS already/));
      // The data begins at 16 MiB, where cryptsetup put it: a new key in place keeps it there.
      await reencryptInPlace(volume, { kms: box.kms, partBytes: MIB });
      await verifyVolume(volume, { kms: box.kms, against: box.path('image.raw') });
      assert.ok(!(await dataKeyOf(volume, box.kms)).equals(key));
      assert.notEqual(tryTool('cryptsetup', ['open', '--test-passphrase', '--key-file', pass, volume]).status, 0);
      assert.equal(native.vaultInfo().liveKeys, 0);
    });
  }

  for (const [format, sectorBytes] of [
    [ARGON2, 512],
    [ARGON2, 4096],
    // As cryptsetup makes it where nothing is said.
    [[], 512],
  ] as const) {
    test(`by a passphrase with Argon2, ${format.length === 0 ? 'as by default' : 'cheap'}, sectors of ${sectorBytes}`, async () => {
      const box = sandbox();
      const made = foreign(box, ['--sector-size', String(sectorBytes)], format);
      const { volume, pass, image, key } = made;
      await fill(made);
      // cryptsetup reads the first line; so does volseal, whose file may end with one.
      writeFileSync(pass, 'a passphrase of ours\n');
      const copies = () => readdirSync('/dev/shm').filter((name) => name.startsWith('volseal-'));
      const keyslots = (): unknown => JSON.parse(runTool('cryptsetup', ['luksDump', '--dump-json-metadata', volume])).keyslots;
      const before = { keyslots: keyslots(), copies: copies() };
      const adopted = await adoptVolume(volume, { kms: box.kms, passphraseFile: pass });
      assert.deepEqual(keyslots(), before.keyslots);
      // A copy that another process of this machine has made since goes away as well.
      await until(() => copies().every((name) => before.copies.includes(name)));
      assert.deepEqual([adopted.openedBy, adopted.keyslotList.map(({ kind }) => kind)], ['0', ['foreign']]);
      assert.ok((await dataKeyOf(volume, box.kms)).equals(key));
      await decryptImage(volume, box.path('back'), { kms: box.kms });
      assert.ok(box.contents('back').equals(image));
      assert.equal(native.vaultInfo().liveKeys, 0);
    });
  }

  test('a keyslot with a hash that volseal does not know is converted in a copy; afterwards the message names the hash, and the way that it names works', async () => {
    const box = sandbox();
    const made = foreign(box);
    await fill(made);
    const { volume, pass } = made;
    const convert = (hash: string): unknown =>
      runTool('cryptsetup', ['luksConvertKey', '-q', '--hash', hash, '--key-file', pass, ...PBKDF2, volume]);
    convert('sha3-256');
    const message = async (): Promise<string> =>
      decryptImage(volume, box.path('back'), { passphraseFile: pass, anyKeyslot: true, force: true }).then(
        () => 'opened',
        (error: VolsealError) => error.message,
      );
    vi.stubEnv('PATH', box.path('empty'));
    onTestFinished(() => void vi.unstubAllEnvs());
    await assert.rejects(adoptVolume(volume, { kms: box.kms, passphraseFile: pass }), { message: /keyslots 0 \(hash sha3-256\) itself/ });
    vi.unstubAllEnvs();
    const adopted = await adoptVolume(volume, { kms: box.kms, passphraseFile: pass });
    assert.deepEqual(
      adopted.keyslotList.map(({ kind }) => kind),
      ['foreign'],
    );
    assert.match(await message(), /volseal cannot open 0 \(hash sha3-256\)/);
    convert('sha256');
    assert.equal(await message(), 'opened');
    assert.ok(box.contents('back').equals(made.image));
  });

  test('by the volume key itself; keyslots are removed on request', async () => {
    const box = sandbox();
    const made = foreign(box, ['--sector-size', '512']);
    await fill(made);
    const { volume, pass, image } = made;
    writeFileSync(box.path('other'), randomBytes(64));
    await assert.rejects(
      adoptVolume(volume, { kms: box.kms, volumeKeyFile: box.path('other') }),
      failsWith('ERR_KEY_DIGEST', /not the key/),
    );
    await assert.rejects(adoptVolume(volume, { kms: box.kms, volumeKeyFile: pass }), failsWith('ERR_ARGUMENT', /64/));
    const adopted = await adoptVolume(volume, { kms: box.kms, volumeKeyFile: box.path('vk'), removeKeyslots: true });
    assert.deepEqual([adopted.openedBy, adopted.keyslotList], [null, []]);
    assert.deepEqual((await describeVolume(volume)).keyslotList, []);
    assert.notEqual(tryTool('cryptsetup', ['open', '--test-passphrase', '--key-file', pass, volume]).status, 0);
    await decryptImage(volume, box.path('back'), { kms: box.kms });
    assert.ok(box.contents('back').equals(image));
  });

  test('what cannot be adopted is refused by name, and stays as it was', async () => {
    const box = sandbox();
    const { volume, pass } = foreign(box);
    const refuse = async (code: string, message: RegExp, options = {}): Promise<void> => {
      const before = box.contents('old.img');
      await assert.rejects(adoptVolume(volume, { kms: box.kms, passphraseFile: pass, ...options }), failsWith(code, message));
      assert.ok(box.contents('old.img').equals(before));
    };
    writeFileSync(box.path('wrong'), 'another passphrase');
    await refuse('ERR_KEYSLOT', /opens none of its 1 keyslots$/, { passphraseFile: box.path('wrong') });
    await refuse('ERR_KMS_NOT_FOUND', /alias\/none/, { key: 'alias/none' });
    await refuse('ERR_ARGUMENT', /name one file/, { passphraseFile: undefined });
    foreign(box, [], ARGON2);
    await refuse('ERR_KEYSLOT', /0 \(argon2id\).*cryptsetup luksConvertKey --pbkdf pbkdf2/, { passphraseFile: box.path('wrong') });
    vi.stubEnv('PATH', box.path('empty'));
    onTestFinished(() => void vi.unstubAllEnvs());
    await refuse('ERR_KEYSLOT', /cryptsetup is not installed/);
    vi.unstubAllEnvs();
    foreign(box, ['--cipher', 'aes-xts-plain', '--keyslot-cipher', 'aes-xts-plain64', '--keyslot-key-size', '512']);
    await refuse('ERR_HEADER_UNSUPPORTED', /aes-xts-plain"/);
    runTool('cryptsetup', ['luksFormat', '--batch-mode', '--type', 'luks1', ...PBKDF2, volume, pass]);
    await refuse('ERR_NOT_A_VOLUME', /LUKS1/);
  });

  test('with a detached header: data with a structure under its key, and other data only with any-data', async () => {
    const box = sandbox();
    const [header, data, other] = [box.path('header'), box.path('data'), box.path('other')];
    for (const path of [data, other]) {
      writeFileSync(path, '');
      truncateSync(path, 20 * MIB);
    }
    const { pass, key, image } = foreign(box);
    const format = ['luksFormat', '--batch-mode', '--type', 'luks2', '--volume-key-file', box.path('vk'), '--key-size', '512', ...PBKDF2];
    runTool('cryptsetup', [...format, '--sector-size', '512', '--header', header, data, pass]);
    const before = readFileSync(header);
    const options = { kms: box.kms, header, passphraseFile: pass };
    // Never written, and the data of another volume.
    const refused = failsWith('ERR_DATA_MISMATCH', /nothing shows that this is the data of the header .*header: .*looks random/);
    await assert.rejects(adoptVolume(data, options), refused);
    writeFileSync(other, randomBytes(20 * MIB));
    await assert.rejects(adoptVolume(other, options), refused);
    await assert.rejects(adoptVolume(box.path('old.img'), options), failsWith('ERR_ARGUMENT', /has a LUKS header of its own/));
    assert.ok(readFileSync(header).equals(before));
    // A file system's first block is enough, also where the rest was never written.
    const first = Buffer.alloc(4096);
    first.write('a superblock', 1024);
    await fill({ volume: data, key, image: first }, DETACHED);
    await adoptVolume(data, options);
    await assert.rejects(verifyVolume(other, { kms: box.kms, header }), failsWith('ERR_DATA_MISMATCH', /looks random/));
    assert.equal((await verifyVolume(data, { kms: box.kms, header })).dataBound, true);
    // Random data that its owner knows.
    writeFileSync(header, before);
    await fill({ volume: data, key, image }, DETACHED);
    await assert.rejects(adoptVolume(data, options), refused);
    await adoptVolume(data, { ...options, anyData: true });
    await decryptImage(data, box.path('back'), { kms: box.kms, header });
    assert.ok(box.contents('back').subarray(0, image.length).equals(image));
  });

  test('a header whose data is too short stays as it was', async () => {
    const box = sandbox();
    const { volume, pass } = foreign(box, ['--sector-size', '512']);
    const { metadata } = await readHeaderText(volume);
    assert.equal((metadata as { segments: Record<string, { size: string }> }).segments['0']!.size, 'dynamic');
    truncateSync(volume, 16 * MIB);
    const before = readFileSync(volume);
    await assert.rejects(adoptVolume(volume, { kms: box.kms, passphraseFile: pass }), failsWith('ERR_VOLUME_SIZE', /no data/));
    assert.ok(readFileSync(volume).equals(before));
  });

  for (const over of ['embedded', 'http'] as const) {
    test(`over the KMS ${over}: no copy of the volume key in memory outside the vault`, async () => {
      const box = sandbox();
      const { volume, pass, key } = foreign(box);
      let kms = box.kms;
      const env: NodeJS.ProcessEnv = { ...process.env };
      if (over === 'http') {
        const home = box.path('home');
        const access = await signAs(home);
        Object.assign(env, { AWS_ACCESS_KEY_ID: access.accessKeyId, AWS_SECRET_ACCESS_KEY: access.secretAccessKey });
        const server = await serveKms({ home, host: '127.0.0.1', port: 0 });
        onTestFinished(() => server.close());
        kms = server.url;
      }
      const child = spawn(process.execPath, [PROCESS, volume, kms, pass], { stdio: ['pipe', 'pipe', 'inherit'], env });
      onTestFinished(() => void child.kill('SIGKILL'));
      assert.deepEqual(await once(createInterface({ input: child.stdout }), 'line'), ['adopted']);
      const { outside, scannedBytes } = scanMemory(child.pid!, [key]);
      assert.equal(describeCopies(outside), '');
      assert.ok(scannedBytes > 20_000_000, `only ${scannedBytes} bytes were scanned`);
      child.stdin.write('\n');
      assert.ok((await dataKeyOf(volume, box.kms)).equals(key));
    });
  }

  test('with Argon2: no copy of the volume key in memory while cryptsetup has converted the copy, nor afterwards', async () => {
    const box = sandbox();
    const { volume, pass, key } = foreign(box, [], ARGON2);
    // The real one, which then waits for a line.
    mkdirSync(box.path('bin'));
    const [real, converted, go] = [requireTool('cryptsetup'), box.path('converted'), box.path('go')];
    const script = `#!/bin/sh\n'${real}' "$@" || exit\ntouch '${converted}'\nwhile [ ! -e '${go}' ]; do sleep 0.05; done\n`;
    writeFileSync(box.path('bin/cryptsetup'), script, { mode: 0o755 });
    const env = { ...process.env, PATH: `${box.path('bin')}:${process.env.PATH}` };
    const child = spawn(process.execPath, [PROCESS, volume, box.kms, pass], { stdio: ['pipe', 'pipe', 'inherit'], env });
    onTestFinished(() => void child.kill('SIGKILL'));
    const said = once(createInterface({ input: child.stdout }), 'line');
    await until(() => existsSync(converted));
    assert.equal(describeCopies(scanMemory(child.pid!, [key]).outside), '');
    writeFileSync(go, '');
    assert.deepEqual(await said, ['adopted']);
    const { outside, locked, scannedBytes } = scanMemory(child.pid!, [key]);
    assert.equal(describeCopies([...outside, ...locked]), '');
    assert.ok(scannedBytes > 20_000_000, `only ${scannedBytes} bytes were scanned`);
    child.stdin.write('\n');
    assert.ok((await dataKeyOf(volume, box.kms)).equals(key));
  });
});
