/** The end of a job that can be resumed: what it leaves, and what it does not write. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'vitest';
import { encryptImage, VolsealError } from '../../src/index.js';
import { native, type TransformOptions } from '../../src/native.js';
import { transformImage } from '../../src/transfer/transform.js';
import { leasePool } from '../../src/workers/pool.js';
import { readyKey } from '../../src/workers/ready-key.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const IMAGE_BYTES = 4 * 1024 * 1024;

const hidden = (box: Sandbox): string[] => readdirSync(box.directory).filter((name) => name.startsWith('.'));

const options = (box: Sandbox) => ({ kms: box.kms, home: box.path('home'), resume: true });

/** How far the records of a whole transform have come, where no record is ever due. */
async function savedAtItsEnd(recordsEnd: boolean): Promise<number[]> {
  const box = sandbox();
  box.image('a.raw', IMAGE_BYTES);
  await using source = await open(box.path('a.raw'), 'r');
  await using target = await open(box.path('a.out'), 'w+');
  await using pool = leasePool();
  const key = readyKey(native.keyGenerate(64), () => {});
  const side = { kind: 'file', offsetBytes: 0, sizeBytes: IMAGE_BYTES, sparse: false } as const;
  const transform: TransformOptions = {
    ...{ key, mode: 'encrypt', sectorBytes: 512, startByte: 0, digest: false },
    ...{ source: { ...side, fd: source.fd }, target: { ...side, fd: target.fd } },
  };
  const saved: number[] = [];
  const checkpoint = {
    intervalMs: 2 ** 30,
    recordsEnd,
    save: async (safeBytes: number): Promise<void> => {
      saved.push(safeBytes);
    },
  };
  await transformImage(pool, transform, { source: 'a.raw', target: 'a.out' }, { checkpoint });
  native.keyWipe(key);
  return saved;
}

describe('a job that can be resumed', () => {
  test('makes no record of what is whole', async () => {
    assert.deepEqual(await savedAtItsEnd(false), []);
  });

  test('makes one where two files are published next', async () => {
    assert.deepEqual(await savedAtItsEnd(true), [IMAGE_BYTES]);
  });

  test('leaves its file to the one that has taken it over', async () => {
    const box = sandbox();
    box.image('a.raw', 1024 * 1024);
    const beforePublish = async (): Promise<void> => {
      throw new VolsealError('ERR_STATE_BUSY', 'another worker has it');
    };
    const failed = encryptImage(box.path('a.raw'), box.path('a.vol'), { ...options(box), beforePublish });
    await assert.rejects(failed, { code: 'ERR_STATE_BUSY' });
    assert.ok(hidden(box).includes('.a.vol.resume'), String(hidden(box)));
    await encryptImage(box.path('a.raw'), box.path('a.vol'), options(box));
    assert.deepEqual(hidden(box), []);
  });

  test('finds its files in a directory that others may write to as well', async () => {
    const box = sandbox();
    box.image('a.raw', 1024 * 1024);
    mkdirSync(box.path('shared'));
    chmodSync(box.path('shared'), 0o777);
    await encryptImage(box.path('a.raw'), box.path('shared/a.vol'), options(box));
    assert.deepEqual(readdirSync(box.path('shared')), ['a.vol']);
  });
});
