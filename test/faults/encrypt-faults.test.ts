import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createVolume, decryptImage } from '../../src/index.js';
import { sandbox } from '../volume/sandbox.js';
import { runInjected, skipInjection } from './injected.js';

const ENCRYPT = fileURLToPath(new URL('../volume/encrypt-once.js', import.meta.url));
const REPLACE = 'force';

describe('faults while encrypting', { skip: skipInjection() }, () => {
  for (const [injection, said] of [
    ['pwrite64:error=EIO:when=1', 'ERR_IO EIO'],
    ['pwrite64:error=ENOSPC:when=5', 'ERR_IO ENOSPC'],
    ['fallocate:error=ENOSPC:when=1', 'ERR_IO ENOSPC'],
    ['link,linkat:error=EIO:when=1', 'ERR_IO EIO'],
  ] as const) {
    test(`${injection}: a typed error, no target, no part of it`, async (t) => {
      const box = sandbox(t);
      await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
      box.image('disk.raw', 12 * 1024 * 1024);
      const run = runInjected(injection, ENCRYPT, [box.path('disk.raw'), box.path('disk.vol'), box.kms]);
      assert.equal(run.stdout, said);
      assert.deepEqual(readdirSync(box.folder).sort(), ['disk.raw', 'first.vol', 'home']);
    });
  }

  test('an image that cannot be read to its end: a typed error, no target, no part of it', async (t) => {
    const box = sandbox(t);
    await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
    box.image('disk.raw', 12 * 1024 * 1024);
    const run = runInjected(
      'pread64:error=EIO:when=3',
      ENCRYPT,
      [box.path('disk.raw'), box.path('disk.vol'), box.kms],
      box.path('disk.raw'),
    );
    assert.equal(run.stdout, 'ERR_IO EIO');
    assert.deepEqual(readdirSync(box.folder).sort(), ['disk.raw', 'first.vol', 'home']);
  });

  test('a file system that refuses O_DIRECT requests one by one gets buffered ones', async (t) => {
    const box = sandbox(t);
    await createVolume(box.path('first.vol'), { sizeBytes: 512, kms: box.kms });
    const image = box.image('disk.raw', 12 * 1024 * 1024);
    for (const [name, injection, path] of [
      ['write.vol', 'pwrite64:error=EINVAL:when=2', undefined],
      ['read.vol', 'pread64:error=EINVAL:when=2', box.path('disk.raw')],
    ] as const) {
      assert.equal(runInjected(injection, ENCRYPT, [box.path('disk.raw'), box.path(name), box.kms], path).stdout, 'encrypted');
      await decryptImage(box.path(name), box.path('back.raw'), { kms: box.kms, force: true });
      assert.ok(box.contents('back.raw').equals(image));
    }
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
