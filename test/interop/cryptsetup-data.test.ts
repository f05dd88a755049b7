/**
 * Stock cryptsetup decrypts what we encrypted, and our reader reads what cryptsetup encrypted: byte for byte, without a
 * kernel.
 */
import assert from 'node:assert/strict';
import { truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { test } from 'vitest';
import { encryptImage } from '../../src/index.js';
import { assertSupported } from '../../src/luks2/metadata.js';
import { readHeader } from '../../src/luks2/store.js';
import { native } from '../../src/native.js';
import { describeUnless } from '../requirements.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { runTool, skipWithout } from './tools.js';

const MIB = 1024 * 1024;
const QUICK_PBKDF = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];

describeUnless(skipWithout('cryptsetup'))('cryptsetup', () => {
  for (const sectorBytes of [512, 4096]) {
    test(`decrypts our volume offline to the original image, ${sectorBytes}-byte sectors`, async () => {
      const box = sandbox();
      const image = box.image('disk.raw', 24 * MIB + 4096 * 3);
      const volume = box.path('disk.vol');
      await encryptImage(box.path('disk.raw'), volume, { kms: box.kms, sectorBytes });
      writeFileSync(box.path('vk'), await dataKeyOf(volume, box.kms));
      writeFileSync(box.path('pass'), 'a passphrase of ours');
      const batch = ['--batch-mode'];
      runTool('cryptsetup', [
        'luksAddKey',
        ...batch,
        '--volume-key-file',
        box.path('vk'),
        '--key-size',
        '512',
        ...QUICK_PBKDF,
        volume,
        box.path('pass'),
      ]);
      const header = ['--header', box.path('exported.header'), '--key-file', box.path('pass')];
      runTool('cryptsetup', ['reencrypt', ...batch, '--decrypt', '--force-offline-reencrypt', ...header, volume]);
      // It leaves the room of the header at the end of the file.
      assert.ok(box.contents('disk.vol').subarray(0, image.length).equals(image));
    });

    test(`a volume that it encrypted opens in our reader, ${sectorBytes}-byte sectors`, async () => {
      const box = sandbox();
      const image = box.image('disk.raw', 24 * MIB);
      const volume = box.path('disk.raw');
      truncateSync(volume, 24 * MIB + 32 * MIB);
      writeFileSync(box.path('pass'), 'a passphrase of ours');
      const reencrypt = [
        'reencrypt',
        '--batch-mode',
        '--encrypt',
        '--type',
        'luks2',
        '--reduce-device-size',
        '32M',
        '--force-offline-reencrypt',
      ];
      const format = ['--cipher', 'aes-xts-plain64', '--key-size', '512', '--sector-size', String(sectorBytes), ...QUICK_PBKDF];
      runTool('cryptsetup', [...reencrypt, ...format, '--key-file', box.path('pass'), volume]);
      const dump = ['luksDump', '--batch-mode', '--dump-volume-key', '--volume-key-file', box.path('vk'), '--key-file', box.path('pass')];
      runTool('cryptsetup', [...dump, volume]);

      await using file = await open(volume, 'r');
      const { header } = await readHeader(file, volume);
      const { segment, digest } = assertSupported(header.metadata, volume);
      assert.equal(segment.sectorBytes, sectorBytes);
      await using keyFile = await open(box.path('vk'), 'r');
      const key = native.keyReadFile(keyFile.fd, 64);
      assert.ok(native.keyPbkdf2(key, digest.salt, digest.iterations, 'sha256', 32).equals(digest.digest));
      native.xtsPrepare(key);
      const sizeBytes = native.fileSize(file.fd) - segment.offsetBytes;
      const device = native.deviceOpen({
        regions: [{ fd: file.fd, key, offsetBytes: segment.offsetBytes, sizeBytes }],
        sectorBytes,
        writable: false,
        sparse: false,
      });
      assert.ok(image.equals(await native.deviceRead(device, 0, image.length)));
      native.deviceClose(device);
      native.keyWipe(key);
    });
  }
});
