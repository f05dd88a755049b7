/** What bad input gets: a typed error that names the file, and source and target untouched. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, mkdirSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'vitest';
import {
  attach,
  createVolume,
  decryptImage,
  densifyVolume,
  describeVolume,
  type ErrorCode,
  encryptImage,
  rewrapVolume,
  verifyVolume,
} from '../../src/index.js';
import { openKms } from '../../src/kms/client/calls.js';
import { EmbeddedKms } from '../../src/kms/embedded/service.js';
import { encodeHeader, type Luks2Header } from '../../src/luks2/header.js';
import { readHeader } from '../../src/luks2/store.js';
import { native } from '../../src/native.js';
import { poolIsUsed } from '../../src/workers/pool.js';
import { built } from '../built.js';
import { unprivileged } from '../cli/program.js';
import { ask } from '../kms/harness.js';
import { skipWithoutMount, smallDisk } from '../mount.js';
import { testUnless } from '../requirements.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const IMAGE_BYTES = 256 * 1024;

interface Made {
  box: Sandbox;
  volume: string;
  image: Buffer;
}

async function made(options: { header?: boolean } = {}): Promise<Made> {
  const box = sandbox();
  const image = box.image('disk.raw', IMAGE_BYTES);
  const volume = box.path('disk.vol');
  await encryptImage(box.path('disk.raw'), volume, { kms: box.kms, header: options.header ? box.path('disk.header') : undefined });
  return { box, volume, image };
}

/** Each way to open the volume fails with `code`, names `path`, and leaves every file as it was. */
async function refuses(
  { box, volume }: Made,
  code: ErrorCode,
  options: { header?: string; path?: string; kms?: string } = {},
): Promise<void> {
  const files = () => readdirSync(box.directory).filter((name) => statSync(box.path(name)).isFile());
  const before = files().map((name) => [name, box.contents(name)] as const);
  const { header, path = volume, kms = box.kms } = options;
  const named = (error: { code: string; message: string; details: { path?: string } }): boolean => {
    assert.equal(error.code, code, error.message);
    assert.equal(error.details.path, path);
    assert.ok(error.message.includes(path), error.message);
    return true;
  };
  await assert.rejects(attach(volume, { kms, header }), named);
  await assert.rejects(attach(volume, { kms, header, readOnly: true }), named);
  await assert.rejects(decryptImage(volume, box.path('never.raw'), { kms, header }), named);
  for (const [name, contents] of before) assert.ok(box.contents(name).equals(contents), `${name} was changed`);
  assert.deepEqual(
    files(),
    before.map(([name]) => name),
  );
  assert.equal(native.vaultInfo().liveKeys, 0);
  assert.equal(poolIsUsed(), false);
}

async function rewrite({ volume }: Made, change: (header: Luks2Header) => void): Promise<void> {
  await using file = await open(volume, 'r+');
  const { header } = await readHeader(file, volume);
  change(header);
  await file.write(encodeHeader(header), 0, undefined, 0);
}

async function damage(path: string, offset: number, bytes = 1): Promise<void> {
  await using file = await open(path, 'r+');
  const there = Buffer.alloc(bytes);
  await file.read(there, 0, bytes, offset);
  await file.write(
    there.map((byte) => byte ^ 0xff),
    0,
    bytes,
    offset,
  );
}

describe('a header that cannot be trusted', () => {
  test('not a volume', async () => {
    const it = await made();
    writeFileSync(it.volume, it.image);
    await refuses(it, 'ERR_NOT_A_VOLUME');
  });

  test('an empty file', async () => {
    const it = await made();
    truncateSync(it.volume, 0);
    await refuses(it, 'ERR_NOT_A_VOLUME');
  });

  test('a truncated header', async () => {
    for (const bytes of [100, 4096, 16383]) {
      const it = await made();
      truncateSync(it.volume, bytes);
      await refuses(it, 'ERR_HEADER_DAMAGED');
    }
  });

  test('data that was cut off', async () => {
    const it = await made();
    truncateSync(it.volume, 1024 * 1024 + IMAGE_BYTES - 512);
    await refuses(it, 'ERR_VOLUME_SIZE');
  });

  test('bytes that somebody appended are not part of the volume', async () => {
    const { box, volume, image } = await made();
    appendFileSync(volume, Buffer.alloc(512 * 3 + 100, 7));
    await decryptImage(volume, box.path('back.raw'), { kms: box.kms });
    assert.ok(box.contents('back.raw').equals(image));
    const attached = await attach(volume, { kms: box.kms });
    assert.equal(attached.sizeBytes, IMAGE_BYTES);
    await attached.detach();
  });

  for (const [name, offset] of [
    ['primary', 0],
    ['secondary', 16384],
  ] as const) {
    test(`one bad copy, the ${name}: the volume attaches, and attaching for writing repairs it`, async () => {
      const { box, volume, image } = await made();
      await damage(volume, offset + 448);
      assert.notEqual((await describeVolume(volume)).headerCopies[name], 'good');
      const reader = await attach(volume, { kms: box.kms, readOnly: true });
      assert.ok(image.equals(await reader.read(0, IMAGE_BYTES)));
      await reader.detach();
      assert.notEqual((await describeVolume(volume)).headerCopies[name], 'good', 'a reader repairs nothing');
      await (await attach(volume, { kms: box.kms })).detach();
      assert.deepEqual((await describeVolume(volume)).headerCopies, { primary: 'good', secondary: 'good' });
    });
  }

  test('two bad copies', async () => {
    const it = await made();
    await damage(it.volume, 5000);
    await damage(it.volume, 16384 + 5000);
    await refuses(it, 'ERR_HEADER_DAMAGED');
  });

  test('another cipher, written by somebody who can compute checksums', async () => {
    const it = await made();
    await rewrite(it, ({ metadata }) => {
      metadata.segments['0']!.encryption = 'cipher_null-ecb';
    });
    await refuses(it, 'ERR_HEADER_UNSUPPORTED');
  });

  test('another segment', async () => {
    const it = await made();
    await rewrite(it, ({ metadata }) => {
      metadata.segments['0']!.offset = String(1024 * 1024 + 4096);
      metadata.segments['0']!.size = String(IMAGE_BYTES - 4096);
      Object.values(metadata.tokens)[0]!['volseal-image-bytes'] = String(IMAGE_BYTES - 4096);
    });
    await refuses(it, 'ERR_HEADER_MAC');
  });

  test('a token without a blob', async () => {
    const it = await made();
    await rewrite(it, ({ metadata }) => {
      delete Object.values(metadata.tokens)[0]!['aws-kms-ciphertext-blob'];
    });
    await refuses(it, 'ERR_HEADER_TOKEN');
  });

  test('no token', async () => {
    const it = await made();
    await rewrite(it, ({ metadata }) => {
      metadata.tokens = {};
    });
    await refuses(it, 'ERR_HEADER_TOKEN');
  });

  test("another volume's token", async () => {
    const it = await made();
    await createVolume(it.box.path('other.vol'), { sizeBytes: 512, kms: it.box.kms });
    await using other = await open(it.box.path('other.vol'), 'r');
    const foreign = (await readHeader(other, 'other.vol')).header.metadata.tokens;
    await rewrite(it, ({ metadata }) => {
      metadata.tokens = foreign;
    });
    await refuses(it, 'ERR_KEY_DIGEST');
  });

  test('a detached header: missing, in place of the data, of another volume', async () => {
    const it = await made({ header: true });
    const header = it.box.path('disk.header');
    await refuses(it, 'ERR_NOT_A_VOLUME');
    await refuses({ ...it, volume: header }, 'ERR_ARGUMENT');
    await refuses(it, 'ERR_IO', { header: it.box.path('no.header'), path: it.box.path('no.header') });
    const reader = await attach(it.volume, { kms: it.box.kms, header });
    assert.ok(it.image.equals(await reader.read(0, IMAGE_BYTES)));
    await reader.detach();
  });
});

/** EnableKey or DisableKey. */
function setKeyEnabled(box: Sandbox, keyArn: string, enabled: boolean): void {
  const kms = EmbeddedKms.open(box.path('home'));
  ask(kms, enabled ? 'EnableKey' : 'DisableKey', { KeyId: keyArn });
  kms.close();
}

describe('a volume as the data of a detached header', () => {
  test('is refused by every command, and keeps its own header', async () => {
    const box = sandbox();
    const { kms } = box;
    const header = box.path('other.hdr');
    box.image('image', 2 * 1024 * 1024);
    const key = 'alias/aws/ebs';
    await encryptImage(box.path('image'), box.path('other.vol'), { kms, header });
    await encryptImage(box.path('image'), box.path('victim.vol'), { kms });
    const intact = box.contents('victim.vol');
    const damaged = Buffer.from(intact);
    damaged.fill(0, 0, 4096);
    const luks1 = Buffer.alloc(intact.length, 1);
    Buffer.from('4c554b53babe0001', 'hex').copy(luks1);
    for (const [what, contents] of Object.entries({ intact, 'with its second copy only': damaged, 'of LUKS1': luks1 })) {
      writeFileSync(box.path('victim.vol'), contents);
      const calls: [string, (path: string) => Promise<unknown>][] = [
        ['attach', (path) => attach(path, { kms, header })],
        ['attach for reading', (path) => attach(path, { kms, header, readOnly: true })],
        ['decrypt', (path) => decryptImage(path, box.path('copy'), { kms, header })],
        ['verify', (path) => verifyVolume(path, { kms, header })],
        ['densify', (path) => densifyVolume(path, { kms, header })],
        ['rewrap', (path) => rewrapVolume(path, { kms, header, key })],
        ['info', (path) => describeVolume(path, { header })],
      ];
      for (const [name, call] of calls) {
        const refused = { code: 'ERR_ARGUMENT', message: /victim\.vol: has a LUKS header of its own, .*other\.hdr/ };
        await assert.rejects(call(box.path('victim.vol')), refused, `${name}, ${what}`);
      }
      assert.deepEqual(box.contents('victim.vol'), contents, what);
    }
    await (await attach(box.path('other.vol'), { kms, header })).detach();
  });
});

describe('a key that cannot be had', () => {
  test('a context that does not match: changed in the header, or not what the caller expects', async () => {
    const it = await made();
    await assert.rejects(attach(it.volume, { kms: it.box.kms, encryptionContext: { user: 'somebody' } }), { code: 'ERR_CONTEXT_MISMATCH' });
    await rewrite(it, ({ metadata }) => {
      const context = Object.values(metadata.tokens)[0]!['aws-kms-encryption-context'] as Record<string, string>;
      context.user = 'somebody';
    });
    await refuses(it, 'ERR_CONTEXT_MISMATCH');
  });

  test('a disabled key: attaching fails until it is enabled again, an attached volume keeps working', async () => {
    const it = await made();
    const kms = openKms({ kind: 'embedded', home: it.box.path('home'), create: true });
    const { keyArn } = await kms.createKey();
    kms.close();
    await createVolume(it.volume, { sizeBytes: 4096, kms: it.box.kms, key: keyArn, force: true });
    const volume = await attach(it.volume, { kms: it.box.kms });
    setKeyEnabled(it.box, keyArn, false);
    await volume.write(0, Buffer.from('still attached'));
    await volume.detach();
    await refuses(it, 'ERR_KMS_KEY_STATE');
    await assert.rejects(createVolume(it.box.path('b.vol'), { sizeBytes: 4096, kms: it.box.kms, key: keyArn }), {
      code: 'ERR_KMS_KEY_STATE',
    });
    setKeyEnabled(it.box, keyArn, true);
    const again = await attach(it.volume, { kms: it.box.kms });
    assert.equal(Buffer.from(await again.read(0, 14)).toString(), 'still attached');
    await again.detach();
  });

  test('an unknown key', async () => {
    const it = await made();
    const options = { kms: it.box.kms, key: 'alias/nobody', force: true };
    await assert.rejects(encryptImage(it.box.path('disk.raw'), it.volume, options), { code: 'ERR_KMS_NOT_FOUND' });
    const decrypted = await attach(it.volume, { kms: it.box.kms });
    await decrypted.detach();
  });

  test('an unreachable endpoint', async () => {
    const it = await made();
    const nobody = 'http://127.0.0.1:9';
    await refuses(it, 'ERR_KMS_UNREACHABLE', { kms: nobody });
    await assert.rejects(createVolume(it.box.path('b.vol'), { sizeBytes: 512, kms: nobody }), { code: 'ERR_KMS_UNREACHABLE' });
  });

  test('a URL that only the header names is not followed', async () => {
    const it = await made();
    await rewrite(it, ({ metadata }) => {
      Object.values(metadata.tokens)[0]!['volseal-kms'] = 'http://127.0.0.1:9';
    });
    await assert.rejects(attach(it.volume), { code: 'ERR_ARGUMENT' });
  });
});

describe('files that cannot be used', () => {
  test('an image that is a directory, a pipe, missing or empty', async () => {
    const it = await made();
    const { box } = it;
    mkdirSync(box.path('directory'));
    spawnSync('mkfifo', [box.path('pipe')]);
    writeFileSync(box.path('empty'), '');
    const cases: [string, ErrorCode][] = [
      ['directory', 'ERR_ARGUMENT'],
      ['pipe', 'ERR_ARGUMENT'],
      ['missing', 'ERR_IO'],
      ['empty', 'ERR_IMAGE_SIZE'],
    ];
    for (const [name, code] of cases) {
      const failure = { code, message: new RegExp(name) };
      await assert.rejects(encryptImage(box.path(name), box.path('new.vol'), { kms: box.kms, pad: true }), failure);
    }
    for (const name of ['directory', 'pipe', 'missing'])
      await assert.rejects(attach(box.path(name), { kms: box.kms }), { message: new RegExp(name) });
    assert.ok(!readdirSync(box.directory).some((name) => name.includes('new.vol')));
  });

  test('a target that is a directory, a pipe, or in no directory', async () => {
    const { box, volume } = await made();
    mkdirSync(box.path('directory'));
    spawnSync('mkfifo', [box.path('pipe')]);
    for (const name of ['directory', 'pipe', 'nowhere/disk.raw']) {
      await assert.rejects(decryptImage(volume, box.path(name), { kms: box.kms, force: true }), { message: new RegExp(name) });
    }
  });

  test('no permission to read the image, or to write the target', async () => {
    const { box } = await made();
    chmodSync(box.path('disk.raw'), 0o000);
    mkdirSync(box.path('locked'), { mode: 0o555 });
    chmodSync(box.directory, 0o755);
    const script = built('test/jobs/encrypt-once.ts');
    const kms = `embedded:${box.path('locked')}`;
    const run = (image: string, target: string): string => {
      const [program = '', ...args] = [...unprivileged, process.execPath, script, image, target, kms];
      return spawnSync(program, args, { encoding: 'utf8' }).stdout.trim();
    };
    assert.equal(run(box.path('disk.raw'), '/tmp/never.vol'), 'ERR_IO EACCES');
    writeFileSync(box.path('public.raw'), Buffer.alloc(512), { mode: 0o644 });
    assert.match(run(box.path('public.raw'), box.path('locked/new.vol')), /^ERR_(IO|KMS_STORE) EACCES$/);
  });

  testUnless(skipWithoutMount())('a full disk: no target, and none of its parts', async () => {
    const { box, volume } = await made();
    smallDisk(box.path('small'), 192 * 1024);
    const inSmall = (name: string): string => box.path(`small/${name}`);
    for (const job of [
      () => decryptImage(volume, inSmall('disk.raw'), { kms: box.kms }),
      () => encryptImage(box.path('disk.raw'), inSmall('disk.vol'), { kms: box.kms }),
      () => createVolume(inSmall('new.vol'), { kms: box.kms, sizeBytes: 1024 * 1024, allocation: 'full' }),
    ]) {
      await assert.rejects(job, (error: { code: string; details: { errno: string; path: string } }) => {
        assert.deepEqual([error.code, error.details.errno], ['ERR_IO', 'ENOSPC']);
        assert.ok(error.details.path.startsWith(box.path('small')));
        return true;
      });
      assert.deepEqual(readdirSync(box.path('small')), []);
    }
  });
});
