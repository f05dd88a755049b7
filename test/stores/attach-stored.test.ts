/** A volume in S3 that is attached for reading, against the strict fake (strict-s3.ts). */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomInt } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { describe, test } from 'vitest';
import { attach, encryptImage, type VolsealError } from '../../src/index.js';
import { STORE_CACHE_BLOCKS } from '../../src/limits.js';
import { ended, failureOf, lab, parsed } from '../cli/program.js';
import { requireTool, skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { until } from '../until.js';
import { nothingHeld } from '../volume/nothing-held.js';
import { sandbox } from '../volume/sandbox.js';
import { strictS3 } from './strict-s3.js';

const SIGNER = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' };
Object.assign(process.env, SIGNER);

const MIB = 2 ** 20;
const VOLUME = 's3://images/a.vol';

async function stored(imageBytes: number, sectorBytes = 512) {
  const box = sandbox();
  const s3 = await strictS3('images');
  const store = { endpointUrl: s3.url };
  const image = box.image('a.raw', imageBytes);
  await encryptImage(box.path('a.raw'), VOLUME, { kms: box.kms, store, sectorBytes });
  s3.requests.length = 0;
  const reads = (): number => s3.requests.splice(0).filter((operation) => operation === 'GetObject').length;
  return { box, s3, image, reads, options: { kms: box.kms, store, readOnly: true } };
}

describe('the library', () => {
  test.each([512, 4096])('reads anywhere, fetches a block once, and keeps no more than its cache; sectors of %i', async (sectorBytes) => {
    const { image, reads, options } = await stored((STORE_CACHE_BLOCKS + 20) * MIB, sectorBytes);
    const volume = await attach(VOLUME, options);
    assert.equal(volume.sizeBytes, image.length);
    reads();
    const at = 5.5 * MIB + 3;
    assert.ok(image.subarray(at, at + 7).equals(await volume.read(at, 7)));
    assert.ok(reads() >= 1);
    assert.ok(image.subarray(at - 100, at).equals(await volume.read(at - 100, 100)));
    assert.equal(reads(), 0);
    for (let turn = 0; turn < 60; turn += 1) {
      const from = randomInt(image.length);
      const length = randomInt(Math.min(3 * MIB, image.length - from + 1));
      assert.ok(image.subarray(from, from + length).equals(await volume.read(from, length)), `${length} bytes at ${from}`);
    }
    // All at once, and in order: each block once, but for those that were dropped before their turn came again.
    reads();
    assert.ok(image.equals(await volume.read(0, image.length)));
    assert.ok(reads() <= STORE_CACHE_BLOCKS + 20 + 12);
    const hash = createHash('sha256');
    for await (const piece of volume.createReadStream()) hash.update(piece as Buffer);
    assert.equal(hash.digest('hex'), createHash('sha256').update(image).digest('hex'));
    assert.deepEqual(await volume.extents(0, image.length), [{ offsetBytes: 0, lengthBytes: image.length, zero: false }]);
    await assert.rejects(volume.write(0, new Uint8Array(1)), { code: 'ERR_STATE_READ_ONLY' });
    await volume.detach();
    await assert.rejects(volume.read(0, 1), { code: 'ERR_STATE_DETACHED' });
    nothingHeld();
  });

  test('what cannot be fetched is an error, and is fetched again; an object that was replaced is not mixed', async () => {
    const { box, s3, image, options } = await stored(8 * MIB);
    await assert.rejects(attach(VOLUME, { ...options, readOnly: false }), { code: 'ERR_ARGUMENT', message: /for reading only/ });
    await assert.rejects(attach('s3://images/none', options), { code: 'ERR_STORE_NOT_FOUND' });
    const volume = await attach(VOLUME, options);
    s3.fail('GetObject', ...Array<'deny'>(12).fill('deny'));
    await assert.rejects(volume.read(6 * MIB, 10), (error: VolsealError) => error.code === 'ERR_IO' && /s3:GetObject/.test(error.message));
    s3.mend();
    assert.ok(image.subarray(6 * MIB, 6 * MIB + 10).equals(await volume.read(6 * MIB, 10)));
    await encryptImage(box.path('a.raw'), VOLUME, { ...options, force: true });
    assert.ok(image.subarray(6 * MIB, 6 * MIB + 10).equals(await volume.read(6 * MIB, 10)));
    await assert.rejects(volume.read(2 * MIB, 10), { code: 'ERR_IO', message: /changed/ });
    await volume.detach();
    nothingHeld();
  });

  test('a thread of JavaScript that ends while a read waits takes nothing with it', async () => {
    const { s3, options } = await stored(4 * MIB);
    const code = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData.index).then(async ({ attach }) => {
        const volume = await attach(workerData.volume, workerData.options);
        parentPort.postMessage('attached');
        parentPort.once('message', () => volume.read(3 * 2 ** 20, 10));
      });`;
    const index = new URL('../../dist/lib/index.js', import.meta.url).href;
    const worker = new Worker(code, { eval: true, workerData: { index, volume: VOLUME, options } });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    const asked = s3.requests.length;
    s3.fail('GetObject', ...Array<'hang'>(10).fill('hang'));
    worker.postMessage('read');
    await until(() => s3.requests.length > asked);
    await worker.terminate();
  });
});

describe('the program', () => {
  testUnless(skipWithout('nbdcopy', 'nbdinfo'))('attach, and every NBD client reads the object', async () => {
    const box = lab();
    const s3 = await strictS3('images');
    const env = { ...SIGNER, AWS_ENDPOINT_URL_S3: s3.url };
    const finished = async (child: ReturnType<typeof spawn>) => {
      let text = '';
      child.stdout!.on('data', (chunk) => {
        text += chunk;
      });
      const outcome = await ended(child);
      return { ...outcome, stdout: Buffer.from(text), text };
    };
    // Not synchronous: the fake answers from this process.
    const run = (...args: string[]) => finished(box.start(args, env));
    const tool = (name: string, ...args: string[]) => finished(spawn(requireTool(name), args));
    const image = box.image('a.raw', 100 * MIB);
    assert.equal((await run('encrypt', 'a.raw', VOLUME)).status, 0);
    const refused = await run('attach', VOLUME, '--json');
    assert.deepEqual([refused.status, failureOf(refused).code], [1, 'ERR_ARGUMENT']);
    assert.match(failureOf(refused).message, /for reading only/);

    const attached = await run('attach', VOLUME, '--read-only');
    assert.equal(attached.status, 0, attached.stderr);
    const uri = attached.text.trim();
    assert.match((await tool('nbdinfo', uri)).text, /is_read_only: true/);
    const copied = await tool('nbdcopy', uri, box.path('copy.raw'));
    assert.equal(copied.status, 0, copied.stderr);
    assert.ok(box.contents('copy.raw').equals(image));
    const { attached: listed } = parsed((await run('attached', '--json')).text) as {
      attached: { path: string; readOnly: boolean }[];
    };
    assert.deepEqual(
      listed.map(({ path, readOnly }) => ({ path, readOnly })),
      [{ path: VOLUME, readOnly: true }],
    );
    assert.equal((await run('detach', VOLUME)).status, 0);
  });
});
