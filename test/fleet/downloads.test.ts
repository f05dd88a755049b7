/** Jobs whose source is an object (the strict fake): stopped, resumed, and found done. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runJob } from '../../src/fleet/run-job.js';
import type { JobSpec } from '../../src/fleet/spec.js';
import { encryptImage, type Progress, verifyVolume } from '../../src/index.js';
import { native } from '../../src/native.js';
import { strictS3 } from '../stores/strict-s3.js';
import { until } from '../until.js';
import { sandbox } from '../volume/sandbox.js';

Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' });

const MIB = 1024 * 1024;
/** Ten pieces of 16 MiB, of which six are under way at once. */
const IMAGE_BYTES = 148 * MIB + 512;

test.each(['encrypt', 'decrypt'] as const)('%s of an object into a file goes on, and is found done', async (kind) => {
  const box = sandbox();
  const s3 = await strictS3('images');
  const image = box.image('a.raw', IMAGE_BYTES);
  await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
  const source = kind === 'encrypt' ? 's3://images/a.raw' : 's3://images/a.vol';
  s3.put(source.slice('s3://'.length), kind === 'encrypt' ? image : box.contents('a.vol'));
  const target = box.path(kind === 'encrypt' ? 'b.vol' : 'b.raw');
  const job: JobSpec = { kind, source, target };
  const warnings: string[] = [];
  const onWarning = (warning: string): void => void warnings.push(warning);
  let doneBytes = 0;
  const onProgress = (progress: Progress): void => {
    doneBytes = progress.doneBytes;
  };
  const options = { kms: box.kms, store: { endpointUrl: s3.url }, onWarning, onProgress };
  const run = (signal?: AbortSignal) => runJob(job, { ...options, signal });
  const reads = (): number => s3.requests.filter((name) => name === 'GetObject').length;

  const stop = new AbortController();
  let askedBytes = 0;
  s3.onRequest = async (operation, range) => {
    if (operation !== 'GetObject') return;
    if (reads() < 9) {
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '')!;
      const bytes = Number(last) + 1 - Number(first);
      // The header is none of the image's bytes.
      if (bytes >= MIB) askedBytes += bytes;
      return;
    }
    // Pieces end in any order, and it can go on behind the first only once that is written.
    await until(() => stop.signal.aborted || doneBytes >= askedBytes);
    stop.abort();
  };
  await assert.rejects(run(stop.signal), { code: 'ERR_ABORTED' });
  s3.onRequest = () => undefined;
  assert.deepEqual(warnings, []);

  expect(await run()).toMatchObject({ kind, outcome: 'done', imageBytes: IMAGE_BYTES });
  assert.match(warnings.join(), /resuming at byte [1-9]\d{6}/);
  if (kind === 'decrypt') assert.ok(readFileSync(target).equals(image));
  else await verifyVolume(target, { kms: box.kms, against: box.path('a.raw') });

  expect(await run()).toMatchObject({ kind, outcome: 'already', imageBytes: IMAGE_BYTES });
  if (kind === 'decrypt') {
    writeFileSync(target, 'of somebody else');
    await assert.rejects(run(), { code: 'ERR_TARGET_EXISTS' });
  }
  assert.equal(native.vaultInfo().liveKeys, 0);
});
