import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'vitest';
import { attach, createVolume, decryptImage, densifyVolume, describeVolume } from '../../src/index.js';
import { built } from '../built.js';
import { describeUnless } from '../requirements.js';
import { sandbox } from '../volume/sandbox.js';
import { runInjected, skipInjection } from './injected.js';

const DENSIFY = built('test/jobs/densify-once.ts');
const ZERO = built('test/faults/zero-once.ts');
const MIB = 1024 * 1024;
/** Of which 28 MiB are filled, 1 MiB a write: in 8 threads, one of them writes four times at least. */
const SIZE_BYTES = 32 * MIB;

describeUnless(skipInjection())('faults while densifying', () => {
  // Each thread counts its own calls. The copies of the header are written last, with an fsync behind each.
  for (const [injection, said] of [
    ['pwrite64:signal=KILL:when=1', 'SIGKILL'],
    ['pwrite64:signal=KILL:when=4', 'SIGKILL'],
    ['fdatasync:signal=KILL:when=1', 'SIGKILL'],
    ['fsync:signal=KILL:when=1', 'SIGKILL'],
    ['fsync:signal=KILL:when=2', 'SIGKILL'],
    ['pwrite64:error=EIO:when=3', 'ERR_IO EIO'],
    ['pwrite64:error=ENOSPC:when=2', 'ERR_IO ENOSPC'],
    ['fdatasync:error=EIO:when=1', 'ERR_IO EIO'],
    ['fsync:error=EIO:when=1', 'ERR_IO EIO'],
    ['lseek:error=EINVAL', 'full'],
  ] as const) {
    test(`${injection}: the volume reads the same, and the next run ends what this one began`, async () => {
      const box = sandbox();
      await createVolume(box.path('a.vol'), { sizeBytes: SIZE_BYTES, kms: box.kms });
      const plaintext = Buffer.alloc(SIZE_BYTES);
      {
        await using volume = await attach(box.path('a.vol'), { kms: box.kms });
        plaintext.set(randomBytes(3 * MIB), 4 * MIB + 100);
        await volume.write(0, plaintext);
        await volume.zero(0, 4 * MIB);
        await volume.zero(8 * MIB, 24 * MIB);
      }
      const run = runInjected(injection, DENSIFY, [box.path('a.vol'), box.kms], box.path('a.vol'));
      assert.equal(run.signal ?? run.stdout, said);
      const reads = async (): Promise<Buffer> => {
        await decryptImage(box.path('a.vol'), box.path('a.raw'), { kms: box.kms, force: true });
        return box.contents('a.raw');
      };
      assert.ok((await reads()).equals(plaintext));
      await densifyVolume(box.path('a.vol'), { kms: box.kms });
      const { allocation, headerCopies } = await describeVolume(box.path('a.vol'));
      assert.deepEqual([allocation, headerCopies.primary, headerCopies.secondary], ['full', 'good', 'good']);
      assert.ok((await reads()).equals(plaintext));
    });
  }

  for (const errno of ['EOPNOTSUPP', 'EINVAL', 'ENOSYS']) {
    test(`a file system without holes (${errno}): zeros are written in their place, and read as such`, async () => {
      const box = sandbox();
      await createVolume(box.path('a.vol'), { sizeBytes: SIZE_BYTES, kms: box.kms });
      const run = runInjected(`fallocate:error=${errno}`, ZERO, [box.path('a.vol'), box.kms], box.path('a.vol'));
      assert.equal(run.stdout, 'zeros');
    });
  }

  test('a hole that cannot be made for another reason is an error', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: SIZE_BYTES, kms: box.kms });
    const run = runInjected('fallocate:error=EIO', ZERO, [box.path('a.vol'), box.kms], box.path('a.vol'));
    assert.equal(run.stdout, 'ERR_IO EIO');
  });
});
