// What every project does with volseal, however it has loaded it.
const assert = require('node:assert/strict');
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

module.exports = async function roundTrip({ attach, decryptImage, encryptImage, VolsealError }, options) {
  const directory = mkdtempSync(join(tmpdir(), 'volseal round trip '));
  const path = (name) => join(directory, name);
  try {
    const kms = options ?? { kms: `embedded:${path('home')}` };
    writeFileSync(path('disk.raw'), Buffer.alloc(8192, 7));
    await encryptImage(path('disk.raw'), path('disk.vol'), kms);
    const volume = await attach(path('disk.vol'), kms);
    assert.deepEqual(Buffer.from(await volume.read(4096, 2)), Buffer.from([7, 7]));
    await volume.detach();
    await decryptImage(path('disk.vol'), path('copy.raw'), kms);
    assert.ok(readFileSync(path('copy.raw')).equals(readFileSync(path('disk.raw'))));
    await assert.rejects(attach(path('missing.vol'), kms), (error) => error instanceof VolsealError && error.code === 'ERR_IO');
    console.log('round trip: ok');
  } finally {
    rmSync(directory, { recursive: true });
  }
};
