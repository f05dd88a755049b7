/** One image in ranges into S3 (the strict fake), by worker processes of which one is killed in its middle. */
import assert from 'node:assert/strict';
import { closeSync, openSync, truncateSync, utimesSync, writeFileSync, writeSync } from 'node:fs';
import { test } from 'vitest';
import { ended, lab } from '../cli/program.js';
import { skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { strictS3 } from '../stores/strict-s3.js';
import { until } from '../until.js';
import { startRedis } from './servers.js';

const MIB = 1024 * 1024;
/** With the header 301 MiB: two ranges of the object, and 19 parts of 16 MiB. */
const IMAGE_BYTES = 300 * MIB + 512;
const PARTS = 19;
const RECORD = 'images/huge.vol.volseal-resume';

/** A worker that was killed at its fourth part, or a later one, once S3 has a part. */
async function killedInTheMiddle() {
  const at = lab();
  const [server, s3] = await Promise.all([startRedis(), strictS3('images')]);
  Object.assign(at.env, {
    ...{ VOLSEAL_QUEUE: server.url(server.port), AWS_ENDPOINT_URL_S3: s3.url },
    ...{ AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' },
  });
  at.ok(['kms', 'create-key']);
  writeFileSync(at.path('huge.raw'), '');
  truncateSync(at.path('huge.raw'), IMAGE_BYTES);
  const fd = openSync(at.path('huge.raw'), 'r+');
  for (const byte of [0, 255 * MIB - 512, 255 * MIB, IMAGE_BYTES - 512]) writeSync(fd, `at ${byte}`, byte);
  closeSync(fd);
  const spec = { kind: 'encrypt', source: 'huge.raw', target: 's3://images/huge.vol', rangeSize: '256MiB' };
  writeFileSync(at.path('jobs.jsonl'), JSON.stringify(spec));
  at.ok(['jobs', 'submit', 'jobs.jsonl']);

  const work = ['jobs', 'work', '--lock', '4', '--quiet'];
  const first = at.start(work);
  const gone = ended(first);
  let sent = 0;
  s3.onRequest = async (operation) => {
    if (operation !== 'UploadPart' || first.killed) return undefined;
    sent += 1;
    if (sent < 4) return undefined;
    await until(() => [...s3.uploads.values()].some(({ parts }) => parts.size > 0));
    first.kill('SIGKILL');
    return 'cut';
  };
  return { at, s3, work, gone };
}

describeUnless(skipWithout('redis-server', 'redis-cli'))('one image in ranges into S3', () => {
  test('a worker is killed in the middle: two others send what S3 does not have, and publish the object once', async () => {
    const { at, s3, work, gone } = await killedInTheMiddle();
    assert.equal((await gone).signal, 'SIGKILL');
    assert.ok(s3.objects.has(RECORD));
    assert.ok(!s3.objects.has('images/huge.vol'));
    const [upload] = [...s3.uploads.values()];
    const there = upload!.parts.size;
    assert.ok(there > 0 && there < PARTS, `${there} parts`);

    s3.requests.length = 0;
    const others = [1, 2].map(() => ended(at.start([...work, '--until-empty'])));
    for (const { status, stderr } of await Promise.all(others)) assert.equal(status, 0, stderr);
    await until(() => s3.uploads.size === 0);
    assert.equal(s3.requests.filter((name) => name === 'CreateMultipartUpload').length, 0);
    // Those under way when the first one was killed may have arrived since.
    assert.ok(s3.requests.filter((name) => name === 'UploadPart').length <= PARTS - there);
    assert.equal(s3.requests.filter((name) => name === 'CompleteMultipartUpload').length, 1);
    assert.deepEqual([...s3.objects.keys()], ['images/huge.vol']);
    writeFileSync(at.path('back.vol'), s3.objects.get('images/huge.vol')!.bytes);
    at.ok(['verify', 'back.vol', '--against', 'huge.raw']);
    const { counts } = JSON.parse(at.ok(['jobs', 'status', '--json']).text) as { counts: Record<string, number> };
    assert.deepEqual(counts, { waiting: 0, active: 0, delayed: 0, done: 1, failed: 0 });
  });

  test('the image changes while no worker is there: the upload is given up, and the next attempt makes the new image', async () => {
    const { at, s3, work, gone } = await killedInTheMiddle();
    await gone;
    s3.onRequest = () => undefined;
    utimesSync(at.path('huge.raw'), 1, 1);
    const other = at.start(work);
    const over = ended(other);
    const status = () => JSON.parse(at.ok(['jobs', 'status', '--json']).text) as { failures: object; counts: { failed: number } };
    await until(() => status().counts.failed === 1);
    other.kill('SIGTERM');
    await over;
    assert.deepEqual(status().failures, { ERR_SOURCE_CHANGED: 1 });
    assert.deepEqual([s3.uploads.size, s3.objects.size], [0, 0]);
    at.ok(['jobs', 'retry']);
    assert.equal((await ended(at.start([...work, '--until-empty']))).status, 0);
    writeFileSync(at.path('back.vol'), s3.objects.get('images/huge.vol')!.bytes);
    at.ok(['verify', 'back.vol', '--against', 'huge.raw']);
  });
});
