/** An attached volume as the disk of a virtual machine: Debian's kernel, with qemu as the NBD client. */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { test } from 'vitest';
import { lab } from '../cli/program.js';
import { describeUnless } from '../requirements.js';
import { runGuest, skipGuest } from './guest.js';
import { runTool, skipWithout } from './tools.js';

describeUnless(skipGuest() || skipWithout('e2fsck', 'debugfs'))('an attached volume in a virtual machine', () => {
  test('ext4 on a sparse volume: mkfs, mount, write, fstrim, unmount, fsck; decrypt gives that file system', async () => {
    const { ok, path } = lab();
    ok(['create', 'disk.vol', '--size', '64M']);
    const uri = ok(['attach', 'disk.vol']).text.trim();
    const blocks = (): number => statSync(path('disk.vol')).blocks;
    const output = await runGuest({
      disks: [uri],
      script: `set -e
        mkfs.ext4 -q -E nodiscard /dev/vda
        mount /dev/vda /mnt
        head -c 20000000 /dev/urandom > /mnt/large
        printf 'kept' > /mnt/small
        sync
        rm /mnt/large
        sync
        fstrim -v /mnt
        umount /mnt
        e2fsck -fn /dev/vda > /dev/null
        echo done`,
    });
    assert.match(output, /done/);
    ok(['detach', 'disk.vol']);
    // The 20 MB of the file that was removed are holes again.
    assert.ok(blocks() * 512 < 20_000_000, `${blocks()} blocks`);
    ok(['decrypt', 'disk.vol', 'disk.raw']);
    runTool('e2fsck', ['-fn', path('disk.raw')]);
    assert.equal(runTool('debugfs', ['-R', 'cat small', path('disk.raw')]), 'kept');
  });
});
