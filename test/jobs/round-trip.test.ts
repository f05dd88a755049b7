import assert from 'node:assert/strict';
import { createDecipheriv } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'vitest';
import { attach, createVolume, decryptImage, encryptImage, type Progress } from '../../src/index.js';
import { native } from '../../src/native.js';
import { poolIsUsed } from '../../src/workers/pool.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';

function decryptSectors(key: Buffer, ciphertext: Buffer, sectorBytes: number): Buffer {
  const sectors: Buffer[] = [];
  for (let at = 0; at < ciphertext.length; at += sectorBytes) {
    const tweak = Buffer.alloc(16);
    tweak.writeBigUInt64LE(BigInt(at / 512));
    sectors.push(createDecipheriv('aes-256-xts', key, tweak).update(ciphertext.subarray(at, at + sectorBytes)));
  }
  return Buffer.concat(sectors);
}

describe('encrypt and decrypt', () => {
  for (const sectorBytes of [512, 1024, 2048, 4096]) {
    for (const detached of [false, true]) {
      test(`${sectorBytes}-byte sectors, ${detached ? 'detached' : 'embedded'} header: OpenSSL agrees, the image comes back`, async () => {
        const box = sandbox();
        const image = box.image('disk image.raw', 9 * 1024 * 1024 + 5 * 4096);
        const header = detached ? box.path('disk.header') : undefined;
        const info = await encryptImage(box.path('disk image.raw'), box.path('disk.vol'), { kms: box.kms, sectorBytes, header });
        assert.equal(info.sectorBytes, sectorBytes);
        assert.equal(info.sizeBytes, image.length);
        assert.equal(info.dataOffsetBytes, detached ? 0 : 1024 * 1024);
        assert.match(info.volumeId, /^vol-[0-9a-f]{17}$/);
        assert.deepEqual(info.encryptionContext, { 'aws:ebs:id': info.volumeId });

        const ciphertext = box.contents('disk.vol').subarray(info.dataOffsetBytes);
        assert.ok(decryptSectors(await dataKeyOf(box.path('disk.vol'), box.kms, header), ciphertext, sectorBytes).equals(image));
        await decryptImage(box.path('disk.vol'), box.path('again.raw'), { kms: box.kms, header });
        assert.ok(box.contents('again.raw').equals(image));
        assert.equal(poolIsUsed(), false);
        assert.equal(native.vaultInfo().liveKeys, 0);
      });
    }
  }

  test('two volumes of one image share nothing: other keys, other ids', async () => {
    const box = sandbox();
    box.image('a.raw', 4096);
    const one = await encryptImage(box.path('a.raw'), box.path('1.vol'), { kms: box.kms });
    const two = await encryptImage(box.path('a.raw'), box.path('2.vol'), { kms: box.kms });
    assert.notEqual(one.volumeId, two.volumeId);
    assert.notEqual(one.encryptedDataKey, two.encryptedDataKey);
    assert.notDeepEqual(await dataKeyOf(box.path('1.vol'), box.kms), await dataKeyOf(box.path('2.vol'), box.kms));
  });

  for (const bytes of [1, 511, 513, 4095, 4097, 1024 * 1024 + 1, 8 * 1024 * 1024 - 1, 8 * 1024 * 1024 + 511]) {
    test(`an image of ${bytes} bytes is refused, or padded and given back at its exact length`, async () => {
      const box = sandbox();
      const image = box.image('odd.raw', bytes);
      const refused = encryptImage(box.path('odd.raw'), box.path('odd.vol'), { kms: box.kms });
      await assert.rejects(refused, { code: 'ERR_IMAGE_SIZE', details: { path: box.path('odd.raw'), sizeBytes: bytes, sectorBytes: 512 } });
      assert.equal(existsSync(box.path('odd.vol')), false);
      for (const sectorBytes of [512, 4096]) {
        const options = { kms: box.kms, sectorBytes, pad: true, force: true };
        const info = await encryptImage(box.path('odd.raw'), box.path('odd.vol'), options);
        assert.equal(info.imageBytes, bytes);
        assert.equal(info.sizeBytes, Math.ceil(bytes / sectorBytes) * sectorBytes);
        await decryptImage(box.path('odd.vol'), box.path('back.raw'), { kms: box.kms, force: true });
        assert.ok(box.contents('back.raw').equals(image));
      }
    });
  }

  test('tmpfs, which may not take O_DIRECT, gives the same volume and image', async () => {
    const box = sandbox('/dev/shm');
    const image = box.image('a.raw', 3 * 1024 * 1024 + 512);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    await decryptImage(box.path('a.vol'), box.path('b.raw'), { kms: box.kms });
    assert.ok(box.contents('b.raw').equals(image));
  });

  test('progress grows to the whole, and ends there', async () => {
    const box = sandbox();
    box.image('a.raw', 40 * 1024 * 1024);
    const seen: Progress[] = [];
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, onProgress: (progress) => seen.push(progress) });
    assert.deepEqual(seen.at(-1), { doneBytes: 40 * 1024 * 1024, totalBytes: 40 * 1024 * 1024 });
    assert.ok(seen.every(({ doneBytes }, i) => i === 0 || doneBytes > seen[i - 1]!.doneBytes));
  });

  test('a signal ends the job: no volume, no temporary file, no key', async () => {
    const box = sandbox();
    box.image('a.raw', 64 * 1024 * 1024);
    const controller = new AbortController();
    const options = { kms: box.kms, signal: controller.signal, onProgress: () => controller.abort() };
    await assert.rejects(encryptImage(box.path('a.raw'), box.path('a.vol'), options), { code: 'ERR_ABORTED' });
    assert.deepEqual(readdirSync(box.directory).sort(), ['a.raw', 'home']);
    assert.equal(native.vaultInfo().liveKeys, 0);
    assert.equal(poolIsUsed(), false);
  });
});

describe('create', () => {
  test('a full volume reads as zeros, and no sector of it is a hole', async () => {
    const box = sandbox();
    const sizeBytes = 5 * 1024 * 1024 + 512;
    const info = await createVolume(box.path('new.vol'), { sizeBytes, kms: box.kms, key: 'alias/aws/workspaces', allocation: 'full' });
    assert.equal(info.sizeBytes, sizeBytes);
    await decryptImage(box.path('new.vol'), box.path('new.raw'), { kms: box.kms });
    assert.ok(box.contents('new.raw').equals(Buffer.alloc(sizeBytes)));
    const ciphertext = box.contents('new.vol').subarray(info.dataOffsetBytes);
    for (let at = 0; at < sizeBytes; at += 512) assert.ok(!ciphertext.subarray(at, at + 512).equals(Buffer.alloc(512)));
    assert.equal(statSync(box.path('new.vol')).mode & 0o777, 0o600);
  });

  for (const sizeBytes of [0, -512, 511, 513, 1.5, Number.NaN, 2 ** 60]) {
    test(`a size of ${sizeBytes} is refused`, async () => {
      const box = sandbox();
      await assert.rejects(createVolume(box.path('new.vol'), { sizeBytes, kms: box.kms }), { code: 'ERR_IMAGE_SIZE' });
      assert.deepEqual(readdirSync(box.directory), []);
    });
  }
});

describe('targets', () => {
  test('an existing target is left as it is without force, and replaced whole with it', async () => {
    const box = sandbox();
    const image = box.image('a.raw', 4096);
    writeFileSync(box.path('a.vol'), 'precious');
    await assert.rejects(encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms }), { code: 'ERR_TARGET_EXISTS' });
    assert.equal(box.contents('a.vol').toString(), 'precious');
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, force: true });
    await assert.rejects(decryptImage(box.path('a.vol'), box.path('a.raw'), { kms: box.kms }), { code: 'ERR_TARGET_EXISTS' });
    await decryptImage(box.path('a.vol'), box.path('a.raw'), { kms: box.kms, force: true });
    assert.ok(box.contents('a.raw').equals(image));
  });

  test('a volume may take the place of its own image', async () => {
    const box = sandbox();
    const image = box.image('a.raw', 65536);
    await encryptImage(box.path('a.raw'), box.path('a.raw'), { kms: box.kms, force: true });
    await decryptImage(box.path('a.raw'), box.path('a.raw'), { kms: box.kms, force: true });
    assert.ok(box.contents('a.raw').equals(image));
  });

  test('what a killed run left behind is removed by the next one for the same target, what is in use or new is not', async () => {
    const box = sandbox();
    const left = (name: string, ageSeconds: number): void => {
      writeFileSync(box.path(name), 'half');
      const then = Date.now() / 1000 - ageSeconds;
      utimesSync(box.path(name), then, then);
    };
    left('.a.vol.0123456789ab.partial', 3600);
    left('.a.vol.aaaaaaaaaaaa.partial', 3600);
    left('.a.vol.bbbbbbbbbbbb.partial', 5);
    left('.b.vol.0123456789ab.partial', 3600);
    left('.a.vol.note.partial', 3600);
    await using inUse = await open(box.path('.a.vol.aaaaaaaaaaaa.partial'), 'r');
    native.fileLock(inUse.fd, true);
    await createVolume(box.path('a.vol'), { sizeBytes: 512, kms: box.kms });
    const kept = ['.a.vol.aaaaaaaaaaaa.partial', '.a.vol.bbbbbbbbbbbb.partial', '.a.vol.note.partial', '.b.vol.0123456789ab.partial'];
    assert.deepEqual(readdirSync(box.directory).sort(), [...kept, 'a.vol', 'home']);
  });

  test('a pair whose second file cannot be put in its place leaves the first as it was', async () => {
    const box = sandbox();
    const image = box.image('a.raw', 4096);
    const options = { kms: box.kms, header: box.path('a.header') };
    await encryptImage(box.path('a.raw'), box.path('a.vol'), options);
    box.image('b.raw', 4096);
    // The second file's place becomes one that no rename can take, after all checks.
    const onProgress = (): void => {
      renameSync(box.path('a.vol'), box.path('kept.vol'));
      mkdirSync(box.path('a.vol'));
    };
    await assert.rejects(encryptImage(box.path('b.raw'), box.path('a.vol'), { ...options, force: true, onProgress }), { code: 'ERR_IO' });
    assert.deepEqual(readdirSync(box.directory).sort(), ['a.header', 'a.raw', 'a.vol', 'b.raw', 'home', 'kept.vol']);
    await decryptImage(box.path('kept.vol'), box.path('back.raw'), options);
    assert.ok(box.contents('back.raw').equals(image));
  });

  test('a volume that is being replaced cannot be attached for writing meanwhile', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
    let attempt: Promise<string> | undefined;
    const onProgress = (): void => {
      attempt ??= attach(box.path('a.vol'), { kms: box.kms }).then(
        async (volume) => volume.detach().then(() => 'attached'),
        (error: { code: string }) => error.code,
      );
    };
    await createVolume(box.path('a.vol'), { sizeBytes: 64 * 1024 * 1024, kms: box.kms, force: true, onProgress });
    assert.equal(await attempt, 'ERR_STATE_BUSY');
  });

  test('a context pair that a header could not carry is refused', async () => {
    const box = sandbox();
    const encryptionContext = JSON.parse('{"__proto__":"alice"}') as Record<string, string>;
    await assert.rejects(createVolume(box.path('a.vol'), { sizeBytes: 512, kms: box.kms, encryptionContext }), { code: 'ERR_ARGUMENT' });
  });

  test('the header and the volume cannot be one detached file', async () => {
    const box = sandbox();
    box.image('a.raw', 4096);
    const options = { kms: box.kms, header: box.path('a.vol') };
    await assert.rejects(encryptImage(box.path('a.raw'), box.path('a.vol'), options), { code: 'ERR_ARGUMENT' });
  });
});
