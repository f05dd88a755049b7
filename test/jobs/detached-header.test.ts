/** A detached header and its data: which belongs to which, and that nobody replaces the header of another volume. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import {
  attach,
  createVolume,
  decryptImage,
  decryptInPlace,
  describeVolume,
  type EncryptOptions,
  encryptImage,
  reencryptInPlace,
  rewrapVolume,
  verifyVolume,
} from '../../src/index.js';
import { isStructured } from '../../src/volume/data-binding.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const IMAGE_BYTES = 256 * 1024;
const MIB = 1024 * 1024;

type Contents = (bytes: number) => Buffer;

/** What images hold: nothing that tells random bytes apart, or what people keep on disks. */
const CONTENTS: Record<string, Contents> = {
  random: (bytes) => randomBytes(bytes),
  text: (bytes) => Buffer.from('To be, or not to be, that is the question. '.repeat(bytes / 32)).subarray(0, bytes),
  'a few records': (bytes) => {
    const image = randomBytes(bytes);
    for (let at = 0; at < bytes; at += 8192) image.fill(0, at, at + 2048);
    return image;
  },
};

/** Two pairs of one size, `a` and `b`. */
async function twoPairs(contents: Contents = CONTENTS.random!, options: Partial<EncryptOptions> = {}): Promise<Sandbox> {
  const box = sandbox();
  for (const name of ['a', 'b']) {
    writeFileSync(box.path(`${name}.raw`), contents(IMAGE_BYTES));
    await encryptImage(box.path(`${name}.raw`), box.path(`${name}.vol`), { kms: box.kms, header: box.path(`${name}.hdr`), ...options });
  }
  return box;
}

/** What stock tools write: ciphertext, which volseal does not see. */
async function writtenByOthers(box: Sandbox, name: string, image: Buffer): Promise<void> {
  writeFileSync(box.path('others.raw'), image);
  const options = { kms: box.kms, header: box.path(`${name}.hdr`) };
  const header = box.contents(`${name}.hdr`);
  const volume = await attach(box.path(`${name}.vol`), options);
  await volume.write(0, image);
  await volume.detach();
  // As it was: nobody recorded the new data.
  writeFileSync(box.path(`${name}.hdr`), header);
}

/** Everything that opens a volume with its key. */
function openings(box: Sandbox, volume: string, header: string): Record<string, () => Promise<unknown>> {
  const options = { kms: box.kms, header: box.path(header) };
  const path = box.path(volume);
  return {
    attach: () => attach(path, options),
    'attach for reading': () => attach(path, { ...options, readOnly: true }),
    decrypt: () => decryptImage(path, box.path('out.raw'), options),
    verify: () => verifyVolume(path, options),
    rewrap: () => rewrapVolume(path, { ...options, key: 'alias/aws/ebs' }),
    'decrypt in place': () => decryptInPlace(path, options),
    'reencrypt in place': () => reencryptInPlace(path, options),
  };
}

async function allRefused(calls: Record<string, () => Promise<unknown>>, code: string, message: RegExp): Promise<void> {
  for (const [name, call] of Object.entries(calls)) await assert.rejects(call(), { code, message }, name);
}

describe('a detached header and its data', () => {
  for (const sectorBytes of [512, 4096])
    for (const allocation of ['full', 'sparse'] as const)
      for (const [name, contents] of Object.entries(CONTENTS))
        test(`belong together: ${name}, ${allocation}, sectors of ${sectorBytes} bytes`, async () => {
          const box = await twoPairs(contents, { sectorBytes, allocation });
          assert.equal(statSync(box.path('a.vol')).size, IMAGE_BYTES);
          const before = box.contents('a.vol');
          const all = openings(box, 'a.vol', 'b.hdr');
          const message = /a\.vol: is not the data of the header .*b\.hdr, which is that of vol-/;
          await allRefused(all, 'ERR_DATA_MISMATCH', message);
          assert.deepEqual(box.contents('a.vol'), before);
          const options = { kms: box.kms, header: box.path('a.hdr') };
          assert.equal((await verifyVolume(box.path('a.vol'), options)).dataBound, true);
          await decryptImage(box.path('a.vol'), box.path('out.raw'), options);
          assert.deepEqual(box.contents('out.raw'), box.contents('a.raw'));
        });

  test('still belong together after writes, a rewrap, and under other names', async () => {
    const box = await twoPairs();
    const options = { kms: box.kms, header: box.path('a.hdr') };
    const volume = await attach(box.path('a.vol'), options);
    const image = randomBytes(IMAGE_BYTES);
    await volume.write(0, image);
    await volume.detach();
    await rewrapVolume(box.path('a.vol'), { ...options, key: 'alias/aws/ebs' });
    renameSync(box.path('a.vol'), box.path('c.vol'));
    assert.equal((await verifyVolume(box.path('c.vol'), options)).dataBound, true);
    await decryptImage(box.path('c.vol'), box.path('out.raw'), options);
    assert.deepEqual(box.contents('out.raw'), image);
  });

  test('a volume that was written to keeps its samples while half of them are there', async () => {
    const box = await twoPairs();
    const header = box.contents('a.hdr');
    const write = async (at: number, bytes: number): Promise<void> => {
      const volume = await attach(box.path('a.vol'), { kms: box.kms, header: box.path('a.hdr') });
      await volume.write(at, randomBytes(bytes));
      await volume.detach();
    };
    await write(0, IMAGE_BYTES / 4);
    assert.deepEqual(box.contents('a.hdr'), header);
    await write(0, (IMAGE_BYTES / 4) * 3);
    assert.notDeepEqual(box.contents('a.hdr'), header);
  });

  test('after other tools rewrote all of it: known by its structure, or by the user', async () => {
    const box = await twoPairs();
    const options = { kms: box.kms, header: box.path('a.hdr') };
    await writtenByOthers(box, 'a', CONTENTS['a few records']!(IMAGE_BYTES));
    assert.equal((await verifyVolume(box.path('a.vol'), options)).dataBound, true);
    const image = randomBytes(IMAGE_BYTES);
    await writtenByOthers(box, 'a', image);
    await allRefused(openings(box, 'a.vol', 'a.hdr'), 'ERR_DATA_MISMATCH', /none of the sectors that the header recorded is there/);
    assert.equal((await verifyVolume(box.path('a.vol'), { ...options, anyData: true })).dataBound, false);
    await decryptImage(box.path('a.vol'), box.path('out.raw'), { ...options, anyData: true });
    assert.deepEqual(box.contents('out.raw'), image);
  });

  test('an empty sparse volume says that nothing tells, until there is data', async () => {
    const box = sandbox();
    const options = { kms: box.kms, header: box.path('a.hdr') };
    await createVolume(box.path('a.vol'), { ...options, sizeBytes: IMAGE_BYTES });
    assert.equal((await verifyVolume(box.path('a.vol'), options)).dataBound, false);
    const volume = await attach(box.path('a.vol'), options);
    await volume.write(65_536, randomBytes(4096));
    await volume.detach();
    assert.equal((await verifyVolume(box.path('a.vol'), options)).dataBound, true);
  });

  test('random bytes are never taken for data', () => {
    for (let tries = 0; tries < 20_000; tries += 1) assert.equal(isStructured(randomBytes(512), false), false);
    assert.equal(isStructured(Buffer.alloc(512), false), true);
    assert.equal(isStructured(Buffer.alloc(512), true), false);
    assert.equal(isStructured(Buffer.from(randomBytes(384).toString('base64')), false), true);
  });

  test('a copy of the header in front of a volume opens that volume only', async () => {
    const box = sandbox();
    for (const name of ['a', 'b']) {
      box.image(`${name}.raw`, IMAGE_BYTES);
      await encryptImage(box.path(`${name}.raw`), box.path(`${name}.vol`), { kms: box.kms });
      writeFileSync(box.path(`${name}.hdr`), box.contents(`${name}.vol`).subarray(0, MIB));
    }
    await allRefused(openings(box, 'a.vol', 'b.hdr'), 'ERR_DATA_MISMATCH', /a\.vol: is not the data of the header .*b\.hdr/);
    const options = { kms: box.kms, header: box.path('a.hdr') };
    assert.equal((await verifyVolume(box.path('a.vol'), options)).dataBound, true);
    // What such a copy is for.
    writeFileSync(box.path('a.vol'), box.contents('a.vol').fill(0, 0, MIB));
    assert.equal((await verifyVolume(box.path('a.vol'), options)).dataBound, false);
    assert.equal((await verifyVolume(box.path('a.vol'), { ...options, against: box.path('a.raw') })).dataBound, true);
  });
});

describe('force', () => {
  test("does not replace another volume's header", async () => {
    const box = await twoPairs();
    const [header, volumeId] = [box.contents('a.hdr'), (await describeVolume(box.path('a.vol'), { header: box.path('a.hdr') })).volumeId];
    const options = { kms: box.kms, header: box.path('a.hdr'), force: true };
    const refused = (path: string) => ({
      code: 'ERR_TARGET_EXISTS',
      message: new RegExp(`a\\.hdr: is the header of ${volumeId} \\(KMS key arn:.*, and .*${path} is not its data`),
    });
    await assert.rejects(encryptImage(box.path('b.raw'), box.path('new.vol'), options), refused('new\\.vol'));
    await assert.rejects(encryptImage(box.path('b.raw'), box.path('b.vol'), options), refused('b\\.vol'));
    await assert.rejects(createVolume(box.path('new.vol'), { ...options, sizeBytes: 512 }), refused('new\\.vol'));
    assert.deepEqual(box.contents('a.hdr'), header);
    // Knowingly.
    rmSync(box.path('a.hdr'));
    await encryptImage(box.path('b.raw'), box.path('new.vol'), options);
  });

  test('does not replace it by a volume or an image either', async () => {
    const box = await twoPairs();
    const header = box.contents('a.hdr');
    const refused = { code: 'ERR_TARGET_EXISTS', message: /a\.hdr: is the header of vol-/ };
    const to = box.path('a.hdr');
    await assert.rejects(encryptImage(box.path('b.raw'), to, { kms: box.kms, force: true }), refused);
    await assert.rejects(decryptImage(box.path('b.vol'), to, { kms: box.kms, header: box.path('b.hdr'), force: true }), refused);
    assert.deepEqual(box.contents('a.hdr'), header);
  });

  test('does not replace a volume, or a header that somebody else made, by a header', async () => {
    const box = await twoPairs();
    await encryptImage(box.path('a.raw'), box.path('whole.vol'), { kms: box.kms });
    const luks1 = Buffer.alloc(MIB, 1);
    Buffer.from('4c554b53babe0001', 'hex').copy(luks1);
    writeFileSync(box.path('luks1'), luks1);
    for (const [name, message] of [
      ['whole.vol', /is the header of vol-/],
      ['luks1', /is a LUKS header/],
    ] as const) {
      const options = { kms: box.kms, header: box.path(name), force: true };
      await assert.rejects(encryptImage(box.path('b.raw'), box.path('b.vol'), options), { code: 'ERR_TARGET_EXISTS', message });
    }
  });

  test('replaces a header together with its own data, and a file that is no header', async () => {
    const box = await twoPairs();
    const options = { kms: box.kms, header: box.path('a.hdr'), force: true };
    await encryptImage(box.path('b.raw'), box.path('a.vol'), options);
    const { dataBound } = await verifyVolume(box.path('a.vol'), { ...options, against: box.path('b.raw') });
    assert.equal(dataBound, true);
    writeFileSync(box.path('notes'), 'no header');
    await encryptImage(box.path('b.raw'), box.path('c.vol'), { ...options, header: box.path('notes') });
  });
});
