/**
 * A pool that fails to start: whatever opens a volume must close it again. Piscina is replaced, so this is a file of
 * its own.
 */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test, vi } from 'vitest';
import { attach, createVolume, decryptImage, densifyVolume, encryptImage, rewrapVolume, verifyVolume } from '../../src/index.js';
import { native } from '../../src/native.js';
import { sandbox } from './sandbox.js';

const threads = vi.hoisted(() => ({ fail: false }));

vi.mock('piscina', async (importOriginal) => {
  const real = await importOriginal<typeof import('piscina')>();
  class Piscina extends real.Piscina {
    constructor(options: ConstructorParameters<typeof real.Piscina>[0]) {
      if (threads.fail) throw new Error('no thread can be started');
      super(options);
    }
  }
  return { ...real, Piscina };
});

/** How many descriptors of this process lead to files of the directory. */
const openFiles = (directory: string): string[] =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith(directory) ? [path] : [];
    } catch {
      return [];
    }
  });

describe('a pool that fails to start leaves no file open, and no lock', () => {
  const jobs: [name: string, job: (path: (name: string) => string, kms: string) => Promise<unknown>][] = [
    ['attach', (path, kms) => attach(path('a.vol'), { kms })],
    ['decrypt', (path, kms) => decryptImage(path('a.vol'), path('a.raw'), { kms })],
    ['verify', (path, kms) => verifyVolume(path('a.vol'), { kms })],
    ['densify', (path, kms) => densifyVolume(path('a.vol'), { kms })],
    ['rewrap', (path, kms) => rewrapVolume(path('a.vol'), { key: 'alias/aws/ebs', kms })],
    ['encrypt', (path, kms) => encryptImage(path('image'), path('b.vol'), { kms, header: path('b.hdr') })],
  ];
  for (const [name, job] of jobs) {
    test(name, async () => {
      const box = sandbox();
      box.image('image', 4096);
      await createVolume(box.path('a.vol'), { sizeBytes: 1024 * 1024, kms: box.kms });
      const before = readdirSync(box.directory);
      threads.fail = true;
      // The pool that made the volume lingers; in another environment a new one is started.
      process.env.VOLSEAL_TEST_POOL = name;
      await assert.rejects(job(box.path, box.kms), { message: 'no thread can be started' }).finally(() => {
        threads.fail = false;
      });
      assert.deepEqual(
        openFiles(box.directory).filter((path) => !path.startsWith(box.path('home'))),
        [],
      );
      assert.deepEqual(readdirSync(box.directory), before, 'no temporary file stays');
      await using file = await open(box.path('a.vol'), 'r');
      native.fileLock(file.fd, true);
    });
  }
});
