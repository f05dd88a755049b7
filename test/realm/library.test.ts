/**
 * The library in a `vm` context, as under Jest and under vitest's vmThreads (the project `realm`): Node's own modules
 * and the addon throw errors of the main context, which are no instances of this context's `Error`. Their codes arrive
 * all the same.
 */
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import {
  attach,
  createVolume,
  createWorkspace,
  decryptImage,
  densifyVolume,
  describeVolume,
  encryptImage,
  rewrapVolume,
  terminateWorkspace,
  useKernel,
  VolsealError,
  verifyVolume,
} from '../../src/index.js';
import type { KernelName } from '../../src/native.js';
import { sandbox } from '../volume/sandbox.js';

const failure = async (run: () => unknown): Promise<VolsealError> => {
  try {
    await run();
  } catch (error) {
    expect(error, String(error)).toBeInstanceOf(VolsealError);
    return error as VolsealError;
  }
  throw new Error('it did not fail');
};

test('this is another realm', () => {
  let thrown: unknown;
  try {
    statSync('/nonexistent');
  } catch (error) {
    thrown = error;
  }
  expect(thrown instanceof Error).toBe(false);
});

test('every job works', async () => {
  const box = sandbox();
  const { kms } = box;
  const image = box.image('disk.raw', 1024 * 1024);
  await encryptImage(box.path('disk.raw'), box.path('disk.vol'), { kms });
  await verifyVolume(box.path('disk.vol'), { kms });
  await rewrapVolume(box.path('disk.vol'), { kms, key: (await describeVolume(box.path('disk.vol'))).keyId });
  await decryptImage(box.path('disk.vol'), box.path('copy.raw'), { kms });
  expect(readFileSync(box.path('copy.raw')).equals(image)).toBe(true);

  await createVolume(box.path('new.vol'), { kms, sizeBytes: 1024 * 1024 });
  const volume = await attach(box.path('new.vol'), { kms });
  await volume.write(100, Buffer.from('some bytes'));
  await volume.flush();
  expect(Buffer.from(await volume.read(100, 10)).toString()).toBe('some bytes');
  expect((await failure(() => volume.read(2 ** 40, 1))).code).toBe('ERR_ARGUMENT');
  await volume.detach();
  expect((await failure(() => volume.read(0, 1))).code).toBe('ERR_STATE_DETACHED');
  await densifyVolume(box.path('new.vol'), { kms });
});

test('a WorkSpace comes and goes', async () => {
  const box = sandbox();
  const home = box.path('home');
  const wanted = { home, sid: 'S-1-5-21-1-2-3-1001', directoryId: 'd-1234567890', folder: box.path('volumes') };
  const { workspaceId } = await createWorkspace({ ...wanted, root: { sizeBytes: 1024 ** 2 }, user: { sizeBytes: 1024 ** 2 } });
  await terminateWorkspace(workspaceId, { home });
});

describe('a failure keeps its code and its facts', () => {
  test('of a system call', async () => {
    const box = sandbox();
    const missing = await failure(() => attach(box.path('missing.vol'), { kms: box.kms }));
    expect([missing.code, missing.details.errno, missing.details.path]).toEqual(['ERR_IO', 'ENOENT', box.path('missing.vol')]);
    box.image('disk.raw', 4096);
    const nowhere = await failure(() => encryptImage(box.path('disk.raw'), box.path('none/disk.vol'), { kms: box.kms }));
    expect([nowhere.code, nowhere.details.errno]).toEqual(['ERR_IO', 'ENOENT']);
    const full = await failure(() => encryptImage(box.path('disk.raw'), '/proc/disk.vol', { kms: box.kms }));
    expect(full.code).toBe('ERR_IO');
  });

  test('of the network: a KMS where nobody listens', async () => {
    const box = sandbox();
    box.image('disk.raw', 4096);
    const listener = createServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    listener.close();
    await once(listener, 'close');
    const refused = await failure(() => encryptImage(box.path('disk.raw'), box.path('disk.vol'), { kms: `http://127.0.0.1:${port}` }));
    expect(refused.code).toBe('ERR_KMS_UNREACHABLE');
  });

  test('of the addon', async () => {
    expect((await failure(() => useKernel('nonsense' as KernelName))).code).toBe('ERR_ARGUMENT');
  });

  test('of the volume', async () => {
    const box = sandbox();
    box.image('disk.raw', 4096);
    expect((await failure(() => attach(box.path('disk.raw'), { kms: box.kms }))).code).toBe('ERR_NOT_A_VOLUME');
    await encryptImage(box.path('disk.raw'), box.path('disk.vol'), { kms: box.kms });
    expect((await failure(() => encryptImage(box.path('disk.raw'), box.path('disk.vol'), { kms: box.kms }))).code).toBe(
      'ERR_TARGET_EXISTS',
    );
    const volume = await attach(box.path('disk.vol'), { kms: box.kms });
    expect((await failure(() => attach(box.path('disk.vol'), { kms: box.kms }))).code).toBe('ERR_STATE_BUSY');
    await volume.detach();
    writeFileSync(box.path('other.raw'), Buffer.alloc(4096));
    expect((await failure(() => verifyVolume(box.path('disk.vol'), { kms: box.kms, against: box.path('other.raw') }))).code).toBe(
      'ERR_IMAGE_DIFFERS',
    );
  });
});
