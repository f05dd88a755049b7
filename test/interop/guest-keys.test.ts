/**
 * A real Linux kernel opens our volumes as a user without volseal would: by the recovery key, typed or from a file, and
 * by the volume key.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { handOverVolumeKey } from '../../src/headers/volume-key.js';
import { addRecoveryKey, encryptImage } from '../../src/index.js';
import { describeUnless } from '../requirements.js';
import { sandbox } from '../volume/sandbox.js';
import { runGuest, skipGuest } from './guest.js';
import { runTool } from './tools.js';

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describeUnless(skipGuest())('dm-crypt in a real kernel, without KMS', () => {
  for (const sectorBytes of [512, 4096]) {
    test(`opens a volume by its recovery key and by its volume key, ${sectorBytes}-byte sectors`, async () => {
      const box = sandbox();
      mkdirSync(box.path('tree'));
      const contents = randomBytes(1_000_000);
      writeFileSync(box.path('tree/file'), contents);
      runTool('mkfs.ext4', ['-q', '-b', '4096', '-d', box.path('tree'), box.path('disk.raw'), '16M']);
      const volume = box.path('disk.vol');
      await encryptImage(box.path('disk.raw'), volume, { kms: box.kms, sectorBytes });
      await addRecoveryKey(volume, box.path('recovery.key'), { kms: box.kms });
      const fd = openSync(box.path('volume.key'), 'w', 0o600);
      await handOverVolumeKey(volume, { fd, name: 'volume.key' }, { kms: box.kms });
      closeSync(fd);
      const said = await runGuest({
        disks: [volume],
        files: { '/recovery.key': box.path('recovery.key'), '/volume.key': box.path('volume.key') },
        // The guest has no /dev/stdin.
        script: `set -e
look() { mount -o ro -t ext4 /dev/mapper/volume /mnt; sha256sum /mnt/file; umount /mnt; cryptsetup close volume; }
# As crypttab does it: a key file.
cryptsetup open --type luks2 --key-file /recovery.key /dev/vda volume; look
# As an initramfs does it: typed at a prompt.
{ cat /recovery.key; echo; } | cryptsetup open --type luks2 /dev/vda volume; look
# As an administrator does it who asks KMS: the key through a pipe.
cat /volume.key | cryptsetup open --type luks2 --volume-key-file /proc/self/fd/0 --key-size 512 /dev/vda volume; look
`,
      });
      assert.equal(said.match(new RegExp(`^${sha256(contents)} `, 'gm'))?.length, 3, said);
    });
  }
});
