/** Arguments that change, throw or vanish while the addon looks at them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { native } from '../../src/native.js';
import { built } from '../built.js';
import { withVolumeKey, wrong } from './test-keys.js';

const argument = { code: 'ERR_ARGUMENT' };

describe('hostile arguments', () => {
  test('a getter of the chunks that takes an earlier chunk away', () => {
    const first = new Uint8Array(Buffer.from('{"Plaintext":"AAAA'));
    const chunks = [first, first];
    Object.defineProperty(chunks, 1, {
      get() {
        structuredClone(first, { transfer: [first.buffer] });
        return new Uint8Array(Buffer.from('"}'));
      },
    });
    assert.throws(() => native.keyImportJson(chunks, 'Plaintext'), argument);
  });

  test('a getter that throws, an array of very many chunks, no array', () => {
    const throwing = Object.defineProperty([new Uint8Array(1)], 0, {
      get() {
        throw new RangeError('from the getter');
      },
    });
    assert.throws(() => native.keyImportJson(throwing, 'Plaintext'), RangeError);
    assert.throws(() => native.keyImportJson(new Array(50_000_000), 'Plaintext'), argument);
    assert.throws(() => native.keyImportJson(wrong({ length: 1 }), 'Plaintext'), argument);
  });

  test('a setter on Error.prototype does not run while a key is in use', () => {
    withVolumeKey(randomBytes(64), (key) => {
      let ran = false;
      Object.defineProperty(Error.prototype, 'code', {
        configurable: true,
        set() {
          ran = true;
        },
      });
      try {
        assert.throws(() => native.keyRevealBase64(key, new Uint8Array(200), 0), argument);
      } finally {
        delete (Error.prototype as { code?: unknown }).code;
      }
      assert.equal(ran, false);
    });
  });

  for (const [name, flag] of [
    ['O_APPEND', constants.O_APPEND],
    ['O_DIRECT', constants.O_DIRECT],
  ] as const) {
    test(`a descriptor with ${name} is no device`, async () => {
      const directory = mkdtempSync(join(tmpdir(), 'volseal-'));
      try {
        writeFileSync(join(directory, 'file'), Buffer.alloc(8192));
        await using file = await open(join(directory, 'file'), constants.O_RDWR | flag);
        withVolumeKey(randomBytes(64), (key) => {
          const regions = [{ fd: file.fd, key, offsetBytes: 0, sizeBytes: 8192 }];
          const device = { regions, sectorBytes: 512, writable: true, sparse: false };
          assert.throws(() => native.deviceOpen(device), { code: 'ERR_ARGUMENT', message: /O_APPEND or O_DIRECT/ });
        });
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
  }

  test('a process that exits while its threads are in failing calls ends with its own status', () => {
    const { status, stderr } = spawnSync(process.execPath, [built('test/vault/exit-in-calls.ts')], {
      encoding: 'utf8',
    });
    assert.equal(status, 3, stderr);
  });
});
