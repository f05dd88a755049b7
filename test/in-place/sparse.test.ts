/** Sparse volumes in which zeros were written: they are ciphertext, and not holes. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { attach, createVolume, decryptInPlace, reencryptInPlace } from '../../src/index.js';
import { sandbox } from '../volume/sandbox.js';
import { MIB, PART } from './stopping.js';

const BYTES = 4 * MIB;
const WRITTEN = 16384;

for (const header of [undefined, 'disk.header'])
  for (const kind of ['reencrypt', 'decrypt'] as const)
    test(`zeros that were written stay zeros: ${kind}, header ${header ?? 'in front'}`, async () => {
      const box = sandbox();
      const volume = box.path('disk.vol');
      const options = { kms: box.kms, header: header && box.path(header) };
      await createVolume(volume, { ...options, sizeBytes: BYTES });
      {
        await using attached = await attach(volume, options);
        await attached.write(MIB, Buffer.alloc(WRITTEN));
        await attached.write(2 * MIB, Buffer.alloc(WRITTEN, 5));
      }
      await { reencrypt: reencryptInPlace, decrypt: decryptInPlace }[kind](volume, { ...options, ...PART });
      const expected = Buffer.alloc(BYTES).fill(5, 2 * MIB, 2 * MIB + WRITTEN);
      if (kind === 'decrypt') {
        assert.ok(box.contents('disk.vol').equals(expected));
        return;
      }
      await using attached = await attach(volume, options);
      assert.ok(Buffer.from(await attached.read(0, BYTES)).equals(expected));
    });
