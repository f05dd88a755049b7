import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { type KeyHandle, native } from '../../src/native.js';
import { importKey, withKey, withVolumeKey, wrong } from '../vault/test-keys.js';

const ARGUMENT = { name: 'VolsealError', code: 'ERR_ARGUMENT' };

function detached(): Uint8Array {
  const bytes = new Uint8Array(512);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

describe('xtsTransform refuses', () => {
  let key: KeyHandle;
  beforeAll(() => {
    key = importKey(randomBytes(64));
    native.xtsPrepare(key);
  });
  afterAll(() => {
    native.keyWipe(key);
  });

  const sector = (): Buffer => Buffer.alloc(512);
  const refused: Record<string, () => void> = {
    'sector size 0': () => native.xtsTransform(key, true, 0, 0, sector(), sector()),
    'sector size 256': () => native.xtsTransform(key, true, 256, 0, sector(), sector()),
    'sector size 513': () => native.xtsTransform(key, true, 513, 0, Buffer.alloc(513), Buffer.alloc(513)),
    'sector size 8192': () => native.xtsTransform(key, true, 8192, 0, Buffer.alloc(8192), Buffer.alloc(8192)),
    'sector size 2^32 + 512': () => native.xtsTransform(key, true, 2 ** 32 + 512, 0, sector(), sector()),
    'sector size NaN': () => native.xtsTransform(key, true, Number.NaN, 0, sector(), sector()),
    'sector size as text': () => native.xtsTransform(key, true, wrong('512'), 0, sector(), sector()),
    'part of a sector': () => native.xtsTransform(key, true, 512, 0, Buffer.alloc(511), Buffer.alloc(511)),
    'half a sector of 4096': () => native.xtsTransform(key, true, 4096, 0, Buffer.alloc(2048), Buffer.alloc(2048)),
    'a shorter target': () => native.xtsTransform(key, true, 512, 0, Buffer.alloc(1024), sector()),
    'a longer target': () => native.xtsTransform(key, true, 512, 0, sector(), Buffer.alloc(1024)),
    'overlap by all but one byte': () => {
      const area = Buffer.alloc(513);
      native.xtsTransform(key, true, 512, 0, area.subarray(0, 512), area.subarray(1));
    },
    'overlap by one byte, target first': () => {
      const area = Buffer.alloc(1023);
      native.xtsTransform(key, true, 512, 0, area.subarray(511), area.subarray(0, 512));
    },
    'unit -1': () => native.xtsTransform(key, true, 512, -1, sector(), sector()),
    'unit 0.5': () => native.xtsTransform(key, true, 512, 0.5, sector(), sector()),
    'unit NaN': () => native.xtsTransform(key, true, 512, Number.NaN, sector(), sector()),
    'unit Infinity': () => native.xtsTransform(key, true, 512, Number.POSITIVE_INFINITY, sector(), sector()),
    'unit beyond 2^53': () => native.xtsTransform(key, true, 512, 2 ** 53 + 2, sector(), sector()),
    'unit as text': () => native.xtsTransform(key, true, 512, wrong('0'), sector(), sector()),
    'unit as a BigInt': () => native.xtsTransform(key, true, 512, wrong(0n), sector(), sector()),
    'a direction that is no boolean': () => native.xtsTransform(key, wrong(1), 512, 0, sector(), sector()),
    'a source that is text': () => native.xtsTransform(key, true, 512, 0, wrong('x'.repeat(512)), sector()),
    'a source that is null': () => native.xtsTransform(key, true, 512, 0, wrong(null), sector()),
    'a source of 16-bit elements': () => native.xtsTransform(key, true, 512, 0, wrong(new Uint16Array(256)), sector()),
    'an array buffer': () => native.xtsTransform(key, true, 512, 0, wrong(new ArrayBuffer(512)), sector()),
    'a detached source': () => native.xtsTransform(key, true, 512, 0, detached(), sector()),
    'a detached target': () => native.xtsTransform(key, true, 512, 0, sector(), detached()),
    'an unknown kernel': () => native.xtsTransform(key, true, 512, 0, sector(), sector(), 'avx1024'),
    'a kernel that is no text': () => native.xtsTransform(key, true, 512, 0, sector(), sector(), wrong(7)),
    'a handle that is text': () => native.xtsTransform(wrong('1'), true, 512, 0, sector(), sector()),
    'a handle that is NaN': () => native.xtsTransform(wrong(Number.NaN), true, 512, 0, sector(), sector()),
    'a handle that is negative': () => native.xtsTransform(wrong(-1), true, 512, 0, sector(), sector()),
    'no arguments': () => (native.xtsTransform as () => void)(),
    'a key that was not prepared': () => withKey(randomBytes(64), (raw) => native.xtsTransform(raw, true, 512, 0, sector(), sector())),
  };
  for (const [what, call] of Object.entries(refused)) {
    test(what, () => {
      assert.throws(call, ARGUMENT);
    });
  }

  test('and works in place where no target is given', () => {
    const plaintext = randomBytes(3 * 512);
    const apart = Buffer.alloc(plaintext.length);
    native.xtsTransform(key, true, 512, 5, plaintext, apart);
    const inPlace = Buffer.from(plaintext);
    native.xtsTransform(key, true, 512, 5, inPlace);
    assert.ok(inPlace.equals(apart));
    native.xtsTransform(key, false, 512, 5, inPlace, undefined);
    assert.ok(inPlace.equals(plaintext));
  });

  test('and takes neighbours that only touch', () => {
    const area = Buffer.alloc(1024);
    native.xtsTransform(key, true, 512, 0, area.subarray(0, 512), area.subarray(512));
    assert.ok(area.subarray(0, 512).equals(Buffer.alloc(512)));
    assert.ok(!area.subarray(512).equals(Buffer.alloc(512)));
  });

  test('a wiped key, with ERR_KEY_GONE', () => {
    const gone = importKey(randomBytes(64));
    native.xtsPrepare(gone);
    native.keyWipe(gone);
    const target = sector();
    assert.throws(() => native.xtsTransform(gone, true, 512, 0, sector(), target), { code: 'ERR_KEY_GONE' });
    assert.throws(() => native.xtsPrepare(gone), { code: 'ERR_KEY_GONE' });
    assert.ok(target.equals(sector()));
  });

  test('a handle it never gave', () => {
    assert.throws(() => native.xtsTransform(wrong(key + 2 ** 40), true, 512, 0, sector(), sector()), { code: 'ERR_KEY_GONE' });
  });
});

describe('handles of other kinds', () => {
  test('a device is no key, and a key is no device', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'volseal-kinds-'));
    const fd = openSync(join(directory, 'disk'), 'w+');
    try {
      ftruncateSync(fd, 4096);
      await withVolumeKey(randomBytes(64), async (key) => {
        const device = native.deviceOpen({
          regions: [{ fd, key, offsetBytes: 0, sizeBytes: 4096 }],
          sectorBytes: 512,
          writable: true,
          sparse: false,
        });
        const refusal = (error: Error & { code?: string }): boolean =>
          ['ERR_ARGUMENT', 'ERR_KEY_GONE', 'ERR_STATE_DETACHED'].includes(error.code ?? '');
        assert.throws(() => native.xtsTransform(wrong(device), true, 512, 0, Buffer.alloc(512), Buffer.alloc(512)), refusal);
        await assert.rejects(native.deviceRead(wrong(key), 0, 512), refusal);
        assert.throws(() => native.transformRun(wrong(key), 1, 50), refusal);
        assert.equal(native.deviceClose(device), true);
      });
    } finally {
      closeSync(fd);
      rmSync(directory, { recursive: true });
    }
  });
});

describe('xtsPrepare', () => {
  for (const length of [1, 16, 31, 33, 48, 63, 65, 128, 4096]) {
    test(`refuses a key of ${length} bytes`, () => {
      withKey(randomBytes(length), (key) => assert.throws(() => native.xtsPrepare(key), ARGUMENT));
    });
  }

  test('done again changes nothing', () => {
    withVolumeKey(randomBytes(64), (key) => {
      const [before, after] = [Buffer.alloc(512), Buffer.alloc(512)];
      native.xtsTransform(key, true, 512, 0, Buffer.alloc(512), before);
      native.xtsPrepare(key);
      native.xtsTransform(key, true, 512, 0, Buffer.alloc(512), after);
      assert.ok(before.equals(after));
    });
  });
});
