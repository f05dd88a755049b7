/** An attached volume under Debian's kernel in a virtual machine: qemu is the NBD client, or the kernel itself. */
import assert from 'node:assert/strict';
import { copyFileSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { decryptImage } from '../../src/index.js';
import { MAIN } from '../built.js';
import { lab } from '../cli/program.js';
import { serveNewVolume } from '../nbd/served.js';
import { describeUnless } from '../requirements.js';
import { runGuest, skipGuest } from './guest.js';
import { runTool, skipWithout } from './tools.js';

/** The host's programs under the guest's kernel; the volume and its KMS are copied into memory. @returns its file */
function hostScript(path: (name: string) => string): string {
  const file = path('run-on-host');
  writeFileSync(
    file,
    `set -e
    export HOME=/mnt VOLSEAL_HOME=/mnt/home XDG_RUNTIME_DIR=/mnt/runtime PATH=/usr/sbin:/usr/bin:/sbin:/bin
    umask 077
    mkdir /mnt/runtime /mnt/fs
    cp -r '${path('home')}' /mnt/home
    cp '${path('disk.vol')}' /mnt/disk.vol
    volseal() { '${process.execPath}' '${MAIN}' "$@"; }
    volseal attach /mnt/disk.vol --device
    blockdev --getsize64 /dev/nbd0
    mkfs.ext4 -q /dev/nbd0
    mount /dev/nbd0 /mnt/fs
    printf kept > /mnt/fs/small
    sync
    if volseal detach /mnt/disk.vol; then exit 1; fi
    umount /mnt/fs
    volseal detach /mnt/disk.vol
    test ! -e /sys/block/nbd0/pid
    volseal attach /mnt/disk.vol --device /dev/nbd3 --read-only
    mount -o ro /dev/nbd3 /mnt/fs
    cat /mnt/fs/small
    umount /mnt/fs
    volseal detach /mnt/disk.vol
    `,
  );
  return file;
}

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

  test('attach --device under a kernel with nbd: a block device, with a file system on it, until detach', async () => {
    const { ok, path } = lab();
    ok(['create', 'disk.vol', '--size', '64M']);
    // What the guest has written comes back by a disk of its own.
    copyFileSync(path('disk.vol'), path('back.vol'));
    const output = await runGuest({
      hostRoot: true,
      disks: [path('back.vol')],
      files: { '/run-on-host': hostScript(path) },
      script: `cp /run-on-host /host/mnt/run
        chroot /host /bin/sh /mnt/run 2>&1 || exit 1
        dd if=/host/mnt/disk.vol of=/dev/vda bs=1M conv=fsync 2>/dev/null`,
    });
    assert.match(output, /^\/dev\/nbd0$/m);
    assert.match(output, /is in use; unmount it first/);
    assert.match(output, /^keptdetached/m);
    ok(['decrypt', 'back.vol', 'disk.raw']);
    assert.equal(runTool('debugfs', ['-R', 'cat small', path('disk.raw')]), 'kept');
  });
});
