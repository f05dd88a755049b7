/** A file of its own: handles are compared from the first one a process gives. */
import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'vitest';
import { type DeviceHandle, type KeyHandle, native, type TransformHandle } from '../../src/native.js';

test('no number is a handle of two kinds', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-kinds-'));
  const fd = openSync(join(directory, 'disk'), 'w+');
  const keys: KeyHandle[] = [];
  const devices: DeviceHandle[] = [];
  const transforms: TransformHandle[] = [];
  try {
    ftruncateSync(fd, 8192);
    for (let i = 0; i < 40; i++) {
      const key = native.keyGenerate(64);
      native.xtsPrepare(key);
      keys.push(key);
      devices.push(
        native.deviceOpen({ regions: [{ fd, key, offsetBytes: 0, sizeBytes: 4096 }], sectorBytes: 512, writable: true, sparse: false }),
      );
      transforms.push(
        native.transformOpen({
          key,
          mode: 'encrypt',
          sectorBytes: 512,
          source: { kind: 'zeros', sizeBytes: 4096 },
          target: { kind: 'file', fd, offsetBytes: 4096, sizeBytes: 4096, sparse: false },
          startByte: 0,
          digest: false,
        }),
      );
    }
    const all = new Set<number>([...keys, ...devices, ...transforms]);
    assert.equal(all.size, keys.length + devices.length + transforms.length);
  } finally {
    for (const transform of transforms) native.transformClose(transform);
    for (const device of devices) native.deviceClose(device);
    for (const key of keys) native.keyWipe(key);
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
});
