/** Uploads to S3 that are interrupted and resumed, against the strict fake. Kills are in killed.test.ts. */
import assert from 'node:assert/strict';
import { utimesSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { hintFor } from '../../src/cli/hints/hints.js';
import type { VolsealError } from '../../src/errors.js';
import { decryptImage, type EncryptOptions, encryptImage, kmsKeys, runJob, verifyVolume } from '../../src/index.js';
import { native } from '../../src/native.js';
import { poolIsUsed } from '../../src/workers/pool.js';
import { until } from '../until.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { crcText, type StrictS3, strictS3 } from './strict-s3.js';

Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' });

const MIB = 1024 * 1024;
/** Five parts of 16 MiB, the last one short: as many as are under way at once. */
const IMAGE_BYTES = 66 * MIB + 512;
const PARTS = 5;
const TARGET = 's3://images/a.vol';
const RECORD = 'images/a.vol.volseal-resume';

interface Office {
  box: Sandbox;
  s3: StrictS3;
  options: EncryptOptions & { kms: string };
}

async function office(): Promise<Office> {
  const box = sandbox();
  const s3 = await strictS3('images');
  s3.partsPerPage = 2;
  return { box, s3, options: { kms: box.kms, store: { endpointUrl: s3.url }, resume: true } };
}

/** Runs `work` until S3 has all but one of `parts` parts, and aborts it with the last one under way. */
async function interrupt(s3: StrictS3, parts: number, work: (signal: AbortSignal) => Promise<unknown>): Promise<VolsealError> {
  const stop = new AbortController();
  let sent = 0;
  s3.onRequest = async (operation) => {
    if (operation !== 'UploadPart') return undefined;
    sent += 1;
    if (sent !== parts) return undefined;
    await until(() => [...s3.uploads.values()].some((upload) => upload.parts.size === parts - 1));
    stop.abort();
    return 'cut';
  };
  const error = await work(stop.signal).then(
    () => assert.fail('it was not interrupted'),
    (reason: VolsealError) => reason,
  );
  delete s3.onRequest;
  assert.equal(error.code, 'ERR_ABORTED', error.message);
  return error;
}

const uploadOf = (s3: StrictS3) => [...s3.uploads.values()][0] ?? assert.fail('there is no upload');
const sentParts = (s3: StrictS3): number => s3.requests.filter((name) => name === 'UploadPart').length;

/** An image and an upload of its volume that was interrupted, with all parts but one. */
async function interrupted(
  more: EncryptOptions = {},
): Promise<Office & { image: Buffer; encrypt: (also?: EncryptOptions) => ReturnType<typeof encryptImage> }> {
  const all = await office();
  const { box, s3, options } = all;
  const image = box.image('a.raw', IMAGE_BYTES);
  const encrypt = (also: EncryptOptions = {}) => encryptImage(box.path('a.raw'), TARGET, { ...options, ...more, ...also });
  await interrupt(s3, PARTS, (signal) => encrypt({ signal }));
  assert.ok(s3.objects.has(RECORD));
  assert.equal(uploadOf(s3).parts.size, PARTS - 1);
  s3.requests.length = 0;
  return { ...all, image, encrypt };
}

async function isRight({ box, s3, options }: Office, image: Buffer): Promise<void> {
  assert.equal(s3.uploads.size, 0);
  assert.equal(s3.objects.has(RECORD), false);
  writeFileSync(box.path('back.vol'), s3.objects.get('images/a.vol')!.bytes);
  writeFileSync(box.path('whole.raw'), image);
  await verifyVolume(box.path('back.vol'), { kms: options.kms, against: box.path('whole.raw') });
  assert.equal(poolIsUsed(), false);
  assert.equal(native.vaultInfo().liveKeys, 0);
}

describe('an interrupted upload goes on', () => {
  test('encrypt: what S3 has is not sent again; the wrapped key is the same', async () => {
    const all = await interrupted();
    const { s3, encrypt, image } = all;
    const there = uploadOf(s3).parts.size;
    const { header } = JSON.parse(s3.objects.get(RECORD)!.bytes.toString()) as { header: string };
    const warnings: string[] = [];
    await encrypt({ onWarning: (warning) => warnings.push(warning) });
    assert.equal(sentParts(s3), PARTS - there);
    assert.deepEqual(warnings, [`${TARGET}: resuming: ${there} of ${PARTS} parts are there`]);
    assert.ok(
      s3.objects
        .get('images/a.vol')!
        .bytes.subarray(0, 32 * 1024)
        .equals(Buffer.from(header, 'base64')),
    );
    await isRight(all, image);
  });

  test('what an abort says and hints at', async () => {
    const { box, s3, options } = await office();
    box.image('a.raw', IMAGE_BYTES);
    const error = await interrupt(s3, 2, (signal) => encryptImage(box.path('a.raw'), TARGET, { ...options, signal }));
    assert.match(error.message, /stopped on request; what was uploaded is kept, with the record s3:\/\/images\/a\.vol\.volseal-resume$/);
    const hint = hintFor({ code: error.code, details: error.details, command: 'encrypt' })!;
    assert.match(hint, /same command again.*aws s3 rm s3:\/\/images\/a\.vol\.volseal-resume.*--bucket images --prefix a\.vol/);
  });

  test('decrypt of a file and of an object, encrypt of an object', async () => {
    const { box, s3, options } = await office();
    const image = box.image('a.raw', IMAGE_BYTES);
    const { kms, store } = options;
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms });
    s3.put('images/from.vol', box.contents('a.vol'));
    s3.put('images/from.raw', image);
    const work: [string, (signal?: AbortSignal) => Promise<unknown>][] = [
      ['again.raw', (signal) => decryptImage(box.path('a.vol'), 's3://images/again.raw', { ...options, signal })],
      ['third.raw', (signal) => decryptImage('s3://images/from.vol', 's3://images/third.raw', { ...options, signal })],
      ['b.vol', (signal) => encryptImage('s3://images/from.raw', 's3://images/b.vol', { ...options, signal })],
    ];
    for (const [name, run] of work) {
      await interrupt(s3, PARTS, run);
      const there = uploadOf(s3).parts.size;
      s3.requests.length = 0;
      await run();
      assert.equal(sentParts(s3), PARTS - there, name);
      assert.equal(s3.objects.has(`images/${name}.volseal-resume`), false);
      if (name.endsWith('.raw')) assert.ok(s3.objects.get(`images/${name}`)!.bytes.equals(image), name);
      else await verifyVolume(`s3://images/${name}`, { kms, store, against: box.path('a.raw') });
    }
    assert.equal(s3.uploads.size, 0);
  });

  test('a volume as it is, from a file and from an object: without a key; parts that are not its own are sent again', async () => {
    const { box, s3, options } = await office();
    box.image('a.raw', IMAGE_BYTES);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: options.kms });
    const volume = box.contents('a.vol');
    s3.put('images/from.vol', volume);
    const copies = { store: options.store, resume: true, asIs: true };
    for (const [name, from] of [
      ['b.vol', box.path('a.vol')],
      ['c.vol', 's3://images/from.vol'],
    ] as const) {
      const copy = (signal?: AbortSignal) => decryptImage(from, `s3://images/${name}`, { ...copies, signal });
      await interrupt(s3, PARTS, copy);
      const { parts } = uploadOf(s3);
      const there = parts.size;
      // Somebody else's part of the same length.
      const [number, part] = [...parts][1]!;
      const other = { ...part, bytes: Buffer.from(part.bytes), etag: '"other"' };
      other.bytes[5]! ^= 1;
      other.crc = crcText(other.bytes);
      parts.set(number, other);
      s3.requests.length = 0;
      await copy();
      assert.equal(sentParts(s3), PARTS - there + 1);
      assert.ok(s3.objects.get(`images/${name}`)!.bytes.equals(volume));
      assert.equal(s3.objects.has(`images/${name}.volseal-resume`), false);
    }
    assert.equal(s3.uploads.size, 0);
  });

  test('a job of a fleet, whichever worker has it next', async () => {
    const all = await office();
    const { box, s3, options } = all;
    const image = box.image('a.raw', IMAGE_BYTES);
    const run = (signal?: AbortSignal) =>
      runJob({ kind: 'encrypt', source: box.path('a.raw'), target: TARGET, kms: box.kms }, { store: options.store, signal });
    await interrupt(s3, PARTS, run);
    const there = uploadOf(s3).parts.size;
    s3.requests.length = 0;
    const { outcome, volumeId } = await run();
    assert.equal(outcome, 'done');
    assert.equal(sentParts(s3), PARTS - there);
    await isRight(all, image);
    assert.deepEqual(await run().then((again) => [again.outcome, again.volumeId]), ['already', volumeId]);
  });

  test('a gap, a short part and one without a checksum are sent again', async () => {
    const all = await interrupted();
    const { parts } = uploadOf(all.s3);
    const numbers = [...parts.keys()].sort((one, other) => one - other);
    parts.delete(numbers[0]!);
    parts.get(numbers[1]!)!.bytes = parts.get(numbers[1]!)!.bytes.subarray(1);
    parts.get(numbers[2]!)!.crc = '';
    await all.encrypt();
    assert.equal(sentParts(all.s3), PARTS - (numbers.length - 3));
    await isRight(all, all.image);
  });

  test('after a store that failed for good, and again and again', async () => {
    const all = await interrupted();
    const { s3, encrypt, image } = all;
    s3.fail('UploadPart', ...Array.from({ length: 200 }, () => 'fail' as const));
    await assert.rejects(encrypt(), (error: VolsealError) => {
      assert.equal(error.code, 'ERR_STORE_UNREACHABLE');
      assert.match(hintFor({ code: error.code, details: error.details, command: 'encrypt' })!, /goes on from there/);
      return true;
    });
    s3.mend();
    s3.fail('ListParts', 'throttle', 'cut');
    s3.fail('GetObject', 'throttle', 'cutBody');
    await encrypt();
    await isRight(all, image);
  });

  test('a record whose reply was lost is still ours', async () => {
    const { box, s3, options } = await office();
    const image = box.image('a.raw', 20 * MIB);
    s3.fail('PutObject', 'lostReply');
    await encryptImage(box.path('a.raw'), TARGET, options);
    await isRight({ box, s3, options }, image);
  });

  test('completed, and only the record is left: it is found done', async () => {
    const { box, s3, options } = await office();
    const image = box.image('a.raw', 20 * MIB);
    const warnings: string[] = [];
    s3.fail('DeleteObject', 'deny');
    const first = await encryptImage(box.path('a.raw'), TARGET, { ...options, onWarning: (warning) => warnings.push(warning) });
    assert.match(warnings[0]!, /record of its upload is still there.*s3:DeleteObject/);
    s3.requests.length = 0;
    const second = await encryptImage(box.path('a.raw'), TARGET, options);
    assert.equal(second.volumeId, first.volumeId);
    assert.equal(sentParts(s3), 0);
    await isRight({ box, s3, options }, image);
  });
});

describe('what is refused, and what the hint leads to', () => {
  const refused = async (work: Promise<unknown>, why: RegExp, code = 'ERR_RESUME'): Promise<void> => {
    await assert.rejects(work, (error: VolsealError) => {
      assert.equal(error.code, code, error.message);
      assert.match(error.message, why);
      if (code === 'ERR_RESUME')
        assert.match(hintFor({ code, details: error.details, command: 'encrypt' })!, /aws s3 rm s3:\/\/images\/.*\.volseal-resume/);
      return true;
    });
  };

  test('a source that was changed; removing the record begins anew', async () => {
    const all = await interrupted();
    const { box, s3, encrypt } = all;
    utimesSync(box.path('a.raw'), 1, 1);
    await refused(encrypt(), /the source is not as it was: it was written to/);
    const image = box.image('a.raw', IMAGE_BYTES + 512);
    await refused(encrypt(), /the source is not as it was: it had/);
    assert.equal(s3.uploads.size, 1, 'what was uploaded is the user’s to remove');
    s3.objects.delete(RECORD);
    s3.uploads.clear();
    await encrypt();
    await isRight(all, image);
  });

  test('an object as the source that is another one now', async () => {
    const { box, s3, options } = await office();
    s3.put('images/a.raw', box.image('a', IMAGE_BYTES));
    const run = (signal?: AbortSignal) => encryptImage('s3://images/a.raw', TARGET, { ...options, signal });
    await interrupt(s3, PARTS, run);
    s3.put('images/a.raw', box.image('a', IMAGE_BYTES));
    await refused(run(), /it is another object, another version/);
  });

  test('another key, context, volume id, sector size; a run of decrypt', async () => {
    const all = await interrupted();
    const { box, encrypt, options, image } = all;
    const { createKey } = kmsKeys({ kms: box.kms });
    const { keyId } = await createKey();
    await refused(encrypt({ key: keyId }), /it was begun under the KMS key arn:.*, not under arn:/);
    await refused(encrypt({ encryptionContext: { user: 'mallory' } }), /begun with the encryption context/);
    await refused(encrypt({ volumeId: 'vol-0123456789abcdef0' }), /it is of the volume vol-[0-9a-f]{17}, not vol-0123456789abcdef0/);
    await refused(encrypt({ sectorBytes: 4096, pad: true }), /sectors of 512 bytes/);
    await encryptImage(box.path('a.raw'), box.path('other.vol'), { kms: options.kms });
    await refused(decryptImage(box.path('other.vol'), TARGET, options), /it is of a run of volseal encrypt/);
    await encrypt();
    await isRight(all, image);
  });

  test('a part that is not what the source gives', async () => {
    const { s3, encrypt } = await interrupted();
    const { parts } = uploadOf(s3);
    const last = Math.max(...parts.keys());
    parts.get(last)!.crc = 'AAAAAA==';
    await refused(encrypt(), new RegExp(`part ${last} is not what .*a\\.raw gives`));
  });

  test('forged records: none is believed, and none leads to another key', async () => {
    const all = await interrupted();
    const { s3, encrypt, image, box, options } = all;
    const good = s3.objects.get(RECORD)!.bytes.toString();
    const record = JSON.parse(good) as Record<string, unknown>;
    const put = (text: string) => s3.put(RECORD, Buffer.from(text));
    const forged = async (change: Record<string, unknown>, why: RegExp, code?: string): Promise<void> => {
      put(JSON.stringify({ ...record, ...change }));
      await refused(encrypt(), why, code);
    };
    put('{"version": 1');
    await refused(encrypt(), /its record is not JSON/);
    put('x'.repeat(300_000));
    await refused(encrypt(), /has 300000 bytes; the record of an upload has at most/);
    await forged({ version: 2 }, /its record is not valid: version/);
    await forged({ more: 1 }, /its record is not valid/);
    await forged({ uploadId: 'another' }, /its MAC does not hold/);
    await forged({ mark: '00000000-0000-4000-8000-000000000000' }, /its MAC does not hold/);
    await forged({ mac: Buffer.alloc(32).toString('base64') }, /its MAC does not hold/);
    await forged({ mac: '' }, /its MAC does not hold/);
    await forged({ partBytes: 8 * MIB }, /its parts have 8388608 bytes, not 16777216/);
    await forged({ object: 's3://images/b.vol' }, /its record is of s3:\/\/images\/b\.vol/);
    await forged({ header: '' }, /LUKS2/);

    // A record that somebody made with a key of their own, of the same source: complete, and its MAC holds.
    const interruptedWith = async (more: EncryptOptions): Promise<Record<string, unknown>> => {
      s3.objects.delete(RECORD);
      await interrupt(s3, PARTS, (signal) => encryptImage(box.path('a.raw'), TARGET, { ...options, ...more, signal }));
      return JSON.parse(s3.objects.get(RECORD)!.bytes.toString()) as Record<string, unknown>;
    };
    const { keyArn: arn } = await kmsKeys({ kms: box.kms }).createKey();
    await interruptedWith({ key: arn });
    await refused(encrypt(), new RegExp(`begun under the KMS key ${arn}`));
    // Another volume under the right key, with the MAC of this one.
    const { header, volumeId, uuid } = await interruptedWith({});
    await forged({ header, volumeId, uuid }, /its MAC does not hold/);

    for (const id of s3.uploads.keys()) if (id !== record.uploadId) s3.uploads.delete(id);
    put(good);
    await encrypt();
    await isRight(all, image);
  });

  test('an upload that is gone', async () => {
    const all = await interrupted();
    const { s3, encrypt, image } = all;
    s3.uploads.clear();
    await refused(encrypt(), /its upload is gone: something has aborted it, perhaps a lifecycle rule/);
    s3.objects.delete(RECORD);
    await encrypt();
    await isRight(all, image);
  });

  test('an upload that goes while parts are sent', async () => {
    const { s3, encrypt } = await interrupted();
    s3.onRequest = (operation) => {
      if (operation === 'UploadPart') s3.uploads.clear();
    };
    await refused(encrypt(), /its upload is gone/);
  });

  test('an object that came meanwhile stays, and the upload too', async () => {
    const all = await interrupted();
    const { s3, encrypt, image } = all;
    const other = Buffer.from('somebody else was faster');
    s3.put('images/a.vol', other);
    await refused(encrypt(), /there is such an object already/, 'ERR_TARGET_EXISTS');
    assert.ok(s3.objects.get('images/a.vol')!.bytes.equals(other));
    await encrypt({ force: true });
    await isRight(all, image);
  });

  test('a source that changes while it is read: nothing can go on, so nothing is kept', async () => {
    const { box, s3, options } = await office();
    box.image('a.raw', IMAGE_BYTES);
    s3.onRequest = (operation) => {
      if (operation === 'UploadPart') utimesSync(box.path('a.raw'), 1, 1);
    };
    await refused(encryptImage(box.path('a.raw'), TARGET, options), /was changed while it was read/, 'ERR_SOURCE_CHANGED');
    assert.equal(s3.uploads.size + s3.objects.size, 0);
  });

  test('a volume that changes while it is copied as it is: no object', async () => {
    const { box, s3, options } = await office();
    box.image('a.raw', MIB);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: options.kms });
    let writes = 0;
    s3.onRequest = (operation) => {
      if (operation !== 'UploadPart') return;
      writes += 1;
      utimesSync(box.path('a.vol'), writes, writes);
    };
    for (const resume of [false, true]) {
      const copy = decryptImage(box.path('a.vol'), TARGET, { store: options.store, asIs: true, resume });
      await refused(copy, /was changed while it was read/, 'ERR_SOURCE_CHANGED');
      assert.equal(s3.uploads.size + s3.objects.size, 0);
    }
  });

  test('jobs that cannot be resumed', async () => {
    const { box, s3, options } = await office();
    const { kms } = options;
    s3.put('images/a.raw', box.image('a.raw', MIB));
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms });
    const snapshots = /a new snapshot can be resumed only where decrypt makes it of a volume in a file/;
    await refused(encryptImage(box.path('a.raw'), 'ebs:new', options), snapshots, 'ERR_ARGUMENT');
    await refused(decryptImage('s3://images/a.vol', 'ebs:new', options), snapshots, 'ERR_ARGUMENT');
    await refused(decryptImage('s3://images/a.vol', 'ebs:new', { ...options, asIs: true }), snapshots, 'ERR_ARGUMENT');
    for (const more of [{ fsync: false }, { sha256: true }])
      await refused(decryptImage('s3://images/a.vol', box.path('b.raw'), { ...options, ...more }), /cannot be resumed/, 'ERR_ARGUMENT');
    await refused(encryptImage(box.path('a.raw'), TARGET, { ...options, sha256: true }), /SHA-256 cannot begin/, 'ERR_ARGUMENT');
    const long = `s3://images/${'k'.repeat(1020)}`;
    await refused(encryptImage(box.path('a.raw'), long, options), /key has more than 1024 bytes/, 'ERR_ARGUMENT');
    assert.equal(s3.uploads.size, 0);
  });
});

describe('two at once', () => {
  const busy = (outcome: PromiseSettledResult<unknown>): boolean =>
    outcome.status === 'rejected' && ['ERR_STATE_BUSY', 'ERR_TARGET_EXISTS'].includes((outcome.reason as VolsealError).code);

  test('one begins an upload, the other is told; nothing of it stays', async () => {
    const { box, s3, options } = await office();
    const image = box.image('a.raw', 40 * MIB);
    let puts = 0;
    // Both have seen that there is no record before either puts one.
    s3.onRequest = async (operation) => {
      if (operation !== 'PutObject') return;
      puts += 1;
      await until(() => puts >= 2);
    };
    const outcomes = await Promise.allSettled([1, 2].map(() => encryptImage(box.path('a.raw'), TARGET, options)));
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.deepEqual(
      outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [(outcome.reason as VolsealError).code] : [])),
      ['ERR_STATE_BUSY'],
    );
    await isRight({ box, s3, options }, image);
  });

  test('both go on with one upload: the same bytes under the same key', async () => {
    const all = await interrupted();
    const outcomes = await Promise.allSettled([1, 2, 3].map(() => all.encrypt()));
    assert.ok(outcomes.some(({ status }) => status === 'fulfilled'));
    for (const outcome of outcomes)
      assert.ok(outcome.status === 'fulfilled' || busy(outcome), String((outcome as { reason?: unknown }).reason));
    await isRight(all, all.image);
  });

  test('one that finds the upload completed by the other has succeeded as well', async () => {
    const all = await interrupted();
    let others = 0;
    all.s3.onRequest = async (operation) => {
      if (operation !== 'CompleteMultipartUpload') return;
      others += 1;
      if (others === 1) await all.encrypt();
    };
    await all.encrypt();
    assert.equal(others, 2);
    await isRight(all, all.image);
  });
});
