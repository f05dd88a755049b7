/**
 * Jobs whose data keeps its place have marks of a part in the journal, not the part: from any mixture of old and new
 * units of 512 bytes the part is rebuilt, and what is in neither form is refused.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { InPlaceJournal } from '../../src/in-place/journal.js';
import type { InPlaceRecord, PendingPart } from '../../src/in-place/record.js';
import {
  attach,
  createVolume,
  decryptImage,
  decryptInPlace,
  describeVolume,
  encryptInPlace,
  reencryptInPlace,
  verifyVolume,
} from '../../src/index.js';
import { openKms } from '../../src/kms/client/calls.js';
import { parseKmsUri } from '../../src/kms/shared/endpoint.js';
import { native } from '../../src/native.js';
import { SEED, seededNumbers } from '../seed.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { failsWith, JOBS, type Job, MIB, PART, prepared, stoppingAt } from './stopping.js';

const UNIT = 512;
const IMAGE_BYTES = 3 * MIB + 8192;

async function newestRecord(path: string): Promise<InPlaceRecord> {
  await using journal = await InPlaceJournal.find(path, undefined, 'none');
  return journal!.newest();
}

/** A sparse image: islands of random bytes among holes, and zeros that were written. */
async function sparseVolume(box: Sandbox, sectorBytes: 512 | 4096, header: string | undefined): Promise<Buffer> {
  const volume = box.path('disk');
  await createVolume(volume, { kms: box.kms, sizeBytes: IMAGE_BYTES, sectorBytes, header });
  const image = Buffer.alloc(IMAGE_BYTES);
  const noise = box.image('noise', MIB);
  for (let at = 0, round = 0; at < IMAGE_BYTES; at += 65536, round++) {
    if (round % 4 === 0) noise.copy(image, at, at % MIB, (at % MIB) + 5000);
  }
  await using attached = await attach(volume, { kms: box.kms, header });
  for (let at = 0, round = 0; at < IMAGE_BYTES; at += 65536, round++) {
    if (round % 4 === 0) await attached.write(at, image.subarray(at, at + 8192));
    if (round % 4 === 1) await attached.write(at, Buffer.alloc(8192));
  }
  return image;
}

/** A job in the middle: the files with the part under way in its old place, and the same with it in its new one. */
interface Middle {
  readonly box: Sandbox;
  readonly job: Job;
  readonly options: { readonly kms: string; readonly header: string | undefined };
  readonly image: Buffer;
  readonly pending: PendingPart;
  /** Where the image is in the file. */
  readonly offsetBytes: number;
  readonly before: Buffer;
  readonly after: Buffer;
}

const JOURNAL = '.disk.in-place';
const headers = (box: Sandbox): string[] => ['disk.header'].filter((name) => existsSync(box.path(name)));

async function inTheMiddle(kind: keyof typeof JOBS, sectorBytes: 512 | 4096, sparse: boolean, wayBack: boolean): Promise<Middle> {
  const box = sandbox();
  const header = kind === 'reencrypt' && !sparse ? undefined : box.path('disk.header');
  const image = sparse ? await sparseVolume(box, sectorBytes, header) : await prepared(box, kind, IMAGE_BYTES, sectorBytes, header);
  const options = { kms: box.kms, header };
  if (sparse && kind === 'encrypt') await decryptInPlace(box.path('disk'), options);
  const job: Job = JOBS[kind];
  const begun = { ...options, ...PART, ...(kind === 'encrypt' ? { sectorBytes, allocation: sparse ? 'sparse' : 'full' } : {}) };
  await assert.rejects(job(box.path('disk'), { ...begun, ...stoppingAt(wayBack ? 2 * MIB : MIB) }), { code: 'ERR_ABORTED' });
  if (wayBack) await assert.rejects(job(box.path('disk'), { ...options, undo: true, ...stoppingAt(MIB) }), { code: 'ERR_ABORTED' });
  const { pending, logged, lowOffsetBytes } = await newestRecord(box.path('disk'));
  assert.equal(logged, 'marks');
  for (const name of ['disk', JOURNAL, ...headers(box)]) cpSync(box.path(name), box.path(`${name}.middle`));
  // A writer puts the part into its place, and nothing else.
  await using attached = await attach(box.path('disk'), options);
  await attached.detach();
  const [before, after] = [box.contents('disk.middle'), box.contents('disk')];
  return { box, job, options, image, pending: pending!, offsetBytes: lowOffsetBytes, before, after };
}

/** Puts the files back as they were in the middle, with some of the part's units in their new place. */
function mix({ box, pending, offsetBytes, before, after }: Middle, isNew: (unit: number) => boolean): Buffer {
  const disk = Buffer.from(before);
  for (let unit = 0; unit < pending.lengthBytes / UNIT; unit++) {
    const at = offsetBytes + pending.startByte + unit * UNIT;
    if (isNew(unit)) after.copy(disk, at, at, at + UNIT);
  }
  for (const name of [JOURNAL, 'disk.header']) {
    rmSync(box.path(name), { force: true });
    if (existsSync(box.path(`${name}.middle`))) cpSync(box.path(`${name}.middle`), box.path(name));
  }
  writeFileSync(box.path('disk'), disk);
  return disk;
}

async function goesOn({ box, job, options, image }: Middle, undo: boolean, kind: keyof typeof JOBS): Promise<void> {
  await job(box.path('disk'), { ...options, undo });
  assert.ok(!existsSync(box.path(JOURNAL)));
  if ((kind === 'encrypt') === undo && kind !== 'reencrypt') {
    assert.ok(box.contents('disk').equals(image));
  } else {
    await decryptImage(box.path('disk'), box.path('back'), { ...options, force: true });
    assert.ok(box.contents('back').equals(image));
  }
}

describe('from any mixture of old and new units', () => {
  const below = seededNumbers(SEED);
  for (const kind of ['encrypt', 'decrypt', 'reencrypt'] as const)
    for (const sectorBytes of [512, 4096] as const)
      for (const sparse of [false, true]) {
        test(`${kind}, sectors of ${sectorBytes}, ${sparse ? 'sparse' : 'full'}: read, finished, taken back`, async () => {
          for (const wayBack of [false, true]) {
            const middle = await inTheMiddle(kind, sectorBytes, sparse, wayBack);
            const { box, options, image } = middle;
            for (const [round, ofEight] of [1, 4, 7].entries()) {
              const disk = mix(middle, () => below(8) < ofEight);
              {
                await using reader = await attach(box.path('disk'), { ...options, readOnly: true });
                assert.ok(Buffer.from(await reader.read(0, IMAGE_BYTES)).equals(image));
              }
              writeFileSync(box.path('expected'), image);
              await verifyVolume(box.path('disk'), { ...options, against: box.path('expected') });
              assert.ok(readFileSync(box.path('disk')).equals(disk), 'reading has changed the image');
              await goesOn(middle, round % 2 === 1, kind);
            }
          }
          assert.equal(native.vaultInfo().liveKeys, 0);
        });
      }
});

describe('what is in neither form', () => {
  for (const kind of ['encrypt', 'decrypt', 'reencrypt'] as const)
    test(`${kind}: half a unit, and one that somebody changed, are refused with their place; nothing is written`, async () => {
      const middle = await inTheMiddle(kind, 4096, false, false);
      const { box, job, options, pending, offsetBytes, after } = middle;
      const unit = pending.startByte + 77 * UNIT;
      for (const change of [
        (disk: Buffer) => after.copy(disk, offsetBytes + unit, offsetBytes + unit, offsetBytes + unit + 200),
        (disk: Buffer) => disk.fill(3, offsetBytes + unit, offsetBytes + unit + UNIT),
      ]) {
        const disk = mix(middle, (at) => at % 2 === 0);
        change(disk);
        writeFileSync(box.path('disk'), disk);
        const outcome = failsWith('ERR_RESUME', new RegExp(`the 512 bytes at byte ${unit} of the image are neither`));
        await assert.rejects(job(box.path('disk'), options), outcome);
        await assert.rejects(job(box.path('disk'), { ...options, undo: true }), outcome);
        await assert.rejects(attach(box.path('disk'), { ...options, readOnly: true }), outcome);
        await assert.rejects(attach(box.path('disk'), options), outcome);
        assert.ok(box.contents('disk').equals(disk));
      }
    });

  test('an older record is not replayed over what a writer has written', async () => {
    const middle = await inTheMiddle('reencrypt', 512, false, false);
    const { box, options, pending } = middle;
    mix(middle, () => false);
    {
      await using writer = await attach(box.path('disk'), options);
      await writer.write(pending.startByte, Buffer.from('written by a client'));
      await writer.flush();
    }
    const written = box.contents('disk');
    cpSync(box.path(`${JOURNAL}.middle`), box.path(JOURNAL));
    await assert.rejects(reencryptInPlace(box.path('disk'), options), failsWith('ERR_RESUME', /neither/));
    assert.ok(box.contents('disk').equals(written));
  });
});

describe('the journal', () => {
  test('is small where the data keeps its place, and holds no plaintext', async () => {
    const box = sandbox();
    const image = Buffer.alloc(4 * MIB, 'plain text ');
    writeFileSync(box.path('disk'), image);
    const options = { kms: box.kms, header: box.path('disk.header') };
    await assert.rejects(encryptInPlace(box.path('disk'), { ...options, ...PART, ...stoppingAt(MIB) }), { code: 'ERR_ABORTED' });
    const journal = box.contents(JOURNAL);
    assert.ok(journal.length < 4 * MIB, `${journal.length} bytes`);
    assert.ok(!journal.includes('text pla'));
    await encryptInPlace(box.path('disk'), options);
    await assert.rejects(decryptInPlace(box.path('disk'), { ...options, ...PART, ...stoppingAt(MIB) }), { code: 'ERR_ABORTED' });
    assert.ok(!box.contents(JOURNAL).includes('text pla'));
  });

  test('of an older volseal holds the parts themselves: its job is read, finished, and taken back', async () => {
    for (const undo of [false, true]) {
      const box = sandbox();
      const image = await prepared(box, 'reencrypt', IMAGE_BYTES, 4096, undefined);
      const volume = box.path('disk');
      const { keyId, encryptedDataKey, encryptionContext: context } = await describeVolume(volume);
      await assert.rejects(reencryptInPlace(volume, { kms: box.kms, ...PART, ...stoppingAt(0) }), { code: 'ERR_ABORTED' });
      await using settled = await attach(volume, { kms: box.kms });
      await settled.detach();
      await withoutMarks(box, { keyArn: keyId, encryptedDataKey: Buffer.from(encryptedDataKey, 'base64'), context });
      await assert.rejects(reencryptInPlace(volume, { kms: box.kms, ...stoppingAt(MIB) }), { code: 'ERR_ABORTED' });
      const record = await newestRecord(volume);
      const { pending } = record;
      assert.ok(pending !== null && !('logged' in record), JSON.stringify(record));
      assert.equal(statSync(box.path(JOURNAL)).size, 5 * MIB);
      // A torn write costs nothing here: the part is in the journal.
      const disk = box.contents('disk');
      disk.fill(9, record.lowOffsetBytes + pending.startByte, record.lowOffsetBytes + pending.startByte + 100);
      writeFileSync(volume, disk);
      {
        await using reader = await attach(volume, { kms: box.kms, readOnly: true });
        assert.ok(Buffer.from(await reader.read(0, IMAGE_BYTES)).equals(image));
      }
      await reencryptInPlace(volume, { kms: box.kms, undo });
      await decryptImage(volume, box.path('back'), { kms: box.kms });
      assert.ok(box.contents('back').equals(image));
    }
  });
});

/** Makes the journal's records those of a version that did not know marks. */
async function withoutMarks(box: Sandbox, wrapped: { keyArn: string; encryptedDataKey: Buffer; context: Record<string, string> }) {
  const client = openKms(parseKmsUri(box.kms));
  const key = await client.unwrapKey(wrapped);
  client.close();
  try {
    await using journal = await InPlaceJournal.find(box.path('disk'), undefined, 'none');
    const { logged: _, ...record } = await journal!.proved(key);
    assert.equal(record.pending, null);
    for (const step of [1, 2]) await journal!.write({ ...record, sequence: record.sequence + step }, key);
  } finally {
    native.keyWipe(key);
  }
}
