/** An attached volume under Debian's kernel in a virtual machine: qemu is the NBD client, or the kernel itself. */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { test } from 'vitest';
import { decryptImage } from '../../src/index.js';
import { lab } from '../cli/program.js';
import { serveNewVolume } from '../nbd/served.js';
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

  test("the kernel's own client: mkfs, mount, write, fstrim, unmount, fsck; decrypt gives that file system", async () => {
    const { box, volume, server } = await serveNewVolume({
      sizeBytes: 64 * 1024 * 1024,
      allocation: 'sparse',
      serve: { listen: { port: 0 } },
    });
    const { port } = new URL(server.uri);
    const errors: unknown[] = [];
    server.on('error', (error) => errors.push(error));
    const output = await runGuest({
      network: true,
      script: `set -e
        nbd-client 10.0.2.2 ${port} /dev/nbd0 -block-size 512
        blockdev --getsize64 /dev/nbd0
        cat /sys/block/nbd0/queue/write_cache
        mkfs.ext4 -q -E nodiscard /dev/nbd0
        mount /dev/nbd0 /mnt
        head -c 20000000 /dev/urandom > /mnt/large
        printf 'kept' > /mnt/small
        sync
        rm /mnt/large
        sync
        fstrim -v /mnt
        umount /mnt
        e2fsck -fn /dev/nbd0 > /dev/null
        nbd-client -d /dev/nbd0
        echo done`,
    });
    assert.match(output, new RegExp(`^${volume.sizeBytes}\nwrite back$`, 'm'));
    assert.match(output, /^done$/m);
    assert.deepEqual(errors, []);
    assert.ok(server.stats().bytesWritten > 20_000_000);
    await volume.detach();
    assert.ok(statSync(box.path('disk.vol')).blocks * 512 < 20_000_000);
    await decryptImage(box.path('disk.vol'), box.path('disk.raw'), { kms: box.kms });
    runTool('e2fsck', ['-fn', box.path('disk.raw')]);
    assert.equal(runTool('debugfs', ['-R', 'cat small', box.path('disk.raw')]), 'kept');
  });
});
