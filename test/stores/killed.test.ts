/** Uploads with --resume whose program is killed or stopped, against the strict fake (strict-s3.ts). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { ended, failureOf, lab } from '../cli/program.js';
import { requireTool, skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { SEED, seededNumbers } from '../seed.js';
import { dataKeyOf } from '../volume/sandbox.js';
import { strictS3 } from './strict-s3.js';

const MIB = 1024 * 1024;
/** Ten parts of 16 MiB. */
const IMAGE_BYTES = 150 * MIB + 512;
const PARTS = 10;
const ROUNDS = 6;

async function office() {
  const box = lab();
  const s3 = await strictS3('images');
  const env = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example', AWS_ENDPOINT_URL_S3: s3.url };
  /** Runs the program; the `parts`-th request for a part brings it `signal`. */
  const run = async (args: string[], signal?: NodeJS.Signals, parts = 1) => {
    const child = box.start(args, env);
    let seen = 0;
    s3.onRequest = (operation) => {
      if (operation !== 'UploadPart' || signal === undefined) return;
      seen += 1;
      if (seen === parts) child.kill(signal);
    };
    const outcome = await ended(child);
    delete s3.onRequest;
    return { ...outcome, stdout: Buffer.alloc(0), text: '' };
  };
  return { box, s3, run };
}

describe('killed at random parts', () => {
  testUnless(skipWithout('cryptsetup'))('encrypt: cryptsetup opens what the last run completes', async () => {
    const { box, s3, run } = await office();
    const image = box.image('a.raw', IMAGE_BYTES);
    const number = seededNumbers(SEED);
    const args = ['encrypt', 'a.raw', 's3://images/a.vol', '--resume'];
    let kills = 0;
    for (; kills < ROUNDS; kills += 1) {
      const { signal } = await run(args, 'SIGKILL', 1 + number(3));
      if (signal !== 'SIGKILL') break;
      assert.equal(s3.objects.has('images/a.vol'), false);
      assert.equal(s3.uploads.size, 1, 'one upload, however often it is begun again');
    }
    assert.ok(kills > 0);
    if (!s3.objects.has('images/a.vol')) {
      const there = [...s3.uploads.values()][0]!.parts.size;
      s3.requests.length = 0;
      const { status, stderr } = await run(args);
      assert.equal(status, 0, stderr);
      assert.equal(s3.requests.filter((name) => name === 'UploadPart').length, PARTS - there);
    }
    assert.equal(s3.uploads.size, 0);
    assert.deepEqual([...s3.objects.keys()], ['images/a.vol']);

    writeFileSync(box.path('back.vol'), s3.objects.get('images/a.vol')!.bytes);
    box.ok(['verify', 'back.vol', '--against', 'a.raw']);
    box.ok(['decrypt', 'back.vol', 'back.raw']);
    assert.ok(box.contents('back.raw').equals(image));
    writeFileSync(box.path('vk'), await dataKeyOf(box.path('back.vol'), `embedded:${box.path('home')}`));
    const opened = spawnSync(
      requireTool('cryptsetup'),
      ['open', '--test-passphrase', '--volume-key-file', box.path('vk'), '--key-size', '512', box.path('back.vol')],
      { encoding: 'utf8' },
    );
    assert.equal(opened.status, 0, opened.stderr);
  });

  test('decrypt', async () => {
    const { box, s3, run } = await office();
    const image = box.image('a.raw', IMAGE_BYTES);
    box.ok(['encrypt', 'a.raw', 'a.vol']);
    const number = seededNumbers(SEED + 1);
    const args = ['decrypt', 'a.vol', 's3://images/a.raw', '--resume'];
    for (let round = 0; round < ROUNDS; round += 1) if ((await run(args, 'SIGKILL', 1 + number(4))).signal !== 'SIGKILL') break;
    if (!s3.objects.has('images/a.raw')) assert.equal((await run(args)).status, 0);
    assert.ok(s3.objects.get('images/a.raw')!.bytes.equals(image));
    assert.equal(s3.uploads.size, 0);
    assert.deepEqual([...s3.objects.keys()], ['images/a.raw']);
  });
});

describe('Ctrl-C', () => {
  test('with --resume the upload stays, and the same command goes on; without it nothing stays', async () => {
    const { box, s3, run } = await office();
    const image = box.image('a.raw', IMAGE_BYTES);
    const args = ['encrypt', 'a.raw', 's3://images/a.vol', '--json'];
    const without = await run(args, 'SIGINT', 2);
    assert.equal(without.status, 130, without.stderr);
    assert.equal(s3.uploads.size + s3.objects.size, 0);

    const stopped = await run([...args, '--resume'], 'SIGINT', 2);
    assert.equal(stopped.status, 130, stopped.stderr);
    assert.equal(failureOf(stopped).code, 'ERR_ABORTED');
    assert.match(failureOf(stopped).hint!, /run the same command again/);
    assert.equal(s3.uploads.size, 1);
    assert.deepEqual([...s3.objects.keys()], ['images/a.vol.volseal-resume']);
    const again = await run([...args, '--resume']);
    assert.equal(again.status, 0, again.stderr);
    writeFileSync(box.path('back.vol'), s3.objects.get('images/a.vol')!.bytes);
    box.ok(['decrypt', 'back.vol', 'back.raw']);
    assert.ok(box.contents('back.raw').equals(image));
  });
});
