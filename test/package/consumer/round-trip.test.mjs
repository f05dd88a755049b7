import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attach, decryptImage, encryptImage, VolsealError } from 'volseal';

test('a round trip, and a failure with its code', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-jest-'));
  const path = (name) => join(directory, name);
  try {
    const kms = `embedded:${path('home')}`;
    writeFileSync(path('disk.raw'), Buffer.alloc(8192, 7));
    await encryptImage(path('disk.raw'), path('disk.vol'), { kms });
    const volume = await attach(path('disk.vol'), { kms });
    expect(Buffer.from(await volume.read(4096, 2))).toEqual(Buffer.from([7, 7]));
    await volume.detach();
    await decryptImage(path('disk.vol'), path('copy.raw'), { kms });
    expect(readFileSync(path('copy.raw')).equals(readFileSync(path('disk.raw')))).toBe(true);
    const missing = await attach(path('missing.vol'), { kms }).catch((error) => error);
    expect(missing).toBeInstanceOf(VolsealError);
    expect(missing.code).toBe('ERR_IO');
  } finally {
    rmSync(directory, { recursive: true });
  }
});
