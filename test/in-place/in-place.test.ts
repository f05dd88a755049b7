/** Images that are encrypted, decrypted and re-encrypted where they are. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'vitest';
import {
  addRecoveryKey,
  attach,
  createVolume,
  decryptImage,
  decryptInPlace,
  describeVolume,
  encryptImage,
  encryptInPlace,
  readHeaderText,
  reencryptInPlace,
  rewrapVolume,
  type VolsealError,
  verifyVolume,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { runTool, skipWithout, tryTool } from '../interop/tools.js';
import { loopDevice, skipWithoutLoop } from '../output/loop-device.js';
import { testUnless } from '../requirements.js';
import { dataKeyOf, type Sandbox, sandbox } from '../volume/sandbox.js';
import { failsWith, MIB, PART, stoppingAt } from './stopping.js';

/** Stops a job after its first part. */
const stopping = () => stoppingAt(1);

const begunIn = async (box: Sandbox): Promise<void> => {
  const begun = encryptInPlace(box.path('disk.raw'), { kms: box.kms, ...PART, ...stopping() });
  await assert.rejects(begun, failsWith('ERR_ABORTED', /same command goes on, and --undo takes back/));
};

describe('in place', () => {
  for (const header of [undefined, 'disk.header'])
    for (const [sectorBytes, rest] of [
      [512, 700],
      [4096, 0],
      [4096, 5],
    ] as const) {
      test(`there and back: header ${header ?? 'in front'}, sectors of ${sectorBytes}, ${rest} bytes in the last MiB`, async () => {
        const box = sandbox();
        const image = box.image('disk.raw', 5 * MIB + rest);
        const [disk, at] = [box.path('disk.raw'), header && box.path(header)];
        writeFileSync(box.path('image'), image);
        const options = { kms: box.kms, header: at, ...PART };
        const made = await encryptInPlace(disk, { ...options, sectorBytes, pad: true, encryptionContext: { user: 'alice' } });
        await verifyVolume(disk, { ...options, against: box.path('image') });
        const before = await describeVolume(disk, { header: at });
        assert.deepEqual([made.volumeId, made.imageBytes, before.imageBytes], [before.volumeId, image.length, image.length]);
        assert.equal(statSync(at ?? disk).mode & 0o777, at === undefined ? statSync(disk).mode & 0o777 : 0o600);
        const oldKey = await dataKeyOf(disk, box.kms, at);
        await reencryptInPlace(disk, options);
        await verifyVolume(disk, { ...options, against: box.path('image') });
        const after = await describeVolume(disk, { header: at });
        assert.deepEqual([after.uuid, after.volumeId, after.encryptionContext], [before.uuid, before.volumeId, before.encryptionContext]);
        assert.ok(!(await dataKeyOf(disk, box.kms, at)).equals(oldKey));
        await decryptInPlace(disk, options);
        assert.ok(box.contents('disk.raw').equals(image));
        if (at !== undefined) assert.ok(!existsSync(at));
        assert.ok(!existsSync(box.path('.disk.raw.in-place')));
        assert.equal(native.vaultInfo().liveKeys, 0);
      });
    }

  test('what was begun is taken back, or finished after that all the same', async () => {
    const box = sandbox();
    const image = box.image('disk.raw', 5 * MIB);
    const disk = box.path('disk.raw');
    await begunIn(box);
    assert.ok(!box.contents('disk.raw').subarray(0, image.length).equals(image));
    // Taking back is stopped as well, and then it goes forward.
    await assert.rejects(encryptInPlace(disk, { kms: box.kms, undo: true, ...stopping() }), failsWith('ERR_ABORTED', /in the middle/));
    await assert.rejects(encryptInPlace(disk, { kms: box.kms, ...stopping() }), failsWith('ERR_ABORTED', /in the middle/));
    const outcome = await encryptInPlace(disk, { kms: box.kms, undo: true });
    assert.deepEqual([outcome.undone, outcome.wasResumed], [true, true]);
    assert.ok(box.contents('disk.raw').equals(image));
    await assert.rejects(encryptInPlace(disk, { kms: box.kms, undo: true }), failsWith('ERR_ARGUMENT', /no unfinished job/));
    await encryptInPlace(disk, { kms: box.kms });
    await decryptImage(disk, box.path('back'), { kms: box.kms });
    assert.ok(box.contents('back').equals(image));
  });

  test('in the middle no other job opens it: by the journal beside it, and by the requirement in its header', async () => {
    const box = sandbox();
    box.image('disk.raw', 3 * MIB);
    const volume = box.path('disk.vol');
    await encryptImage(box.path('disk.raw'), volume, { kms: box.kms });
    const oldKey = await dataKeyOf(volume, box.kms);
    await assert.rejects(reencryptInPlace(volume, { kms: box.kms, ...PART, ...stopping() }), failsWith('ERR_ABORTED', /middle/));
    const journal = failsWith('ERR_STATE_INTERRUPTED', /middle .*journal: .*\.disk\.vol\.in-place/);
    await assert.rejects(rewrapVolume(volume, { kms: box.kms, key: 'alias/aws/ebs' }), journal);
    await assert.rejects(encryptImage(volume, box.path('other'), { kms: box.kms, raw: true }), journal);
    await assert.rejects(decryptInPlace(volume, { kms: box.kms }), journal);
    cpSync(volume, box.path('copy'));
    await assert.rejects(attach(box.path('copy'), { kms: box.kms }), failsWith('ERR_STATE_INTERRUPTED', /middle/));
    if (skipWithout('cryptsetup') === false) {
      writeFileSync(box.path('vk'), oldKey);
      const key = ['--volume-key-file', box.path('vk'), '--key-size', '512'];
      const { status, stderr } = tryTool('cryptsetup', ['luksAddKey', '--batch-mode', ...key, volume, box.path('vk')]);
      assert.notEqual(status, 0);
      assert.match(stderr, /requirement/i);
    }
    await reencryptInPlace(volume, { kms: box.kms });
    await verifyVolume(volume, { kms: box.kms, against: box.path('disk.raw') });
  });

  testUnless(skipWithout('cryptsetup'))('cryptsetup is the judge: it decrypts what was encrypted and re-encrypted', async () => {
    const box = sandbox();
    const image = box.image('disk.raw', 20 * MIB + 512);
    const disk = box.path('disk.raw');
    await encryptInPlace(disk, { kms: box.kms, ...PART });
    await reencryptInPlace(disk, { kms: box.kms, partBytes: 8 * MIB });
    writeFileSync(box.path('vk'), await dataKeyOf(disk, box.kms));
    writeFileSync(box.path('pass'), 'a passphrase of ours');
    const pbkdf = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
    runTool('cryptsetup', [
      'luksAddKey',
      '--batch-mode',
      '--volume-key-file',
      box.path('vk'),
      '--key-size',
      '512',
      ...pbkdf,
      disk,
      box.path('pass'),
    ]);
    const header = ['--header', box.path('exported.header'), '--key-file', box.path('pass')];
    runTool('cryptsetup', ['reencrypt', '--batch-mode', '--decrypt', '--force-offline-reencrypt', ...header, disk]);
    assert.ok(box.contents('disk.raw').subarray(0, image.length).equals(image));
  });

  test('a sparse volume stays sparse, and a sparse image becomes one on request', async () => {
    const box = sandbox();
    const volume = box.path('disk.vol');
    await createVolume(volume, { kms: box.kms, sizeBytes: 64 * MIB });
    {
      await using attached = await attach(volume, { kms: box.kms });
      await attached.write(10 * MIB + 100, Buffer.from('an island'));
    }
    await decryptImage(volume, box.path('image'), { kms: box.kms });
    const blocks = (name: string): number => statSync(box.path(name)).blocks * 512;
    await reencryptInPlace(volume, { kms: box.kms, ...PART });
    assert.ok(blocks('disk.vol') < 4 * MIB);
    await verifyVolume(volume, { kms: box.kms, against: box.path('image') });
    await decryptInPlace(volume, { kms: box.kms, ...PART });
    assert.ok(blocks('disk.vol') < 4 * MIB);
    assert.ok(readFileSync(volume).equals(readFileSync(box.path('image'))));
    await encryptInPlace(volume, { kms: box.kms, allocation: 'sparse', ...PART });
    assert.ok(blocks('disk.vol') < 4 * MIB);
    await verifyVolume(volume, { kms: box.kms, against: box.path('image') });
  });

  test('a recovery key opens the volume for both jobs; its keyslot is gone afterwards', async () => {
    const box = sandbox();
    const image = box.image('disk.raw', 3 * MIB);
    const volume = box.path('disk.raw');
    await encryptInPlace(volume, { kms: box.kms });
    await addRecoveryKey(volume, box.path('recovery.key'), { kms: box.kms });
    const area = box.contents('disk.raw').subarray(32768, MIB);
    const kms = `embedded:${box.path('other home')}`;
    const options = { recoveryKeyFile: box.path('recovery.key'), kms, key: 'alias/aws/ebs', ...PART };
    await assert.rejects(reencryptInPlace(volume, { ...options, ...stopping() }), failsWith('ERR_ABORTED', /middle/));
    const { oldKeyslots } = await reencryptInPlace(volume, options);
    assert.equal(oldKeyslots, 1);
    assert.ok(
      !area.every((byte) => byte === 0) &&
        box
          .contents('disk.raw')
          .subarray(32768, MIB)
          .every((byte) => byte === 0),
    );
    assert.deepEqual(((await readHeaderText(volume)).metadata as { keyslots: object }).keyslots, {});
    await addRecoveryKey(volume, box.path('second.key'), { kms });
    await decryptInPlace(volume, { recoveryKeyFile: box.path('second.key'), ...PART });
    assert.ok(box.contents('disk.raw').equals(image));
  });

  test('two at once: the second is refused', async () => {
    const box = sandbox();
    box.image('disk.raw', 4 * MIB);
    const both = await Promise.allSettled([1, 2].map(() => encryptInPlace(box.path('disk.raw'), { kms: box.kms, ...PART })));
    const [failure] = both.flatMap((one) => (one.status === 'rejected' ? [one.reason as VolsealError] : []));
    assert.equal(both.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.equal(failure?.code, 'ERR_STATE_BUSY');
  });

  test('a journal of another file, one that was changed, and one with a damaged copy of each record', async () => {
    const box = sandbox();
    const image = box.image('disk.raw', 4 * MIB);
    await begunIn(box);
    const [disk, journal] = [box.path('disk.raw'), box.path('.disk.raw.in-place')];
    cpSync(disk, box.path('other.raw'));
    cpSync(journal, box.path('.other.raw.in-place'));
    await assert.rejects(encryptInPlace(box.path('other.raw'), { kms: box.kms }), failsWith('ERR_RESUME', /another file/));
    const records = 2 * MIB;
    const flip = async (...places: number[]): Promise<void> => {
      const file = await open(journal, 'r+');
      for (const place of places) {
        const [byte] = (await file.read(Buffer.alloc(1), 0, 1, place)).buffer;
        await file.write(Buffer.from([byte! ^ 1]), 0, 1, place);
      }
      await file.close();
    };
    const everyCopy = [0, 1, 2, 3].map((copy) => records + copy * 4096 + 200);
    await flip(...everyCopy);
    await assert.rejects(encryptInPlace(disk, { kms: box.kms }), failsWith('ERR_RESUME', /no MAC holds|none of its records/));
    // One good copy of each record is enough.
    await flip(...everyCopy.filter((_, copy) => copy % 2 === 1));
    await encryptInPlace(disk, { kms: box.kms });
    await decryptImage(disk, box.path('back'), { kms: box.kms });
    assert.ok(box.contents('back').equals(image));
  });

  test('a part in the journal that was changed is not put anywhere', async () => {
    const box = sandbox();
    box.image('disk.raw', 4 * MIB);
    await begunIn(box);
    const file = await open(box.path('.disk.raw.in-place'), 'r+');
    for (const slot of [3 * MIB, 4 * MIB]) await file.write(Buffer.from('changed'), 0, 7, slot + 1000);
    await file.close();
    const before = box.contents('disk.raw');
    await assert.rejects(encryptInPlace(box.path('disk.raw'), { kms: box.kms }), failsWith('ERR_RESUME', /taken last/));
    assert.ok(box.contents('disk.raw').equals(before));
  });

  test('what cannot be done is refused before anything is changed', async () => {
    const box = sandbox();
    const image = box.image('disk.raw', MIB + 100);
    const disk = box.path('disk.raw');
    await assert.rejects(encryptInPlace(disk, { kms: box.kms }), failsWith('ERR_IMAGE_SIZE', /512-byte sectors/));
    await assert.rejects(
      encryptInPlace(disk, { kms: box.kms, pad: true, key: 'alias/none' }),
      failsWith('ERR_KMS_NOT_FOUND', /alias\/none/),
    );
    await assert.rejects(encryptInPlace(disk, { kms: box.kms, pad: true, journal: disk }), failsWith('ERR_ARGUMENT', /image itself/));
    await assert.rejects(encryptInPlace(disk, { kms: box.kms, pad: true, partBytes: 5 }), failsWith('ERR_ARGUMENT', /number of MiB/));
    writeFileSync(box.path('disk.header'), 'something else');
    const detached = encryptInPlace(disk, { kms: box.kms, pad: true, header: box.path('disk.header') });
    await assert.rejects(detached, failsWith('ERR_TARGET_EXISTS', /disk\.header/));
    assert.ok(box.contents('disk.raw').equals(image));
    assert.ok(!existsSync(box.path('.disk.raw.in-place')));
    await encryptInPlace(disk, { kms: box.kms, pad: true });
    await assert.rejects(encryptInPlace(disk, { kms: box.kms, pad: true }), failsWith('ERR_ARGUMENT', /LUKS/));
    truncateSync(disk, MIB);
    await assert.rejects(decryptInPlace(disk, { kms: box.kms }), failsWith('ERR_VOLUME_SIZE', /cut off/));
  });

  testUnless(skipWithoutLoop())('a block device: the journal where the caller says, room for the header at its end', async () => {
    const box = sandbox();
    const device = loopDevice(box.path('backing'), 6 * MIB, 7);
    const options = { kms: box.kms, journal: box.path('journal'), ...PART };
    await assert.rejects(encryptInPlace(device, { kms: box.kms }), failsWith('ERR_ARGUMENT', /--journal/));
    await assert.rejects(encryptInPlace(device, options), failsWith('ERR_TARGET_SIZE', /--size.*--header/));
    await assert.rejects(encryptInPlace(device, { ...options, sizeBytes: 5 * MIB, ...stopping() }), failsWith('ERR_ABORTED', /middle/));
    await encryptInPlace(device, { ...options, sizeBytes: 5 * MIB });
    await reencryptInPlace(device, options);
    const image = Buffer.alloc(5 * MIB, 7);
    await decryptImage(device, box.path('back'), { kms: box.kms });
    assert.ok(box.contents('back').equals(image));
    await decryptInPlace(device, options);
    assert.ok(readFileSync(device).subarray(0, image.length).equals(image));
    assert.ok(!existsSync(box.path('journal')));
  });
});
