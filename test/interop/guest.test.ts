import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, test } from 'vitest';
import { describeUnless } from '../requirements.js';
import { runGuest, skipGuest } from './guest.js';

describeUnless(skipGuest())('the Linux guest', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'volseal guest, test '));
  });
  afterAll(() => rm(directory, { recursive: true }));

  test('runs a script on a disk of ours, with dm-crypt, and what it writes we read', async () => {
    const disk = join(directory, 'disk.img');
    const note = join(directory, 'note');
    await writeFile(disk, Buffer.alloc(8 * 1024 * 1024));
    await writeFile(note, 'a file of the host\n');
    const output = await runGuest({
      disks: [disk],
      files: { '/tmp/deep/note': note },
      script: `set -e
        cat /tmp/deep/note
        head -c 64 /dev/urandom >/tmp/key
        cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file /tmp/key /dev/vda plain
        cryptsetup close plain
        printf 'written in the guest' | dd of=/dev/vda bs=512 seek=3 conv=notrunc,fsync 2>/dev/null
        uname -s`,
    });
    assert.equal(output, 'a file of the host\nLinux\n');
    const file = await open(disk);
    const { buffer } = await file.read(Buffer.alloc(20), 0, 20, 3 * 512);
    await file.close();
    assert.equal(buffer.toString(), 'written in the guest');
    assert.equal((await readFile(disk)).length, 8 * 1024 * 1024);
  });

  test('a script that fails is an error that carries its output', async () => {
    await assert.rejects(runGuest({ script: 'echo before the failure; exit 7' }), /ended with 7\nbefore the failure/);
  });
});
