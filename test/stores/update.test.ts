/** A volume that is brought from one snapshot to a later one, against the strict fake (strict-ebs.ts). */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { describe, test } from 'vitest';
import {
  attach,
  backupHeader,
  describeVolume,
  encryptImage,
  restoreHeader,
  rewrapVolume,
  updateVolume,
  verifyVolume,
} from '../../src/index.js';
import { openKms } from '../../src/kms/client/calls.js';
import { parseKmsUri } from '../../src/kms/shared/endpoint.js';
import { ended, failureOf, lab, parsed } from '../cli/program.js';
import { nothingHeld } from '../volume/nothing-held.js';
import { sandbox } from '../volume/sandbox.js';
import { type StrictEbs, strictEbs } from './strict-ebs.js';

Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' });

const MIB = 2 ** 20;
const BLOCK = 512 * 1024;

/** Three states of a disk of 1 GiB, each the parent of the next, and blocks that differ from one to the next. */
function generations(ebs: StrictEbs): { ids: [string, string, string]; changedBytes: [number, number] } {
  const first = Buffer.alloc(64 * MIB);
  for (const block of [0, 1, 5, 60, 127]) randomBytes(BLOCK).copy(first, block * BLOCK);
  const second = Buffer.from(first);
  // Changed in part, gone, new.
  second.writeUInt8((second[BLOCK + 7]! + 1) % 256, BLOCK + 7);
  second.fill(0, 5 * BLOCK, 6 * BLOCK);
  for (const block of [70, 71, 126]) randomBytes(BLOCK).copy(second, block * BLOCK);
  const third = Buffer.from(second);
  randomBytes(BLOCK).copy(third, 2 * BLOCK);
  const one = ebs.put(first);
  const two = ebs.put(second, one);
  return { ids: [one, two, ebs.put(third, two)], changedBytes: [5 * BLOCK, BLOCK] };
}

type Reached = { kms: string; store: { ebsEndpointUrl: string } };

/** Compares a volume with a snapshot. */
async function isImageOf(ebs: StrictEbs, id: string, volume: string, { kms }: Pick<Reached, 'kms'>): Promise<void> {
  const expected = ebs.contents(id);
  await using attached = await attach(volume, { kms, readOnly: true });
  assert.equal(attached.sizeBytes, expected.length);
  for (let at = 0; at < expected.length; at += 8 * MIB)
    assert.ok(expected.subarray(at, at + 8 * MIB).equals(await attached.read(at, 8 * MIB)), `bytes from ${at}`);
}

/** How often each operation was asked since the last look. */
function asked(ebs: StrictEbs): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const operation of ebs.requests.splice(0)) counts[operation] = (counts[operation] ?? 0) + 1;
  return counts;
}

describe('a volume that was made from a snapshot', () => {
  test('becomes the image of a later one, by its changed blocks alone; and only if nobody has written to it', async () => {
    const box = sandbox();
    const ebs = await strictEbs();
    const reached: Reached = { kms: box.kms, store: { ebsEndpointUrl: ebs.url } };
    const { ids, changedBytes } = generations(ebs);
    const [one, two, three] = ids;
    const volume = box.path('a.vol');
    const made = await encryptImage(`ebs:${one}`, volume, reached);
    assert.deepEqual([made.snapshot, made.updatingSince], [one, null]);
    asked(ebs);

    const refused = (id: string, since: string, code: string) =>
      assert.rejects(updateVolume(`ebs:${id}`, volume, { ...reached, since }), { code });
    await refused(three, two, 'ERR_IMAGE_DIFFERS');
    const unrelated = ebs.put(Buffer.alloc(MIB, 1));
    await refused(unrelated, one, 'ERR_STORE_REQUEST');
    await refused(ebs.put(Buffer.alloc(2 ** 30 + 1, 1), one), one, 'ERR_IMAGE_SIZE');
    await refused('snap-00000000000000000', one, 'ERR_STORE_NOT_FOUND');
    assert.equal((await describeVolume(volume)).snapshot, one);
    await verifyVolume(volume, reached);

    // Short pages, empty ones, and page tokens that the listing for the contents makes too old.
    ebs.pageBlocks = 2;
    ebs.emptyPages = true;
    asked(ebs);
    const brought = await updateVolume(`ebs:${two}`, volume, { ...reached, since: one });
    assert.deepEqual([brought.snapshot, brought.updatingSince, brought.changedBytes], [two, null, changedBytes[0]]);
    // One of the changed blocks is not read: the snapshot has zeros there. 16 samples are of the earlier snapshot.
    assert.ok(asked(ebs).GetSnapshotBlock! <= 5 + 16);
    await isImageOf(ebs, two, volume, reached);
    assert.equal((await updateVolume(`ebs:${two}`, volume, { ...reached, since: one })).changedBytes, 0);

    // Another KMS key changes no data.
    const kms = openKms(parseKmsUri(box.kms));
    const { keyArn } = await kms.createKey();
    kms.close();
    await rewrapVolume(volume, { key: keyArn, kms: box.kms });
    await backupHeader(volume, box.path('a.header'));
    assert.equal((await updateVolume(`ebs:${three}`, volume, { ...reached, since: two })).changedBytes, changedBytes[1]);
    await isImageOf(ebs, three, volume, reached);

    // A restored header is of a time when the data was another one.
    await restoreHeader(volume, box.path('a.header'), { kms: box.kms });
    assert.equal((await describeVolume(volume)).snapshot, null);
    await refused(three, two, 'ERR_IMAGE_DIFFERS');
    nothingHeld();
  });

  test('is not believed once it was opened for writing, nor where its blocks are others', async () => {
    const box = sandbox();
    const ebs = await strictEbs();
    const reached: Reached = { kms: box.kms, store: { ebsEndpointUrl: ebs.url } };
    const [one, two] = generations(ebs).ids;
    const [volume, header] = [box.path('a.vol'), box.path('a.hdr')];
    await encryptImage(`ebs:${one}`, volume, { ...reached, header });
    const again = { ...reached, header, since: one };
    // What another program does that has the key: volseal is not told.
    const fd = openSync(volume, 'r+');
    const old = Buffer.alloc(512);
    readSync(fd, old, 0, 512, 0);
    writeSync(fd, randomBytes(512), 0, 512, 0);
    await assert.rejects(updateVolume(`ebs:${two}`, volume, again), { code: 'ERR_IMAGE_DIFFERS', message: /block 0/ });
    writeSync(fd, old, 0, 512, 0);
    closeSync(fd);
    assert.equal((await describeVolume(volume, { header })).snapshot, one);

    await (await attach(volume, { kms: box.kms, header })).detach();
    assert.equal((await describeVolume(volume, { header })).snapshot, null);
    await assert.rejects(updateVolume(`ebs:${two}`, volume, again), { code: 'ERR_IMAGE_DIFFERS', message: /opened for writing/ });
    nothingHeld();
  });
});

describe('the program', () => {
  test('killed in the middle: nobody opens the mixture, and the same command finishes it', async () => {
    const box = lab();
    const ebs = await strictEbs();
    const [one, two, three] = generations(ebs).ids;
    const env = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example', AWS_ENDPOINT_URL_EBS: ebs.url };
    const run = async (...args: string[]) => {
      const child = box.start(args, env);
      let text = '';
      child.stdout!.on('data', (chunk) => {
        text += chunk;
      });
      const outcome = await ended(child);
      return { ...outcome, stdout: Buffer.from(text), text };
    };
    const made = await run('encrypt', `ebs:${one}`, 'a.vol');
    assert.equal(made.status, 0, made.stderr);
    const backedUp = await run('header', 'backup', 'a.vol', 'before.header');
    assert.equal(backedUp.status, 0, backedUp.stderr);
    const update = ['encrypt', `ebs:${two}`, 'a.vol', '--since', one];
    const refused = async (status: number, code: string, hint: RegExp, ...args: string[]) => {
      const outcome = await run(...args, '--json');
      assert.equal(outcome.status, status, outcome.stderr + outcome.text);
      assert.equal(failureOf(outcome).code, code);
      assert.match(failureOf(outcome).hint ?? '', hint);
    };
    await refused(1, 'ERR_ARGUMENT', /--help/, ...update, '--key', 'alias/x');
    await refused(3, 'ERR_IMAGE_DIFFERS', /encrypt ebs:snap-\w+ NEW_VOLUME/, 'encrypt', `ebs:${three}`, 'a.vol', '--since', two);

    // No changed block is answered before the kill.
    let blocksRefused = 0;
    const hit = new Promise<void>((resolve) => {
      ebs.onRequest = (operation) => {
        if (operation === 'ListChangedBlocks') ebs.fail('GetSnapshotBlock', ...Array<'slowDown'>(100).fill('slowDown'));
        if (operation === 'GetSnapshotBlock' && ebs.requests.includes('ListChangedBlocks')) blocksRefused += 1;
        if (blocksRefused === 2) resolve();
      };
    });
    const child = box.start(update, env);
    await hit;
    child.kill('SIGKILL');
    await ended(child);
    ebs.onRequest = undefined;
    ebs.mend();

    const info = parsed((await run('info', 'a.vol', '--json')).text);
    assert.deepEqual([info.snapshot, info.updatingSince], [two, one]);
    assert.match((await run('info', 'a.vol')).text, /a mixture: being brought from snap-\w+ to snap-\w+/);
    const finish = new RegExp(`volseal encrypt ebs:${two} 'a\\.vol' --since ${one}|volseal encrypt ebs:${two} a\\.vol --since ${one}`);
    await refused(4, 'ERR_STATE_INTERRUPTED', finish, 'decrypt', 'a.vol', 'out.raw');
    await refused(4, 'ERR_STATE_INTERRUPTED', finish, 'write', 'a.vol', '--offset', '0');
    await refused(4, 'ERR_STATE_INTERRUPTED', finish, 'reencrypt', 'a.vol');
    // An older header knows nothing of it.
    await refused(4, 'ERR_STATE_INTERRUPTED', finish, 'decrypt', 'a.vol', 'out.raw', '--header', 'before.header');
    await refused(4, 'ERR_STATE_INTERRUPTED', finish, ...update, '--header', 'before.header');
    await refused(4, 'ERR_STATE_INTERRUPTED', finish, 'header', 'restore', 'a.vol', 'before.header');
    await refused(4, 'ERR_STATE_INTERRUPTED', finish, 'header', 'restore', 'a.vol', 'before.header', '--no-proof');
    assert.equal(parsed((await run('info', 'a.vol', '--json')).text).updatingSince, one);
    await refused(4, 'ERR_STATE_INTERRUPTED', finish, 'encrypt', `ebs:${three}`, 'a.vol', '--since', two);
    const done = await run(...update);
    assert.equal(done.status, 0, done.stderr);
    assert.match(done.text, /is the image of ebs:snap-\w+ now: \d+ bytes \(2\.5 MiB\) changed/);
    await isImageOf(ebs, two, box.path('a.vol'), { kms: `embedded:${box.path('home')}` });
  });
});
