import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createVolume, decryptImage } from '../../src/index.js';
import { MAIN } from '../cli/program.js';
import { sandbox } from '../volume/sandbox.js';
import { runInjected, skipInjection } from './injected.js';

const ENCRYPT = fileURLToPath(new URL('../volume/encrypt-once.js', import.meta.url));
const REPLACE = 'force';

/** Enough for each thread to come to the call that fails: strace counts in each of them. */
const IMAGE_BYTES = 40 * 1024 * 1024;

describe('faults while encrypting', { skip: skipInjection() }, () => {
  for (const [injection, said] of [
    ['pwrite64:error=EIO:when=1', 'ERR_IO EIO'],
    ['pwrite64:error=ENOSPC:when=5', 'ERR_IO ENOSPC'],
    ['fallocate:error=ENOSPC:when=1', 'ERR_IO ENOSPC'],
    ['fsync:error=EIO:when=1', 'ERR_IO EIO'],
    ['link,linkat:error=EIO:when=1', 'ERR_IO EIO'],
  ] as const) {
    test(`${injection}: a typed error, no target, no part of it`, async (t) => {
      const box = sandbox(t);
      await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
      box.image('disk.raw', IMAGE_BYTES);
      const run = runInjected(injection, ENCRYPT, [box.path('disk.raw'), box.path('disk.vol'), box.kms]);
      assert.equal(run.stdout, said);
      assert.deepEqual(readdirSync(box.folder).sort(), ['disk.raw', 'first.vol', 'home']);
    });
  }

  test('an image that cannot be read to its end: a typed error, no target, no part of it', async (t) => {
    const box = sandbox(t);
    await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
    box.image('disk.raw', IMAGE_BYTES);
    const run = runInjected(
      'pread64:error=EIO:when=3',
      ENCRYPT,
      [box.path('disk.raw'), box.path('disk.vol'), box.kms],
      box.path('disk.raw'),
    );
    assert.equal(run.stdout, 'ERR_IO EIO');
    assert.deepEqual(readdirSync(box.folder).sort(), ['disk.raw', 'first.vol', 'home']);
  });

  test('what a file system or a kernel does not have is done without', async (t) => {
    const box = sandbox(t);
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

  test('a file system that refuses O_DIRECT requests one by one gets buffered ones', async (t) => {
    const box = sandbox(t);
    await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
    const image = box.image('disk.raw', IMAGE_BYTES);
    // Out of the page cache, from which it would be read in another way.
    dropFromCache(box.path('disk.raw'));
    const read = runInjected(
      'pread64:error=EINVAL:when=2',
      ENCRYPT,
      [box.path('disk.raw'), box.path('disk.vol'), box.kms],
      box.path('disk.raw'),
    );
    assert.equal(read.stdout, 'encrypted');
    // Decrypting, where every write is the engine's.
    const written = runInjected('pwrite64:error=EINVAL:when=2', MAIN, [
      'decrypt',
      box.path('disk.vol'),
      box.path('back.raw'),
      '--kms',
      box.kms,
    ]);
    assert.match(written.stdout, /^decrypted /);
    assert.ok(box.contents('back.raw').equals(image));
  });

  test('a file system without hard links gets the volume too', async (t) => {
    const box = sandbox(t);
    await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
    const image = box.image('disk.raw', 1024 * 1024);
    const run = runInjected('link,linkat:error=EPERM:when=1', ENCRYPT, [box.path('disk.raw'), box.path('disk.vol'), box.kms]);
    assert.equal(run.stdout, 'encrypted');
    assert.deepEqual(readdirSync(box.folder).sort(), ['disk.raw', 'disk.vol', 'first.vol', 'home']);
    await decryptImage(box.path('disk.vol'), box.path('back.raw'), { kms: box.kms });
    assert.ok(box.contents('back.raw').equals(image));
  });

  test('kill -9 at any step: no target or a whole one; an old one or a new one', async (t) => {
    const box = sandbox(t);
    await createVolume(box.path('old.vol'), { sizeBytes: 512, kms: box.kms });
    const old = box.contents('old.vol');
    const image = box.image('disk.raw', 6 * 1024 * 1024);
    const steps = [
      ...[1, 2, 3, 4].map((when) => `pwrite64:signal=KILL:when=${when}`),
      ...[1, 2, 3].map((when) => `fsync:signal=KILL:when=${when}`),
      'link,linkat:signal=KILL:when=1',
      'unlink,unlinkat:signal=KILL:when=1',
      'rename,renameat,renameat2:signal=KILL:when=1',
    ];
    let killed = 0;
    for (const step of steps) {
      for (const force of [false, true]) {
        const name = `${step.replaceAll(/[^a-z0-9]/g, '-')}-${force}.vol`;
        if (force) writeFileSync(box.path(name), old);
        const run = runInjected(step, ENCRYPT, [box.path('disk.raw'), box.path(name), box.kms, ...(force ? [REPLACE] : [])]);
        if (run.signal === 'SIGKILL') killed += 1;
        else assert.equal(run.stdout, 'encrypted', step);
        if (!existsSync(box.path(name))) {
          assert.ok(!force, `${step}: the old volume is gone`);
        } else if (!force || !box.contents(name).equals(old)) {
          await decryptImage(box.path(name), box.path('back.raw'), { kms: box.kms, force: true });
          assert.ok(box.contents('back.raw').equals(image), step);
        }
      }
    }
    // unlink is there without force only, rename with it only, and a thread of the pool may have too few writes for the last counts.
    assert.ok(killed >= 10, `only ${killed} runs were killed`);
  });
});

/** The kernel drops what it likes to drop; it takes more than one request at times. */
function dropFromCache(path: string): void {
  for (let tries = 0; tries < 100; tries++) {
    spawnSync('sync', [path]);
    spawnSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0']);
    if (spawnSync('fincore', ['--noheadings', '--output', 'PAGES', path], { encoding: 'utf8' }).stdout.trim() === '0') return;
  }
  assert.fail(`${path} stays in the page cache`);
}
