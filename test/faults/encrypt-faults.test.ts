import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { createVolume, decryptImage } from '../../src/index.js';
import { built, MAIN } from '../built.js';
import { dropFromCache } from '../engine/page-cache.js';
import { describeUnless } from '../requirements.js';
import { sandbox } from '../volume/sandbox.js';
import { runInjected, skipInjection } from './injected.js';

const ENCRYPT = built('test/jobs/encrypt-once.ts');
const REPLACE = 'force';

const MIB = 1024 * 1024;

/**
 * Some thread comes to its second piece of 1 MiB, whatever the number of threads: strace counts the calls of each
 * thread.
 */
const IMAGE_BYTES = 40 * MIB;

describeUnless(skipInjection())('faults while encrypting', () => {
  for (const [injection, said] of [
    ['pwrite64:error=EIO:when=1', 'ERR_IO EIO'],
    ['pwrite64:error=ENOSPC:when=2', 'ERR_IO ENOSPC'],
    ['fallocate:error=ENOSPC:when=1', 'ERR_IO ENOSPC'],
    ['fsync:error=EIO:when=1', 'ERR_IO EIO'],
    ['link,linkat:error=EIO:when=1', 'ERR_IO EIO'],
  ] as const) {
    test(`${injection}: a typed error, no target, no part of it`, async () => {
      const box = sandbox();
      await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
      box.image('disk.raw', IMAGE_BYTES);
      const run = runInjected(injection, ENCRYPT, [box.path('disk.raw'), box.path('disk.vol'), box.kms]);
      assert.equal(run.stdout, said);
      assert.deepEqual(readdirSync(box.directory).sort(), ['disk.raw', 'first.vol', 'home']);
    });
  }

  test('an image that cannot be read to its end: a typed error, no target, no part of it', async () => {
    const box = sandbox();
    await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
    box.image('disk.raw', IMAGE_BYTES);
    const run = runInjected(
      'pread64:error=EIO:when=2',
      ENCRYPT,
      [box.path('disk.raw'), box.path('disk.vol'), box.kms],
      box.path('disk.raw'),
    );
    assert.equal(run.stdout, 'ERR_IO EIO');
    assert.deepEqual(readdirSync(box.directory).sort(), ['disk.raw', 'first.vol', 'home']);
  });

  test('what a file system or a kernel does not have is done without', async () => {
    const box = sandbox();
    await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
    const image = box.image('disk.raw', IMAGE_BYTES);
    for (const injection of [
      'fallocate:error=EOPNOTSUPP',
      'mincore:error=EPERM',
      'mmap:error=EAGAIN',
      'lseek:error=EINVAL',
      'sync_file_range:error=ENOSYS',
    ]) {
      // On the image alone: no program runs without these calls.
      const path = /^(mmap|lseek)/.test(injection) ? box.path('disk.raw') : undefined;
      const args = [box.path('disk.raw'), box.path('disk.vol'), box.kms, REPLACE];
      assert.equal(runInjected(injection, ENCRYPT, args, path).stdout, 'encrypted', injection);
      await decryptImage(box.path('disk.vol'), box.path('back.raw'), { kms: box.kms, force: true });
      assert.ok(box.contents('back.raw').equals(image), injection);
    }
  });

  test('a file system that refuses O_DIRECT requests one by one gets buffered ones', async () => {
    const box = sandbox();
    await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
    // One piece, so that its thread's first call is the direct one, and no other thread's read finds what the second
    // left in the page cache.
    const image = box.image('disk.raw', MIB);
    // Out of the page cache, from which it would be read in another way.
    dropFromCache(box.path('disk.raw'));
    const read = runInjected(
      'pread64:error=EINVAL:when=1',
      ENCRYPT,
      [box.path('disk.raw'), box.path('disk.vol'), box.kms],
      box.path('disk.raw'),
    );
    assert.equal(read.stdout, 'encrypted');
    // Decrypting, where every write is the engine's.
    const written = runInjected('pwrite64:error=EINVAL:when=1', MAIN, [
      'decrypt',
      box.path('disk.vol'),
      box.path('back.raw'),
      '--kms',
      box.kms,
    ]);
    assert.match(written.stdout, /^decrypted /);
    assert.ok(box.contents('back.raw').equals(image));
  });

  test('a file system without hard links gets the volume too', async () => {
    const box = sandbox();
    await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
    const image = box.image('disk.raw', MIB);
    const run = runInjected('link,linkat:error=EPERM:when=1', ENCRYPT, [box.path('disk.raw'), box.path('disk.vol'), box.kms]);
    assert.equal(run.stdout, 'encrypted');
    assert.deepEqual(readdirSync(box.directory).sort(), ['disk.raw', 'disk.vol', 'first.vol', 'home']);
    await decryptImage(box.path('disk.vol'), box.path('back.raw'), { kms: box.kms });
    assert.ok(box.contents('back.raw').equals(image));
  });

  test('kill -9 at any step: no target or a whole one; an old one or a new one', async () => {
    const box = sandbox();
    await createVolume(box.path('old.vol'), { sizeBytes: 512, kms: box.kms });
    const old = box.contents('old.vol');
    const image = box.image('disk.raw', 26 * MIB);
    // And in which runs each is sure to be: to a new place, in the place of an old volume.
    const both = [true, true];
    const steps: [step: string, sure: boolean[]][] = [
      ['pwrite64:signal=KILL:when=1', both],
      ['pwrite64:signal=KILL:when=2', both],
      ['pwrite64:signal=KILL:when=4', [false, false]], // Where some thread comes to so many pieces.
      ['fsync:signal=KILL:when=1', both],
      ['fsync:signal=KILL:when=2', both],
      ['link,linkat:signal=KILL:when=1', [true, false]],
      ['unlink,unlinkat:signal=KILL:when=1', [true, false]],
      ['rename,renameat,renameat2:signal=KILL:when=1', [false, true]],
    ];
    for (const [step, sure] of steps) {
      for (const force of [false, true]) {
        const name = `${step.replaceAll(/[^a-z0-9]/g, '-')}-${force}.vol`;
        if (force) writeFileSync(box.path(name), old);
        const run = runInjected(step, ENCRYPT, [box.path('disk.raw'), box.path(name), box.kms, ...(force ? [REPLACE] : [])]);
        if (run.signal !== 'SIGKILL') {
          assert.ok(!sure[Number(force)], `${step}: not killed`);
          assert.equal(run.stdout, 'encrypted', step);
        }
        if (!existsSync(box.path(name))) {
          assert.ok(!force, `${step}: the old volume is gone`);
        } else if (!force || !box.contents(name).equals(old)) {
          await decryptImage(box.path(name), box.path('back.raw'), { kms: box.kms, force: true });
          assert.ok(box.contents('back.raw').equals(image), step);
        }
      }
    }
  });
});
