/** Volumes that are decrypted and verified as a whole in the middle of a job in place. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, cpSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import {
  decryptImage,
  decryptInPlace,
  encryptImage,
  encryptInPlace,
  reencryptInPlace,
  rewrapVolume,
  verifyVolume,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { failureOf, lab } from '../cli/program.js';
import { loopDevice, skipWithoutLoop } from '../output/loop-device.js';
import { testUnless } from '../requirements.js';
import { sandbox } from '../volume/sandbox.js';
import { failsWith, JOBS, type Job, MIB, PART, prepared, sparseInTheMiddle, stoppingAt } from './stopping.js';

/** Not a number of MiB, and with `pad` not of sectors either. */
const IMAGE_BYTES = 4 * MIB + 8192 + 700;

for (const kind of ['encrypt', 'decrypt', 'reencrypt'] as const)
  for (const header of [undefined, 'disk.header'])
    for (const [sectorBytes, wayBack] of [
      [512, false],
      [4096, true],
    ] as const) {
      const where = `${kind}, header ${header ?? 'in front'}, sectors of ${sectorBytes}${wayBack ? ', on the way back' : ''}`;
      test(`the image comes out of both sides and of the journal: ${where}`, async () => {
        for (const doneBytes of [0, 3 * MIB]) {
          const box = sandbox();
          const at = header && box.path(header);
          const image = await prepared(box, kind, IMAGE_BYTES, sectorBytes, at);
          const job: Job = JOBS[kind];
          const disk = box.path('disk');
          const options = { kms: box.kms, header: at };
          const begun = { ...options, ...(kind === 'encrypt' ? { sectorBytes, pad: true } : {}), ...PART };
          await assert.rejects(job(disk, { ...begun, ...stoppingAt(wayBack ? 3 * MIB : doneBytes) }), { code: 'ERR_ABORTED' });
          if (wayBack)
            await assert.rejects(job(disk, { ...options, undo: true, ...stoppingAt(Math.min(doneBytes, 2 * MIB)) }), {
              code: 'ERR_ABORTED',
            });
          const [before, journal] = [readFileSync(disk), box.contents('.disk.in-place')];

          const made = await decryptImage(disk, box.path('back'), { ...options, sha256: true });
          assert.ok(box.contents('back').equals(image));
          assert.deepEqual([made.imageBytes, made.sha256], [IMAGE_BYTES, createHash('sha256').update(image).digest('hex')]);
          const stream = openSync(box.path('stream'), 'w');
          await decryptImage(disk, { fd: stream, name: 'stream' }, options);
          closeSync(stream);
          assert.ok(box.contents('stream').equals(image));

          const verified = await verifyVolume(disk, { ...options, against: box.path('back') });
          assert.deepEqual([verified.inPlace, verified.imageBytes, verified.dataBound], [kind, IMAGE_BYTES, true]);
          assert.equal((await verifyVolume(disk, options)).against, null);
          for (const differs of [5, 2 * MIB + 77, IMAGE_BYTES - 1]) {
            const other = Buffer.from(image);
            other[differs]! ^= 1;
            writeFileSync(box.path('other'), other);
            const outcome = failsWith('ERR_IMAGE_DIFFERS', new RegExp(`first at byte ${differs}, `));
            await assert.rejects(verifyVolume(disk, { ...options, against: box.path('other') }), outcome);
          }

          // Nothing was changed, and the job goes on.
          assert.ok(readFileSync(disk).equals(before) && box.contents('.disk.in-place').equals(journal));
          assert.equal(native.vaultInfo().liveKeys, 0);
          await job(disk, options);
          if (kind === 'decrypt') assert.ok(readFileSync(disk).equals(image));
          else assert.equal((await verifyVolume(disk, { ...options, against: box.path('back') })).inPlace, null);
        }
      });
    }

describe('in the middle', () => {
  test('a sparse volume keeps its holes, on both sides', async () => {
    const box = sandbox();
    const volume = await sparseInTheMiddle(box);
    await decryptImage(volume, box.path('back'), { kms: box.kms });
    const back = box.contents('back');
    assert.equal(back.length, 32 * MIB);
    const expected = Buffer.alloc(32 * MIB);
    for (const at of [2, 12, 30]) expected.fill(at, at * MIB, at * MIB + 4096);
    assert.ok(back.equals(expected));
    assert.ok(statSync(box.path('back')).blocks * 512 < MIB, `${statSync(box.path('back')).blocks} blocks`);
    await verifyVolume(volume, { kms: box.kms, against: box.path('back') });
  });

  test('a damaged journal is refused before anything is made', async () => {
    const box = sandbox();
    await prepared(box, 'reencrypt', IMAGE_BYTES, 512, undefined);
    const volume = box.path('disk');
    await assert.rejects(reencryptInPlace(volume, { kms: box.kms, ...PART, ...stoppingAt(2 * MIB) }), { code: 'ERR_ABORTED' });
    const journal = box.contents('.disk.in-place');
    for (const at of [3 * MIB + 5000, 4 * MIB + 5000]) journal[at]! ^= 1;
    writeFileSync(box.path('.disk.in-place'), journal);
    const outcome = failsWith('ERR_RESUME', /taken last/);
    await assert.rejects(decryptImage(volume, box.path('back'), { kms: box.kms }), outcome);
    await assert.rejects(verifyVolume(volume, { kms: box.kms }), outcome);
    assert.throws(() => statSync(box.path('back')), { code: 'ENOENT' });
  });

  test('nothing replaces the image, or is put beside its journal, whatever is forced', async () => {
    const box = sandbox();
    const image = await prepared(box, 'decrypt', IMAGE_BYTES, 512, undefined);
    const volume = box.path('disk');
    await assert.rejects(decryptInPlace(volume, { kms: box.kms, ...PART, ...stoppingAt(MIB) }), { code: 'ERR_ABORTED' });
    const outcome = failsWith('ERR_STATE_INTERRUPTED', /disk: is in the middle/);
    await assert.rejects(decryptImage(volume, volume, { kms: box.kms, force: true }), outcome);
    writeFileSync(box.path('other'), image);
    await assert.rejects(encryptImage(box.path('other'), volume, { kms: box.kms, force: true, pad: true }), outcome);
    await decryptInPlace(volume, { kms: box.kms });
    assert.ok(box.contents('disk').equals(image));
  });

  test('rewrap is refused, and says which job it is', async () => {
    const at = lab();
    const image = at.image('disk.raw', 3 * MIB);
    const kms = `embedded:${at.path('home')}`;
    at.ok(['encrypt', 'disk.raw', 'disk.vol']);
    const begun = reencryptInPlace(at.path('disk.vol'), { kms, ...PART, ...stoppingAt(MIB) });
    await assert.rejects(begun, { code: 'ERR_ABORTED' });
    await assert.rejects(rewrapVolume(at.path('disk.vol'), { kms, key: 'alias/aws/ebs' }), { code: 'ERR_STATE_INTERRUPTED' });
    for (const command of [
      ['rewrap', 'disk.vol', '--key', 'alias/aws/ebs'],
      ['recovery', 'add', 'disk.vol', '--out', 'key'],
      ['encrypt', '--in-place', 'disk.vol'],
    ]) {
      const { code, message, hint } = failureOf(at.run([...command, '--json']));
      assert.equal(code, 'ERR_STATE_INTERRUPTED');
      assert.match(message, /in the middle of being re-encrypted in place/);
      assert.match(hint ?? '', /Run volseal reencrypt '?disk\.vol'? again.*--undo/);
    }
    const { text } = at.ok(['verify', 'disk.vol', '--against', 'disk.raw']);
    assert.match(text, /in the middle of reencrypt in place: both header copies in its journal are good/);
    at.ok(['decrypt', 'disk.vol', 'back.raw']);
    assert.ok(at.contents('back.raw').equals(image));
    at.ok(['reencrypt', 'disk.vol']);
    at.ok(['verify', 'disk.vol', '--against', 'disk.raw']);
  });

  test('--journal names a journal elsewhere, and a copy without one is refused', async () => {
    const at = lab();
    const image = at.image('disk.raw', 3 * MIB);
    const kms = `embedded:${at.path('home')}`;
    at.ok(['encrypt', 'disk.raw', 'disk.vol']);
    const journal = at.path('elsewhere');
    const begun = reencryptInPlace(at.path('disk.vol'), { kms, journal, ...PART, ...stoppingAt(MIB) });
    await assert.rejects(begun, { code: 'ERR_ABORTED' });
    cpSync(at.path('disk.vol'), at.path('lone.vol'));
    for (const command of [
      ['decrypt', 'lone.vol', 'back.raw'],
      ['verify', 'lone.vol'],
    ]) {
      const { code, message } = failureOf(at.run([...command, '--json']));
      assert.equal(code, 'ERR_STATE_INTERRUPTED', message);
    }
    // The link beside the volume leads there too.
    at.ok(['decrypt', 'disk.vol', 'back.raw']);
    rmSync(at.path('.disk.vol.in-place'));
    at.ok(['decrypt', 'disk.vol', 'back.raw', '--journal', 'elsewhere', '--force']);
    at.ok(['verify', 'disk.vol', '--journal', 'elsewhere']);
    assert.ok(at.contents('back.raw').equals(image));
    // Of a whole volume the option says nothing.
    cpSync(at.path('disk.raw'), at.path('copy.raw'));
    at.ok(['encrypt', 'copy.raw', 'copy.vol']);
    at.ok(['verify', 'copy.vol', '--journal', 'none-there', '--against', 'copy.raw']);
  });

  testUnless(skipWithoutLoop())('a device with a journal outside of it', async () => {
    const box = sandbox();
    const image = box.image('disk.raw', 4 * MIB);
    const device = loopDevice(box.path('backing'), 6 * MIB);
    writeFileSync(device, image);
    const journal = box.path('journal');
    const options = { kms: box.kms, journal };
    await assert.rejects(encryptInPlace(device, { ...options, sizeBytes: image.length, ...PART, ...stoppingAt(2 * MIB) }), {
      code: 'ERR_ABORTED',
    });
    await verifyVolume(device, { ...options, against: box.path('disk.raw') });
    await decryptImage(device, box.path('back'), options);
    assert.ok(box.contents('back').equals(image));
    await encryptInPlace(device, options);
    await verifyVolume(device, { kms: box.kms, against: box.path('disk.raw') });
  });
});
