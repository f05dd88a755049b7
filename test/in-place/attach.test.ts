/** Volumes that are attached in the middle of a job in place. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'vitest';
import { addRecoveryKey, attach, reencryptInPlace, verifyVolume } from '../../src/index.js';
import { native } from '../../src/native.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { failsWith, JOBS, type Job, MIB, PART, prepared, sparseInTheMiddle, stoppingAt } from './stopping.js';

const IMAGE_BYTES = 4 * MIB + 8192;

for (const kind of ['encrypt', 'decrypt', 'reencrypt'] as const)
  for (const header of [undefined, 'disk.header'])
    for (const [sectorBytes, wayBack] of [
      [512, false],
      [4096, true],
    ] as const) {
      const where = `${kind}, header ${header ?? 'in front'}, sectors of ${sectorBytes}${wayBack ? ', on the way back' : ''}`;
      test(`each sector is read and written by the key of its side: ${where}`, async () => {
        for (const doneBytes of header === undefined ? [0, MIB, 3 * MIB] : [2 * MIB]) {
          const box = sandbox();
          const at = header && box.path(header);
          const image = await prepared(box, kind, IMAGE_BYTES, sectorBytes, at);
          const job: Job = JOBS[kind];
          const disk = box.path('disk');
          const options = { kms: box.kms, header: at };
          const sectors = kind === 'encrypt' ? { sectorBytes } : {};
          await assert.rejects(
            job(disk, { ...options, ...sectors, ...PART, ...stoppingAt(wayBack ? 3 * MIB : doneBytes) }),
            failsWith('ERR_ABORTED', /in the middle/),
          );
          if (wayBack)
            await assert.rejects(
              job(disk, { ...options, undo: true, ...stoppingAt(Math.min(doneBytes, 2 * MIB)) }),
              failsWith('ERR_ABORTED', /middle/),
            );
          const before = readFileSync(disk);
          {
            await using reader = await attach(disk, { ...options, readOnly: true });
            await using other = await attach(disk, { ...options, readOnly: true });
            assert.ok(Buffer.from(await reader.read(0, IMAGE_BYTES)).equals(image));
            // In pieces that begin and end inside sectors, and cross from one form into the other.
            for (let from = 0; from < IMAGE_BYTES; from += 300_001) {
              const length = Math.min(300_001, IMAGE_BYTES - from);
              assert.ok(Buffer.from(await other.read(from, length)).equals(image.subarray(from, from + length)), `at ${from}`);
            }
            await assert.rejects(reader.write(0, Buffer.alloc(512)), { code: 'ERR_STATE_READ_ONLY' });
            await assert.rejects(job(disk, options), { code: 'ERR_STATE_BUSY' });
            await assert.rejects(attach(disk, options), { code: 'ERR_STATE_BUSY' });
          }
          assert.ok(readFileSync(disk).equals(before));
          {
            await using writer = await attach(disk, options);
            for (let from = 0; from < IMAGE_BYTES; from += 700_001) {
              const bytes = Buffer.from(`written at ${from}`.padEnd(10_007, '.')).subarray(0, IMAGE_BYTES - from);
              await writer.write(from, bytes);
              bytes.copy(image, from);
            }
            await writer.zero(2 * MIB - 700, 1400);
            image.fill(0, 2 * MIB - 700, 2 * MIB + 700);
            assert.ok(Buffer.from(await writer.read(0, IMAGE_BYTES)).equals(image));
            await assert.rejects(attach(disk, { ...options, readOnly: true }), { code: 'ERR_STATE_BUSY' });
          }
          assert.equal(native.vaultInfo().liveKeys, 0);
          if (doneBytes >= 2 * MIB) {
            await job(disk, { ...options, undo: true });
            if (kind === 'encrypt') assert.ok(readFileSync(disk).equals(image));
            else await sameAsImage(box, disk, at, image);
          } else {
            await job(disk, options);
            if (kind === 'decrypt') assert.ok(readFileSync(disk).equals(image));
            else await sameAsImage(box, disk, at, image);
          }
        }
      });
    }

async function sameAsImage(box: Sandbox, disk: string, header: string | undefined, image: Buffer): Promise<void> {
  writeFileSync(box.path('image'), image);
  await verifyVolume(disk, { kms: box.kms, header, against: box.path('image') });
}

/** A volume in the middle of a new key. */
async function halfReencrypted(): Promise<{ box: Sandbox; volume: string; image: Buffer }> {
  const box = sandbox();
  const image = await prepared(box, 'reencrypt', IMAGE_BYTES, 512, undefined);
  const volume = box.path('disk');
  await assert.rejects(reencryptInPlace(volume, { kms: box.kms, ...PART, ...stoppingAt(2 * MIB) }), { code: 'ERR_ABORTED' });
  return { box, volume, image };
}

describe('in the middle of a new key', () => {
  test('a damaged journal is refused: neither its part nor its record is believed', async () => {
    const { box, volume } = await halfReencrypted();
    const journal = box.path('.disk.in-place');
    const whole = readFileSync(journal);
    for (const [at, message] of [
      // Slots begin behind two header areas and the records.
      [3 * MIB + 5000, /what was taken last/],
      [4 * MIB + 5000, /what was taken last/],
    ] as const) {
      const changed = Buffer.from(whole);
      changed[at]! ^= 1;
      writeFileSync(journal, changed);
      // Only one of the two slots counts.
      const outcome = await attach(volume, { kms: box.kms, readOnly: true }).catch((error: unknown) => error);
      if (outcome instanceof Error) assert.ok(failsWith('ERR_RESUME', message)(outcome));
      else await (outcome as { detach(): Promise<void> }).detach();
    }
    const both = Buffer.from(whole);
    for (const at of [3 * MIB + 5000, 4 * MIB + 5000]) both[at]! ^= 1;
    writeFileSync(journal, both);
    for (const readOnly of [true, false])
      await assert.rejects(attach(volume, { kms: box.kms, readOnly }), failsWith('ERR_RESUME', /taken last/));
    const forged = Buffer.from(whole);
    const text = forged.toString('latin1').replaceAll('"frontierBytes":', '"frontierbytes":');
    writeFileSync(journal, Buffer.from(text, 'latin1'));
    await assert.rejects(attach(volume, { kms: box.kms, readOnly: true }), failsWith('ERR_RESUME', /records/));
    writeFileSync(journal, whole);
    await using again = await attach(volume, { kms: box.kms, readOnly: true });
    assert.equal(again.sizeBytes, IMAGE_BYTES);
    assert.equal(native.vaultInfo().liveKeys, 2);
  });

  test('an older record does not bring back what was there before a write', async () => {
    const { box, volume, image } = await halfReencrypted();
    {
      await using writer = await attach(volume, { kms: box.kms });
      await writer.write(0, Buffer.alloc(IMAGE_BYTES, 7));
    }
    image.fill(7);
    // The newer record is lost.
    const journal = await open(box.path('.disk.in-place'), 'r+');
    const records = [0, 8192].map((at) => 2 * MIB + at);
    const texts = await Promise.all(records.map(async (at) => (await journal.read(Buffer.alloc(4096), 0, 4096, at)).buffer.toString()));
    const sequences = texts.map((text) => Number(/"sequence":(\d+)/.exec(text)![1]));
    await journal.write(Buffer.alloc(8192), 0, 8192, records[sequences[0]! > sequences[1]! ? 0 : 1]!);
    await journal.close();
    await reencryptInPlace(volume, { kms: box.kms });
    await sameAsImage(box, volume, undefined, image);
  });

  test('a recovery key opens the old side, KMS the new one', async () => {
    const box = sandbox();
    const image = await prepared(box, 'reencrypt', IMAGE_BYTES, 512, undefined);
    const volume = box.path('disk');
    await addRecoveryKey(volume, box.path('recovery.key'), { kms: box.kms });
    const kms = `embedded:${box.path('other home')}`;
    const options = { recoveryKeyFile: box.path('recovery.key'), kms };
    const begun = reencryptInPlace(volume, { ...options, key: 'alias/aws/ebs', ...PART, ...stoppingAt(MIB) });
    await assert.rejects(begun, { code: 'ERR_ABORTED' });
    await using reader = await attach(volume, { ...options, readOnly: true });
    assert.ok(Buffer.from(await reader.read(0, IMAGE_BYTES)).equals(image));
  });

  test('a sparse volume says where its zeros are, on both sides', async () => {
    const box = sandbox();
    const volume = await sparseInTheMiddle(box);
    await using reader = await attach(volume, { kms: box.kms, readOnly: true });
    const data = (await reader.extents(0, 32 * MIB)).filter(({ zero }) => !zero);
    assert.deepEqual(
      data.map(({ offsetBytes }) => offsetBytes),
      [2, 12, 30].map((at) => at * MIB),
    );
    // What is in the journal is there as a whole part.
    assert.ok(data.every(({ lengthBytes }) => lengthBytes <= MIB));
    for (const at of [2, 12, 30]) assert.ok((await reader.read(at * MIB, 4096)).every((byte) => byte === at));
  });

  test('--journal names a journal elsewhere, and a copy without one is refused', async () => {
    const box = sandbox();
    const image = await prepared(box, 'reencrypt', IMAGE_BYTES, 512, undefined);
    const [volume, journal] = [box.path('disk'), box.path('elsewhere')];
    await assert.rejects(reencryptInPlace(volume, { kms: box.kms, journal, ...PART, ...stoppingAt(MIB) }), { code: 'ERR_ABORTED' });
    cpSync(volume, box.path('lone'));
    await assert.rejects(attach(box.path('lone'), { kms: box.kms, readOnly: true }), failsWith('ERR_STATE_INTERRUPTED', /middle/));
    rmSync(box.path('.disk.in-place'));
    await using reader = await attach(volume, { kms: box.kms, journal, readOnly: true });
    assert.ok(Buffer.from(await reader.read(0, IMAGE_BYTES)).equals(image));
  });

  testUnless(skipWithout('nbdcopy'))('NBD clients read and write it', async () => {
    const { box, volume, image } = await halfReencrypted();
    const socket = box.path('nbd.sock');
    {
      await using attached = await attach(volume, { kms: box.kms, readOnly: true });
      const server = await attached.serve({ socket });
      runTool('nbdcopy', [server.uri, box.path('copy')]);
      await server.close();
    }
    assert.ok(box.contents('copy').equals(image));
    image.reverse();
    writeFileSync(box.path('copy'), image);
    {
      await using attached = await attach(volume, { kms: box.kms });
      const server = await attached.serve({ socket });
      runTool('nbdcopy', ['--flush', box.path('copy'), server.uri]);
      await server.close();
    }
    await reencryptInPlace(volume, { kms: box.kms });
    await sameAsImage(box, volume, undefined, image);
  });
});
