/** A real Linux kernel mounts an ext4 volume that we encrypted, and we read what it wrote. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { attach, decryptImage, encryptImage } from '../../src/index.js';
import { describeUnless } from '../requirements.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { runGuest, skipGuest } from './guest.js';
import { runTool } from './tools.js';

const sha256 = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');

describeUnless(skipGuest())('dm-crypt in a real kernel', () => {
  for (const { sectorBytes, name } of [{ sectorBytes: 512 }, { sectorBytes: 4096 }, { sectorBytes: 4096, name: 'disk.header' }]) {
    const where = name === undefined ? '' : ', detached header';
    test(`mounts our volume, writes a file, and we read it, ${sectorBytes}-byte sectors${where}`, async () => {
      const box = sandbox();
      mkdirSync(box.path('tree'));
      const before = randomBytes(3_000_000);
      writeFileSync(box.path('tree/before'), before);
      runTool('mkfs.ext4', ['-q', '-b', '4096', '-d', box.path('tree'), box.path('disk.raw'), '32M']);
      const volume = box.path('disk.vol');
      const header = name === undefined ? undefined : box.path(name);
      await encryptImage(box.path('disk.raw'), volume, { kms: box.kms, sectorBytes, header });
      writeFileSync(box.path('vk'), await dataKeyOf(volume, box.kms, header));

      const said = await runGuest({
        disks: [volume],
        files: { '/vk': box.path('vk'), ...(header === undefined ? {} : { '/header': header }) },
        script: `set -e
cryptsetup open --type luks2 --volume-key-file /vk --key-size 512${header === undefined ? '' : ' --header /header'} /dev/vda volume
test "$(blockdev --getsize64 /dev/mapper/volume)" = ${32 * 1024 * 1024}
mount -t ext4 /dev/mapper/volume /mnt
sha256sum /mnt/before
yes 'written by dm-crypt' | head -c 2000000 >/mnt/after
umount /mnt
cryptsetup close volume
`,
      });
      assert.match(said, new RegExp(`^${sha256(before)} `, 'm'));

      await decryptImage(volume, box.path('back.raw'), { kms: box.kms, header });
      runTool('e2fsck', ['-fn', box.path('back.raw')]);
      runTool('debugfs', ['-R', `dump after "${box.path('after')}"`, box.path('back.raw')]);
      const expected = Buffer.from('written by dm-crypt\n'.repeat(100_000)).subarray(0, 2_000_000);
      assert.equal(sha256(box.contents('after')), sha256(expected));
      await using attached = await attach(volume, { kms: box.kms, header });
      assert.ok(box.contents('back.raw').equals(await attached.read(0, attached.sizeBytes)));
    });
  }
});
