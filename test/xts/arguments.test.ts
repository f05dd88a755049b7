import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
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
  before(() => {
    key = importKey(randomBytes(64));
    native.xtsPrepare(key);
  });
  after(() => {
    native.keyWipe(key);
  });

  const sector = (): Buffer => Buffer.alloc(512);
  const refused: Record<string, () => void> = {
    'sector size 0': () => native.xtsTransform(key, true, sector(), sector(), 0, 0),
    'sector size 256': () => native.xtsTransform(key, true, sector(), sector(), 256, 0),
    'sector size 513': () => native.xtsTransform(key, true, Buffer.alloc(513), Buffer.alloc(513), 513, 0),
    'sector size 8192': () => native.xtsTransform(key, true, Buffer.alloc(8192), Buffer.alloc(8192), 8192, 0),
    'sector size 2^32 + 512': () => native.xtsTransform(key, true, sector(), sector(), 2 ** 32 + 512, 0),
    'sector size NaN': () => native.xtsTransform(key, true, sector(), sector(), Number.NaN, 0),
    'sector size as text': () => native.xtsTransform(key, true, sector(), sector(), wrong('512'), 0),
    'part of a sector': () => native.xtsTransform(key, true, Buffer.alloc(511), Buffer.alloc(511), 512, 0),
    'half a sector of 4096': () => native.xtsTransform(key, true, Buffer.alloc(2048), Buffer.alloc(2048), 4096, 0),
    'a shorter target': () => native.xtsTransform(key, true, Buffer.alloc(1024), sector(), 512, 0),
    'a longer target': () => native.xtsTransform(key, true, sector(), Buffer.alloc(1024), 512, 0),
    'overlap by all but one byte': () => {
      const area = Buffer.alloc(513);
      native.xtsTransform(key, true, area.subarray(0, 512), area.subarray(1), 512, 0);
    },
    'overlap by one byte, target first': () => {
      const area = Buffer.alloc(1023);
      native.xtsTransform(key, true, area.subarray(511), area.subarray(0, 512), 512, 0);
    },
    'unit -1': () => native.xtsTransform(key, true, sector(), sector(), 512, -1),
    'unit 0.5': () => native.xtsTransform(key, true, sector(), sector(), 512, 0.5),
    'unit NaN': () => native.xtsTransform(key, true, sector(), sector(), 512, Number.NaN),
    'unit Infinity': () => native.xtsTransform(key, true, sector(), sector(), 512, Number.POSITIVE_INFINITY),
    'unit beyond 2^53': () => native.xtsTransform(key, true, sector(), sector(), 512, 2 ** 53 + 2),
    'unit as text': () => native.xtsTransform(key, true, sector(), sector(), 512, wrong('0')),
    'unit as a BigInt': () => native.xtsTransform(key, true, sector(), sector(), 512, wrong(0n)),
    'a direction that is no boolean': () => native.xtsTransform(key, wrong(1), sector(), sector(), 512, 0),
    'a source that is text': () => native.xtsTransform(key, true, wrong('x'.repeat(512)), sector(), 512, 0),
    'a source that is null': () => native.xtsTransform(key, true, wrong(null), sector(), 512, 0),
    'a source of 16-bit elements': () => native.xtsTransform(key, true, wrong(new Uint16Array(256)), sector(), 512, 0),
    'an array buffer': () => native.xtsTransform(key, true, wrong(new ArrayBuffer(512)), sector(), 512, 0),
    'a detached source': () => native.xtsTransform(key, true, detached(), sector(), 512, 0),
    'a detached target': () => native.xtsTransform(key, true, sector(), detached(), 512, 0),
    'an unknown kernel': () => native.xtsTransform(key, true, sector(), sector(), 512, 0, 'avx1024'),
    'a kernel that is no text': () => native.xtsTransform(key, true, sector(), sector(), 512, 0, wrong(7)),
    'a handle that is text': () => native.xtsTransform(wrong('1'), true, sector(), sector(), 512, 0),
    'a handle that is NaN': () => native.xtsTransform(wrong(Number.NaN), true, sector(), sector(), 512, 0),
    'a handle that is negative': () => native.xtsTransform(wrong(-1), true, sector(), sector(), 512, 0),
    'no arguments': () => (native.xtsTransform as () => void)(),
    'a key that was not prepared': () => withKey(randomBytes(64), (raw) => native.xtsTransform(raw, true, sector(), sector(), 512, 0)),
  };
  for (const [what, call] of Object.entries(refused)) {
    test(what, () => {
      assert.throws(call, ARGUMENT);
    });
  }

  test('and takes neighbours that only touch', () => {
    const area = Buffer.alloc(1024);
    native.xtsTransform(key, true, area.subarray(0, 512), area.subarray(512), 512, 0);
    assert.ok(area.subarray(0, 512).equals(Buffer.alloc(512)));
    assert.ok(!area.subarray(512).equals(Buffer.alloc(512)));
  });

  test('a wiped key, with ERR_KEY_GONE', () => {
    const gone = importKey(randomBytes(64));
    native.xtsPrepare(gone);
    native.keyWipe(gone);
    const target = sector();
    assert.throws(() => native.xtsTransform(gone, true, sector(), target, 512, 0), { code: 'ERR_KEY_GONE' });
    assert.throws(() => native.xtsPrepare(gone), { code: 'ERR_KEY_GONE' });
    assert.ok(target.equals(sector()));
  });

  test('a handle it never gave', () => {
    assert.throws(() => native.xtsTransform(wrong(key + 2 ** 40), true, sector(), sector(), 512, 0), { code: 'ERR_KEY_GONE' });
  });
});

describe('handles of other kinds', () => {
  test('a device is no key, and a key is no device', () => {
    const folder = mkdtempSync(join(tmpdir(), 'volseal-kinds-'));
    const fd = openSync(join(folder, 'disk'), 'w+');
    try {
      ftruncateSync(fd, 4096);
      withVolumeKey(randomBytes(64), (key) => {
        const device = native.deviceOpen({ fd, key, dataOffsetBytes: 0, sizeBytes: 4096, sectorBytes: 512, writable: true, sparse: false });
        const refusal = (error: Error & { code?: string }): boolean =>
          ['ERR_ARGUMENT', 'ERR_KEY_GONE', 'ERR_STATE_DETACHED'].includes(error.code ?? '');
        assert.throws(() => native.xtsTransform(wrong(device), true, Buffer.alloc(512), Buffer.alloc(512), 512, 0), refusal);
        assert.throws(() => native.deviceRead(wrong(key), 0, Buffer.alloc(512)), refusal);
        assert.throws(() => native.transformRun(wrong(key), 1, 50), refusal);
        assert.equal(native.deviceClose(device), true);
      });
    } finally {
      closeSync(fd);
      rmSync(folder, { recursive: true });
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
      native.xtsTransform(key, true, Buffer.alloc(512), before, 512, 0);
      native.xtsPrepare(key);
      native.xtsTransform(key, true, Buffer.alloc(512), after, 512, 0);
      assert.ok(before.equals(after));
    });
  });
});
