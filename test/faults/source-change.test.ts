/** A source that somebody changes while it is read: the target stays as it was, and the message says why. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  linkSync,
  openSync,
  readdirSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { describe, test } from 'vitest';
import { decryptImage, encryptImage } from '../../src/index.js';
import { sandbox } from '../volume/sandbox.js';

const IMAGE_BYTES = 64 * 1024 * 1024;

function overwrite(path: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.alloc(512, 1), 0, 512, 2 * 1024 * 1024);
  closeSync(fd);
}

describe('a source whose contents stay', () => {
  for (const [what, change] of [
    ['gets another link', (path: string) => linkSync(path, `${path}.link`)],
    ['gets another mode', (path: string) => chmodSync(path, 0o640)],
    ['is read, and its access time set', (path: string) => utimesSync(path, new Date(), statSync(path).mtime)],
    ['is renamed', (path: string) => renameSync(path, `${path}.moved`)],
    ['is unlinked', unlinkSync],
  ] as const) {
    test(`${what} while it is encrypted: nothing is wrong`, async () => {
      const box = sandbox();
      const image = box.image('a.raw', IMAGE_BYTES);
      // A time of whole milliseconds, which utimes can set again exactly.
      utimesSync(box.path('a.raw'), new Date(1e12), new Date(1e12));
      let changed = false;
      const onProgress = (): void => {
        if (!changed) change(box.path('a.raw'));
        changed = true;
      };
      await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, onProgress });
      assert.ok(changed);
      await decryptImage(box.path('a.vol'), box.path('b.raw'), { kms: box.kms });
      assert.ok(box.contents('b.raw').equals(image));
    });
  }
});

describe('a source that changes', () => {
  for (const [what, change, said] of [
    ['is written to', overwrite, /it was written to/],
    ['grows', (path: string) => appendFileSync(path, Buffer.alloc(512)), /it had \d+ bytes and has \d+/],
    ['shrinks', (path: string) => truncateSync(path, 1024), /it had \d+ bytes and has 1024/],
  ] as const) {
    test(`${what} while it is encrypted, or decrypted`, async () => {
      const box = sandbox();
      box.image('a.raw', IMAGE_BYTES);
      await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
      const old = box.contents('a.vol');
      const once = (path: string): (() => void) => {
        let done = false;
        return () => {
          if (!done) change(path);
          done = true;
        };
      };
      const failure = (path: string) => (error: { code: string; message: string; details: { path: string } }) => {
        assert.equal(error.code, 'ERR_SOURCE_CHANGED', error.message);
        assert.ok(error.message.startsWith(`${path}: was changed while it was read`));
        assert.match(error.message, said);
        assert.equal(error.details.path, path);
        return true;
      };
      const options = { kms: box.kms, force: true };
      const image = box.path('a.raw');
      await assert.rejects(encryptImage(image, box.path('a.vol'), { ...options, onProgress: once(image) }), failure(image));
      assert.ok(box.contents('a.vol').equals(old));
      const volume = box.path('a.vol');
      await assert.rejects(decryptImage(volume, box.path('b.raw'), { ...options, onProgress: once(volume) }), failure(volume));
      assert.deepEqual(readdirSync(box.directory).sort(), ['a.raw', 'a.vol', 'home']);
    });
  }
});
