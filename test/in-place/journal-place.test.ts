/** Where the journal of a job in place is: an image in the middle of `encrypt` has no mark inside it. */
import assert from 'node:assert/strict';
import { existsSync, linkSync, lstatSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { attach, encryptImage, encryptInPlace, reencryptInPlace, verifyVolume } from '../../src/index.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { failsWith, MIB, PART, stoppingAt } from './stopping.js';

/** An image in the middle of `encrypt`, with its journal where `journal` says. */
async function begun(journal?: string): Promise<{ box: Sandbox; image: Buffer; disk: string }> {
  const box = sandbox();
  const image = box.image('disk', 4 * MIB);
  const disk = box.path('disk');
  const job = encryptInPlace(disk, { kms: box.kms, ...PART, journal: journal && box.path(journal), ...stoppingAt(MIB) });
  await assert.rejects(job, failsWith('ERR_ABORTED', /in the middle/));
  return { box, image, disk };
}

const inTheMiddle = (journal: RegExp) => failsWith('ERR_STATE_INTERRUPTED', new RegExp(`middle .*journal: .*${journal.source}`));

describe('the journal of a job in place', () => {
  test('elsewhere: a link beside the image leads to it, until the job is done', async () => {
    const { box, image, disk } = await begun('elsewhere');
    const mark = box.path('.disk.in-place');
    assert.equal(readlinkSync(mark), box.path('elsewhere'));
    const refused = inTheMiddle(/\/elsewhere/);
    await assert.rejects(encryptInPlace(disk, { kms: box.kms, journal: box.path('other') }), refused);
    await assert.rejects(encryptImage(disk, box.path('out'), { kms: box.kms }), refused);
    await (await attach(disk, { kms: box.kms, readOnly: true })).detach();
    const outcome = await encryptInPlace(disk, { kms: box.kms, undo: true });
    assert.deepEqual([outcome.undone, box.contents('disk').equals(image)], [true, true]);
    for (const path of [mark, box.path('elsewhere'), box.path('other'), box.path('out')]) assert.ok(!existsSync(path), path);
  });

  test('that was moved is named; without it nothing is begun', async () => {
    const { box, image, disk } = await begun('elsewhere');
    writeFileSync(box.path('image'), image);
    renameSync(box.path('elsewhere'), box.path('moved'));
    const refused = inTheMiddle(/\/elsewhere/);
    await assert.rejects(encryptInPlace(disk, { kms: box.kms }), refused);
    await assert.rejects(encryptInPlace(disk, { kms: box.kms, undo: true }), refused);
    await assert.rejects(verifyVolume(disk, { kms: box.kms }), refused);
    await encryptInPlace(disk, { kms: box.kms, journal: box.path('moved') });
    assert.equal(lstatSync(box.path('.disk.in-place'), { throwIfNoEntry: false }), undefined);
    await verifyVolume(disk, { kms: box.kms, against: box.path('image') });
  });

  test('is found, although another one is named', async () => {
    const { box, image, disk } = await begun();
    for (const undo of [false, true])
      await assert.rejects(encryptInPlace(disk, { kms: box.kms, journal: box.path('other'), undo }), inTheMiddle(/\.disk\.in-place/));
    await encryptInPlace(disk, { kms: box.kms, journal: box.path('.disk.in-place'), undo: true });
    assert.ok(box.contents('disk').equals(image));
  });

  test('is found under another name of the image: a hard link, or after a rename', async () => {
    const { box, image, disk } = await begun();
    const [link, moved] = [box.path('link'), box.path('moved')];
    linkSync(disk, link);
    renameSync(disk, moved);
    for (const name of [link, moved]) await assert.rejects(encryptInPlace(name, { kms: box.kms }), inTheMiddle(/\.disk\.in-place/));
    await encryptInPlace(moved, { kms: box.kms, journal: box.path('.disk.in-place'), undo: true });
    assert.ok(box.contents('link').equals(image));
    await encryptInPlace(link, { kms: box.kms });
    await reencryptInPlace(moved, { kms: box.kms });
  });
});
