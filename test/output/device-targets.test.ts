/**
 * Block devices as targets: asked for by name and force, held alone, large enough, and never half a volume that looks
 * whole.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { onTestFinished, test } from 'vitest';
import { attach, createVolume, decryptImage, describeVolume, encryptImage, type VolsealError } from '../../src/index.js';
import { lab } from '../cli/program.js';
import { faulty, skipInjection } from '../faults/injected.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { describeUnless, testUnless } from '../requirements.js';
import { sandbox } from '../volume/sandbox.js';
import { loopDevice, skipWithoutLoop } from './loop-device.js';

const MIB = 1024 * 1024;
const IMAGE_BYTES = 24 * MIB;

/** Through the device, as the next program sees it. */
async function bytesAt(device: string, offset: number, length: number): Promise<Buffer> {
  await using file = await open(device, 'r');
  const bytes = Buffer.alloc(length);
  await file.read(bytes, 0, length, offset);
  return bytes;
}

test('a device that is missing is not made as a file', async () => {
  const box = sandbox();
  box.image('a.raw', 4096);
  const missing = `/dev/volseal-missing-${process.pid}`;
  await assert.rejects(encryptImage(box.path('a.raw'), missing, { kms: box.kms, force: true }), (error: VolsealError) => {
    assert.deepEqual([error.code, error.details.errno, error.details.path], ['ERR_IO', 'ENOENT', missing]);
    assert.match(error.message, /there is no such device/);
    return true;
  });
  assert.equal(existsSync(missing), false);
});

describeUnless(skipWithoutLoop())('a block device as target', () => {
  test('encrypt, attach, decrypt from device to device', async () => {
    const box = sandbox();
    const image = box.image('a.raw', IMAGE_BYTES);
    const device = loopDevice(box.path('disk'), IMAGE_BYTES + 4 * MIB, 7);
    symlinkSync(device, box.path('link'));
    const made = await encryptImage(box.path('a.raw'), box.path('link'), { kms: box.kms, force: true });
    assert.equal(made.allocatedBytes, null);
    assert.deepEqual(made.headerCopies, { primary: 'good', secondary: 'good' });
    assert.equal((await describeVolume(device)).volumeId, made.volumeId);
    // What lies behind the volume is not its business.
    assert.ok((await bytesAt(device, IMAGE_BYTES + 2 * MIB, 4096)).equals(Buffer.alloc(4096, 7)));
    const volume = await attach(device, { kms: box.kms });
    assert.ok(image.subarray(5000, 9000).equals(await volume.read(5000, 4000)));
    await volume.detach();
    const plain = loopDevice(box.path('plain'), IMAGE_BYTES + MIB, 9);
    await decryptImage(device, plain, { kms: box.kms, force: true });
    assert.ok((await bytesAt(plain, 0, IMAGE_BYTES)).equals(image));
    assert.ok((await bytesAt(plain, IMAGE_BYTES, MIB)).equals(Buffer.alloc(MIB, 9)));
  });

  test('an image whose length is no whole number of blocks, and a detached header', async () => {
    const box = sandbox();
    const image = box.image('a.raw', 3 * MIB + 1000);
    const device = loopDevice(box.path('disk'), 4 * MIB);
    const header = box.path('a.header');
    await encryptImage(box.path('a.raw'), device, { kms: box.kms, force: true, pad: true, header });
    const plain = loopDevice(box.path('plain'), 4 * MIB, 9);
    await decryptImage(device, plain, { kms: box.kms, force: true, header });
    assert.ok((await bytesAt(plain, 0, image.length)).equals(image));
    await decryptImage(device, box.path('b.raw'), { kms: box.kms, header });
    assert.ok(box.contents('b.raw').equals(image));
  });

  test('create: every sector is written', async () => {
    const box = sandbox();
    const device = loopDevice(box.path('disk'), 8 * MIB, 7);
    const made = await createVolume(device, { kms: box.kms, force: true, sizeBytes: 6 * MIB });
    assert.equal(made.allocation, 'full');
    const volume = await attach(device, { kms: box.kms });
    assert.ok(Buffer.alloc(6 * MIB).equals(await volume.read(0, 6 * MIB)));
    await volume.detach();
  });

  for (const dense of [false, true])
    test(`zeros are written, discarded or left out as asked, from a ${dense ? 'full' : 'sparse'} volume`, async () => {
      const box = sandbox();
      // Data, a run of zeros, a hole larger than a piece, and an end that is no whole block.
      const image = Buffer.concat([box.image('a.raw', 3 * MIB), Buffer.alloc(9 * MIB), Buffer.alloc(MIB + 512, 5)]);
      writeFileSync(box.path('a.raw'), image);
      await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, allocation: dense ? 'full' : 'sparse' });
      const allocated: number[] = [];
      for (const options of [{}, { sparse: true }, { targetIsZero: true }]) {
        const name = `disk ${Object.keys(options)}`;
        const device = loopDevice(box.path(name), 16 * MIB, 'targetIsZero' in options ? 0 : 9);
        await decryptImage(box.path('a.vol'), device, { kms: box.kms, force: true, ...options });
        assert.ok((await bytesAt(device, 0, image.length)).equals(image), name);
        runTool('sync', [box.path(name)]);
        allocated.push(statSync(box.path(name)).blocks * 512);
      }
      const [written, discarded, leftOut] = allocated as [number, number, number];
      assert.ok(discarded <= written - 8 * MIB, `${allocated}`);
      assert.ok(leftOut <= 13 * MIB, `${allocated}`);
    });

  test('read-only: refused before anything is written, and nothing is said to be gone', async () => {
    const box = sandbox();
    box.image('a.raw', 4096);
    writeFileSync(box.path('disk'), Buffer.alloc(4 * MIB, 7));
    const device = runTool('losetup', ['--find', '--show', '--read-only', box.path('disk')]).trim();
    onTestFinished(() => void spawnSync('losetup', ['--detach', device]));
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    for (const call of [
      () => encryptImage(box.path('a.raw'), device, { kms: box.kms, force: true }),
      () => decryptImage(box.path('a.vol'), device, { kms: box.kms, force: true }),
    ]) {
      await assert.rejects(call(), (error: VolsealError) => {
        assert.deepEqual([error.code, error.details.errno], ['ERR_IO', 'EROFS']);
        assert.match(error.message, /is a read-only device; nothing was written to it$/);
        return true;
      });
    }
  });

  testUnless(skipInjection())('a first write that is refused leaves the device as it was, and says so by silence', () => {
    const at = lab();
    at.image('a.raw', 4096);
    const device = loopDevice(at.path('disk'), 4 * MIB, 7);
    symlinkSync(device, at.path('device'));
    const failed = faulty(at, 'pwrite64:error=EPERM:when=1', ['encrypt', 'a.raw', 'device', '--force'], 'device');
    assert.equal(failed.status, 4, failed.stderr);
    assert.match(failed.stderr, /write failed/);
    assert.doesNotMatch(failed.stderr, /is gone/);
    assert.ok(readFileSync(at.path('disk')).equals(Buffer.alloc(4 * MIB, 7)));
  });

  test('without force, too small, sparse, resumed, or for a header: refused, and not a byte is changed', async () => {
    const box = sandbox();
    box.image('a.raw', IMAGE_BYTES);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    const device = loopDevice(box.path('disk'), IMAGE_BYTES, 7);
    const common = { kms: box.kms, force: true };
    const encrypt = (options: object) => encryptImage(box.path('a.raw'), device, { ...common, ...options });
    await assert.rejects(encrypt({ force: false }), {
      code: 'ERR_TARGET_EXISTS',
      message: /is a block device, and what it holds would be lost/,
    });
    await assert.rejects(encrypt({}), {
      code: 'ERR_TARGET_SIZE',
      details: { path: device, sizeBytes: IMAGE_BYTES, neededBytes: IMAGE_BYTES + MIB },
    });
    await assert.rejects(encrypt({ allocation: 'sparse' }), { code: 'ERR_ARGUMENT' });
    await assert.rejects(encrypt({ header: box.path('h'), resume: true }), {
      code: 'ERR_ARGUMENT',
      message: /only a job that writes to a file can be resumed/,
    });
    await assert.rejects(encryptImage(box.path('a.raw'), box.path('b.vol'), { ...common, header: device }), {
      code: 'ERR_ARGUMENT',
      message: /is a block device, and this target is a regular file/,
    });
    await assert.rejects(decryptImage(box.path('a.vol'), box.path('a.copy'), { ...common, targetIsZero: true }), {
      code: 'ERR_ARGUMENT',
      message: /is no block device/,
    });
    const short = loopDevice(box.path('short'), IMAGE_BYTES - 512, 7);
    await assert.rejects(decryptImage(box.path('a.vol'), short, common), { code: 'ERR_TARGET_SIZE' });
    for (const name of ['disk', 'short'])
      assert.ok(
        box.contents(name).every((byte) => byte === 7),
        name,
      );
  });

  test('onto itself, whatever it is called: refused', async () => {
    const box = sandbox();
    const device = loopDevice(box.path('disk'), 4 * MIB);
    symlinkSync(device, box.path('link'));
    await createVolume(device, { kms: box.kms, force: true, sizeBytes: MIB });
    const before = box.contents('disk');
    const options = { kms: box.kms, force: true, raw: true };
    await assert.rejects(encryptImage(device, box.path('link'), { ...options, header: box.path('h') }), {
      code: 'ERR_ARGUMENT',
      message: /link: is the device .* itself, which would be overwritten before it was read/,
    });
    await assert.rejects(decryptImage(box.path('link'), device, options), { code: 'ERR_ARGUMENT', message: /is the device .* itself/ });
    assert.ok(box.contents('disk').equals(before));
  });

  testUnless(skipWithout('mkfs.ext4', 'mount'))('mounted, or attached: busy', async () => {
    const box = sandbox();
    box.image('a.raw', MIB);
    const device = loopDevice(box.path('disk'), 8 * MIB);
    runTool('mkfs.ext4', ['-q', device]);
    mkdirSync(box.path('mounted'));
    runTool('mount', [device, box.path('mounted')]);
    try {
      const encrypt = encryptImage(box.path('a.raw'), device, { kms: box.kms, force: true });
      await assert.rejects(encrypt, { code: 'ERR_STATE_BUSY', message: /is mounted, or another program holds it; nothing was written/ });
      writeFileSync(box.path('mounted/file'), 'still there');
      assert.equal(readFileSync(box.path('mounted/file'), 'utf8'), 'still there');
    } finally {
      spawnSync('umount', [box.path('mounted')]);
    }
    await createVolume(device, { kms: box.kms, force: true, sizeBytes: MIB });
    await using _attached = await attach(device, { kms: box.kms, readOnly: true });
    await assert.rejects(createVolume(device, { kms: box.kms, force: true, sizeBytes: MIB }), {
      code: 'ERR_STATE_BUSY',
      message: /is attached as a volume/,
    });
  });

  test('a job that is stopped leaves no valid header, and says what is gone', async () => {
    const box = sandbox();
    box.image('a.raw', IMAGE_BYTES);
    const device = loopDevice(box.path('disk'), IMAGE_BYTES + MIB);
    for (const job of [
      (options: object) => encryptImage(box.path('a.raw'), device, { kms: box.kms, force: true, ...options }),
      (options: object) => decryptImage(box.path('a.vol'), device, { kms: box.kms, force: true, ...options }),
    ]) {
      await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, force: true });
      await createVolume(device, { kms: box.kms, force: true, sizeBytes: MIB });
      const controller = new AbortController();
      await assert.rejects(job({ signal: controller.signal, onProgress: () => controller.abort() }), {
        code: 'ERR_ABORTED',
        message: `stopped on request; what ${device} held before is gone, and what it holds now is not complete`,
      });
      await assert.rejects(describeVolume(device), { code: 'ERR_NOT_A_VOLUME' });
    }
    // KMS is asked before the first byte is erased.
    await createVolume(device, { kms: box.kms, force: true, sizeBytes: MIB });
    await assert.rejects(encryptImage(box.path('a.raw'), device, { kms: box.kms, force: true, key: 'alias/none' }), {
      code: 'ERR_KMS_NOT_FOUND',
      message: /^(?!.*is gone)/,
    });
    await describeVolume(device);
  });
});
