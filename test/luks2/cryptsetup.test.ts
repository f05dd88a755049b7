/** cryptsetup reads and changes our headers, and we read its headers. Needs no root and no device-mapper. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, test } from 'vitest';
import { SECTOR_SIZES } from '../../src/limits.js';
import { encodeHeader, encodeHeaderCopy, type Luks2Header } from '../../src/luks2/header.js';
import { sealHeader, verifyHeader } from '../../src/luks2/header-mac.js';
import { assertSupported, headerAreaBytes } from '../../src/luks2/metadata.js';
import { newHeader } from '../../src/luks2/new-header.js';
import { readHeader, repairHeader, writeHeader } from '../../src/luks2/store.js';
import { findToken, withToken } from '../../src/luks2/token.js';
import { type KeyHandle, native } from '../../src/native.js';
import { runTool, skipWithout, tryTool } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { sampleToken } from './sample-headers.js';

const skip = skipWithout('cryptsetup');

const COPY_BYTES = 16384;
const rawKey = randomBytes(64);

let directory: string;
let volumeKey: KeyHandle;
let keyFile: string;
let wrongKeyFile: string;
let passFile: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'volseal-cryptsetup-'));
  volumeKey = native.keyImportBase64(Buffer.from(rawKey.toString('base64')));
  keyFile = join(directory, 'vk');
  wrongKeyFile = join(directory, 'wrong');
  passFile = join(directory, 'pass');
  await writeFile(keyFile, rawKey);
  await writeFile(wrongKeyFile, randomBytes(64));
  await writeFile(passFile, 'correct horse');
});
afterAll(async () => {
  native.keyWipe(volumeKey);
  await rm(directory, { recursive: true, force: true });
});

function cryptsetup(...args: string[]): string {
  return runTool('cryptsetup', args);
}

const cryptsetupStatus = (...args: string[]): number | null => tryTool('cryptsetup', args).status;

const testKey = (path: string, file = keyFile): number | null =>
  cryptsetupStatus('open', '--test-passphrase', '--key-size', '512', '--volume-key-file', file, path);

const addPassphrase = (...target: string[]): string =>
  cryptsetup(
    ...['luksAddKey', '--batch-mode', '--volume-key-file', keyFile, '--key-size', '512'],
    ...['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', ...target, passFile],
  );

async function withFile<T>(path: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, 'r+');
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

const found = (path: string) => withFile(path, (file) => readHeader(file, path));

/** A file of `bytes` that begins with `area`. */
async function image(name: string, area: Buffer, bytes = 4 * 1024 * 1024): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, area);
  await truncate(path, bytes);
  return path;
}

function fresh(sectorBytes: (typeof SECTOR_SIZES)[number] = 512, placement: 'embedded' | 'detached' = 'embedded'): Luks2Header {
  return newHeader({ volumeKey, token: sampleToken(), sectorBytes, placement }, 'new.img');
}

describeUnless(skip)('cryptsetup reads our header', () => {
  for (const sectorBytes of SECTOR_SIZES) {
    test(`with sectors of ${sectorBytes} bytes`, async () => {
      const header = fresh(sectorBytes);
      const path = await image(`ours-${sectorBytes}.img`, encodeHeader(header));
      assert.equal(cryptsetupStatus('isLuks', '--type', 'luks2', path), 0);
      const dump = cryptsetup('luksDump', path);
      assert.match(dump, new RegExp(`UUID:\\s+${header.uuid}`));
      assert.match(dump, /Metadata area:\s+16384 /);
      assert.match(dump, /Keyslots area:\s+1015808 /);
      assert.match(dump, /offset: 1048576 /);
      assert.match(dump, new RegExp(`sector: ${sectorBytes} `));
      assert.match(dump, /cipher: aes-xts-plain64/);
      assert.match(dump, /0: aws-kms/);
      assert.deepEqual(JSON.parse(cryptsetup('luksDump', '--dump-json-metadata', path)), header.metadata);
    });
  }

  test('refuses a sparse volume, in which it would read noise, and takes it once it is full', async () => {
    const sparse = newHeader(
      { volumeKey, token: sampleToken({ allocation: 'sparse' }), sectorBytes: 512, placement: 'embedded' },
      'new.img',
    );
    const path = await image('sparse.img', encodeHeader(sparse));
    assert.match(cryptsetup('luksDump', path), /Requirements:\s+volseal-sparse/);
    // Opening without device-mapper is only a test of the key; whatever would read or write data is refused.
    for (const args of [
      ['open', '--volume-key-file', keyFile, '--key-size', '512', path, 'volseal-sparse-test'],
      ['luksAddKey', '--batch-mode', '--volume-key-file', keyFile, '--key-size', '512', path, passFile],
    ]) {
      const { status, stderr } = tryTool('cryptsetup', args);
      assert.notEqual(status, 0, args[0]);
      assert.match(stderr, /Unmet LUKS2 requirements detected|device-mapper/, args[0]);
    }
    const { headerMac: _, ...token } = findToken(sparse.metadata, path);
    const full = sealHeader(volumeKey, { ...sparse, metadata: withToken(sparse.metadata, { ...token, allocation: 'full' }) }, path);
    assert.equal(testKey(await image('full.img', encodeHeader(full))), 0);
  });

  test('takes the volume key and no other', async () => {
    const path = await image('key.img', encodeHeader(fresh()));
    assert.equal(testKey(path), 0);
    assert.equal(testKey(path, wrongKeyFile), 2);
  });

  test('exports the token as we wrote it', async () => {
    const header = fresh();
    const path = await image('token.img', encodeHeader(header));
    assert.deepEqual(JSON.parse(cryptsetup('token', 'export', '--token-id', '0', path)), header.metadata.tokens['0']);
  });

  test('detached', async () => {
    const header = fresh(4096, 'detached');
    const path = await image('detached.luks', encodeHeader(header), headerAreaBytes(header.metadata));
    assert.equal(testKey(path), 0);
    assert.match(cryptsetup('luksDump', path), /offset: 0 /);
    addPassphrase(path);
    assert.equal(cryptsetupStatus('open', '--test-passphrase', '--key-file', passFile, path), 0);
    verifyHeader(volumeKey, (await found(path)).header, path);
  });

  test('with the primary copy wiped', async () => {
    const path = await image('wiped.img', encodeHeader(fresh()).fill(0, 0, COPY_BYTES));
    assert.equal(testKey(path), 0);
  });

  test('and agrees on which copy is newer', async () => {
    const old = fresh();
    const newer = sealHeader(volumeKey, { ...old, sequence: 9n, label: 'newer' }, 'a.img');
    const path = await image('newer.img', Buffer.concat([encodeHeaderCopy(old, 'primary'), encodeHeaderCopy(newer, 'secondary')]));
    assert.equal((await found(path)).header.label, 'newer');
    assert.match(cryptsetup('luksDump', path), /Label:\s+newer/);
  });

  test('after our repair and our update', async () => {
    const header = fresh();
    const path = await image('repaired.img', encodeHeader(header).fill(0, 0, COPY_BYTES));
    await withFile(path, async (file) => {
      const damaged = await readHeader(file, path);
      verifyHeader(volumeKey, damaged.header, path);
      assert.equal(await repairHeader(file, damaged, path), 'primary');
      const moved = withToken(header.metadata, sampleToken({ kms: 'aws:eu-west-1' }));
      const next = sealHeader(volumeKey, { ...header, sequence: header.sequence + 1n, metadata: moved }, path);
      await writeHeader(file, next, path, damaged.from);
    });
    assert.match(cryptsetup('luksDump', path), /Epoch:\s+2/);
    assert.match(cryptsetup('token', 'export', '--token-id', '0', path), /aws:eu-west-1/);
    assert.equal(testKey(path), 0);
    const { header: read, stale } = await found(path);
    assert.equal(stale, undefined);
    assert.equal(verifyHeader(volumeKey, read, path).kms, 'aws:eu-west-1');
  });
});

describeUnless(skip)('cryptsetup changes our header', () => {
  test('by a passphrase, another token and a label, and we still accept it', async () => {
    const path = await image('changed.img', encodeHeader(fresh()));
    addPassphrase(path);
    assert.equal(cryptsetupStatus('open', '--test-passphrase', '--key-file', passFile, path), 0);
    const tokenFile = join(directory, 'token.json');
    await writeFile(tokenFile, JSON.stringify({ type: 'site-note', keyslots: ['0'], note: { owner: 'storage team', rack: 7 } }));
    cryptsetup('token', 'import', '--json-file', tokenFile, path);
    cryptsetup('config', '--batch-mode', '--label', 'vault', path);
    const { header, stale } = await found(path);
    assert.equal(stale, undefined);
    assert.equal(header.label, 'vault');
    assert.deepEqual(Object.keys(header.metadata.keyslots), ['0']);
    verifyHeader(volumeKey, header, path);

    const next = { ...header, sequence: header.sequence + 1n };
    await withFile(path, (file) => writeHeader(file, next, path));
    assert.deepEqual(JSON.parse(cryptsetup('luksDump', '--dump-json-metadata', path)), header.metadata);
    assert.equal(cryptsetupStatus('open', '--test-passphrase', '--key-file', passFile, path), 0);

    cryptsetup('luksKillSlot', '--batch-mode', path, '0');
    verifyHeader(volumeKey, (await found(path)).header, path);
  });

  test('by a key of its own (unbound), and we still accept it', async () => {
    const path = await image('unbound.img', encodeHeader(fresh()));
    cryptsetup(
      ...['luksAddKey', '--batch-mode', '--unbound', '--key-size', '256', '--key-slot', '5'],
      ...['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', path, passFile],
    );
    const { header } = await found(path);
    assert.equal(Object.keys(header.metadata.digests).length, 2);
    verifyHeader(volumeKey, header, path);
  });

  test('by removing the token, and we say so', async () => {
    const path = await image('removed.img', encodeHeader(fresh()));
    cryptsetup('token', 'remove', '--token-id', '0', path);
    const { header } = await found(path);
    assert.throws(() => findToken(header.metadata, path), { code: 'ERR_HEADER_TOKEN', message: /removed\.img: .*no aws-kms token/ });
  });
});

describeUnless(skip)('we read a header of cryptsetup', () => {
  const format = (path: string, ...more: string[]): string =>
    cryptsetup(
      ...['luksFormat', '--batch-mode', '--type', 'luks2', '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'],
      ...['--volume-key-file', keyFile, '--key-size', '512', ...more, path, passFile],
    );

  const kinds: [string, string[]][] = [
    ['by default', []],
    ['with 4096-byte sectors', ['--sector-size', '4096']],
    ['with argon2id', ['--pbkdf', 'argon2id', '--pbkdf-force-iterations', '4', '--pbkdf-memory', '1024']],
    ['with 64 KiB of metadata', ['--luks2-metadata-size', '64k', '--luks2-keyslots-size', '1m']],
    ['with label and subsystem', ['--label', 'größe', '--subsystem', 'vdi']],
  ];
  for (const [what, args] of kinds) {
    test(`made ${what}, and write it back`, async () => {
      const path = await image('theirs.img', Buffer.alloc(0), 32 * 1024 * 1024);
      format(path, ...args);
      const { header, stale } = await found(path);
      assert.equal(stale, undefined);
      const dump = JSON.parse(cryptsetup('luksDump', '--dump-json-metadata', path));
      assert.deepEqual(header.metadata, dump);
      const { segment } = assertSupported(header.metadata, path);
      assert.equal(String(segment.offsetBytes), dump.segments['0'].offset);
      assert.equal(segment.sectorBytes, dump.segments['0'].sector_size);
      assert.throws(() => findToken(header.metadata, path), { code: 'ERR_HEADER_TOKEN' });

      const adopted = sealHeader(
        volumeKey,
        { ...header, sequence: header.sequence + 1n, metadata: withToken(header.metadata, sampleToken()) },
        path,
      );
      await withFile(path, (file) => writeHeader(file, adopted, path));
      assert.equal(testKey(path), 0);
      assert.equal(cryptsetupStatus('open', '--test-passphrase', '--key-file', passFile, path), 0);
      const again = await found(path);
      assert.equal(again.header.label, header.label);
      verifyHeader(volumeKey, again.header, path);
    });
  }

  test('with a foreign cipher, and refuse it by name', async () => {
    const path = await image('foreign.img', Buffer.alloc(0), 32 * 1024 * 1024);
    format(path, '--cipher', 'aes-cbc-essiv:sha256', '--key-size', '256', '--volume-key-file', '/dev/urandom');
    const { header } = await found(path);
    assert.throws(() => assertSupported(header.metadata, path), { code: 'ERR_HEADER_UNSUPPORTED', message: /"aes-cbc-essiv:sha256"/ });
  });

  test('with a null cipher, which it takes for good, and refuse it by name', async () => {
    const header = fresh();
    Object.assign(header.metadata.segments['0']!, { encryption: 'cipher_null-ecb' });
    const path = await image('null.img', encodeHeader(header));
    assert.match(cryptsetup('luksDump', path), /cipher: cipher_null-ecb/);
    const read = (await found(path)).header;
    assert.throws(() => verifyHeader(volumeKey, read, path), { code: 'ERR_HEADER_UNSUPPORTED', message: /"cipher_null-ecb"/ });
  });

  test('in the middle of a re-encryption, and refuse it', async () => {
    const path = await image('reencrypting.img', Buffer.alloc(0), 32 * 1024 * 1024);
    format(path);
    cryptsetup(
      ...['reencrypt', '--batch-mode', '--init-only', '--force-offline-reencrypt', '--key-file', passFile],
      ...['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', path],
    );
    const { header } = await found(path);
    assert.throws(() => assertSupported(header.metadata, path), {
      code: 'ERR_HEADER_UNSUPPORTED',
      message: /requirement online-reencrypt/,
    });
  });
});
