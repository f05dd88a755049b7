/** Jobs in place whose power is cut before each flush, and a longer one that is killed again and again. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'vitest';
import { decryptImage, decryptInPlace, encryptImage, encryptInPlace, reencryptInPlace } from '../../src/index.js';
import { built } from '../built.js';
import { runTool } from '../interop/tools.js';
import { describeUnless, testUnless } from '../requirements.js';
import { SEED, seededNumbers } from '../seed.js';
import { sandbox } from '../volume/sandbox.js';
import { LossyDisk, skipPowerCut } from './lossy-disk.js';
import { runToNthCall, skipNthCall } from './nth-call.js';

const ONCE = built('test/in-place/in-place-once.ts');
const MIB = 1024 * 1024;
const JOBS = { encrypt: encryptInPlace, decrypt: decryptInPlace, reencrypt: reencryptInPlace } as const;

describeUnless(skipPowerCut() || skipNthCall())('a power cut before each flush of a job in place', () => {
  for (const [kind, detached] of [
    ['encrypt', false],
    ['encrypt', true],
    ['decrypt', true],
    ['reencrypt', false],
  ] as const) {
    test(`${kind}, ${detached ? 'detached header' : 'header in front'}: what is on the disk is finished, or taken back`, async () => {
      const box = sandbox();
      const image = box.image('image', MIB + 5 * 512);
      const disk = new LossyDisk(40 * MIB);
      const template = box.path('template');
      mkdirSync(template);
      const headerIn = (directory: string): string | undefined => (detached ? join(directory, 'disk.header') : undefined);
      cpSync(box.path('image'), join(template, 'disk.raw'));
      if (kind !== 'encrypt') {
        await encryptImage(box.path('image'), join(template, 'disk.raw'), { kms: box.kms, header: headerIn(template), force: true });
      } else await encryptImage(box.path('image'), box.path('first'), { kms: box.kms });
      let met = true;
      let cuts = 0;
      for (let at = 1; met; at++) {
        const directory = join(disk.path, `disk.${at}`);
        cpSync(template, directory, { recursive: true });
        runTool('sync', ['-f', disk.path]);
        const args = [kind, join(directory, 'disk.raw'), box.kms, headerIn(directory) ?? '-', '-'];
        ({ met } = runToNthCall(ONCE, args, { at, action: 'kill', name: 'disk.', syncs: true }));
        await disk.afterPowerCut(async (path) => {
          const there = join(path, basename(directory));
          const file = join(there, 'disk.raw');
          const inTheMiddle = existsSync(join(there, '.disk.raw.in-place'));
          const undo = inTheMiddle && at % 2 === 0;
          const options = { kms: box.kms, header: headerIn(there), undo, partBytes: MIB };
          const changed = !readFileSync(file).equals(readFileSync(join(template, 'disk.raw')));
          if (inTheMiddle || !changed) await JOBS[kind](file, options);
          else assert.ok(!met || cuts > 5, `changed without a journal at flush ${at}`);
          const isImage = (kind === 'encrypt') === undo && kind !== 'reencrypt';
          if (!isImage) await decryptImage(file, box.path('back'), { kms: box.kms, header: headerIn(there), force: true });
          assert.ok(readFileSync(isImage ? file : box.path('back')).equals(image), `flush ${at}`);
        });
        rmSync(directory, { recursive: true });
        cuts += met ? 1 : 0;
      }
      assert.ok(cuts > 8, `only ${cuts} cuts`);
    });
  }
});

testUnless(skipNthCall())('60 kills of one job at random calls, forward and back: every sector is there', async () => {
  const below = seededNumbers(SEED);
  const box = sandbox();
  const image = box.image('disk.raw', 24 * MIB + 512);
  const disk = box.path('disk.raw');
  writeFileSync(box.path('image'), image);
  await encryptImage(disk, box.path('first'), { kms: box.kms });
  let kills = 0;
  for (let round = 0; kills < 60; round++) {
    const inTheMiddle = existsSync(box.path('.disk.raw.in-place'));
    const isVolume = !inTheMiddle && readFileSync(disk).length > image.length;
    if (isVolume) await decryptInPlace(disk, { kms: box.kms, partBytes: MIB });
    if (!inTheMiddle) assert.ok(box.contents('disk.raw').equals(image), `round ${round}`);
    const undo = inTheMiddle && below(10) < 3;
    kills += killedAt(2 + below(60), ['encrypt', disk, box.kms, '-', undo ? 'undo' : '-']);
  }
  if (existsSync(box.path('.disk.raw.in-place'))) await encryptInPlace(disk, { kms: box.kms });
  await decryptInPlace(disk, { kms: box.kms });
  assert.ok(box.contents('disk.raw').equals(image));
});

testUnless(skipNthCall())('40 kills of reencrypt at random calls, some in the middle of a write, forward and back', async () => {
  const below = seededNumbers(SEED);
  const box = sandbox();
  const image = box.image('image', 12 * MIB + 4096);
  const disk = box.path('disk.vol');
  await encryptImage(box.path('image'), disk, { kms: box.kms, sectorBytes: 4096 });
  let kills = 0;
  for (let round = 0; kills < 40; round++) {
    const undo = existsSync(box.path('.disk.vol.in-place')) && below(10) < 3;
    const action = below(2) === 0 ? 'kill' : 'torn';
    kills += killedAt(2 + below(60), ['reencrypt', disk, box.kms, '-', undo ? 'undo' : '-'], action);
    await decryptImage(disk, box.path('back'), { kms: box.kms, force: true });
    assert.ok(box.contents('back').equals(image), `round ${round}`);
  }
});

function killedAt(at: number, args: string[], action: 'kill' | 'torn' = 'kill'): number {
  const outcome = runToNthCall(ONCE, args, { at, action, name: 'disk.' });
  if (!outcome.killed) assert.equal(outcome.stdout, 'done', outcome.stderr);
  return outcome.killed ? 1 : 0;
}
