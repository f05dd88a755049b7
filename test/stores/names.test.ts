import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { describe, test } from 'vitest';
import { checkNewSnapshot, snapshotId } from '../../src/stores/ebs/location.js';
import { type Clock, Pace } from '../../src/stores/ebs/pace.js';
import { isStored, s3Location } from '../../src/stores/location.js';
import { combineCrc32, crc32Text } from '../../src/stores/s3/crc32.js';
import { partBytesFor } from '../../src/stores/s3/upload.js';

const MIB = 1024 * 1024;

describe('names of objects', () => {
  for (const [name, expected] of [
    ['s3://images/golden.vol', { bucket: 'images', key: 'golden.vol', versionId: undefined }],
    ['s3://images/a/b c?d', { bucket: 'images', key: 'a/b c?d', versionId: undefined }],
    ['s3://images/a?versionId=L4.kq_x', { bucket: 'images', key: 'a', versionId: 'L4.kq_x' }],
  ] as const) {
    test(name, () => assert.deepEqual(s3Location(name), { ...expected, name }));
  }

  for (const name of [
    's3://',
    's3://images',
    's3://images/',
    's3://a/b',
    's3://im ages/a',
    's3://images/a/',
    `s3://images/${'k'.repeat(1025)}`,
  ]) {
    test(`${name.slice(0, 40)} is refused by name`, () => {
      assert.throws(() => s3Location(name), { code: 'ERR_ARGUMENT', details: { path: name } });
    });
  }

  test('a file may have nearly such a name', () => {
    for (const path of ['./s3://images/a', 's3:/images/a', 'S3.vol']) assert.equal(isStored(path), false);
  });
});

test('the CRC-32 of pieces combines to that of the whole', () => {
  for (const [first, second] of [
    [0, 0],
    [0, 5],
    [5, 0],
    [1, 1],
    [100_003, 65_536],
    [3, 1_000_001],
  ] as const) {
    const whole = randomBytes(first + second);
    const [left, right] = [whole.subarray(0, first), whole.subarray(first)];
    assert.equal(combineCrc32(crc32(left), crc32(right), right.length), crc32(whole), `${first} + ${second}`);
  }
  // The check value of CRC-32/ISO-HDLC.
  assert.equal(crc32Text(crc32('123456789')), Buffer.from('cbf43926', 'hex').toString('base64'));
});

test('parts are whole MiB, 10,000 at most, and an image that does not fit is refused', () => {
  assert.equal(partBytesFor(1, 's3://b/k'), 16 * MIB);
  assert.equal(partBytesFor(160_000 * MIB, 's3://b/k'), 16 * MIB);
  assert.equal(partBytesFor(160_000 * MIB + 1, 's3://b/k'), 17 * MIB);
  assert.equal(partBytesFor(480_000 * MIB, 's3://b/k'), 48 * MIB);
  assert.throws(() => partBytesFor(480_000 * MIB + 1, 's3://b/k'), { code: 'ERR_IMAGE_SIZE' });
});

describe('names of snapshots', () => {
  test('one that is there, and one to make', () => {
    assert.equal(snapshotId('ebs:snap-0123456789abcdef0'), 'snap-0123456789abcdef0');
    assert.equal(snapshotId('ebs:snap-01234567'), 'snap-01234567');
    checkNewSnapshot('ebs:new');
    for (const path of ['ebs:new', 'ebs:snap-01234567', 'ebs:anything']) assert.equal(isStored(path), true);
    for (const path of ['./ebs:new', 'ebs', '/ebs:new']) assert.equal(isStored(path), false);
  });

  for (const name of ['ebs:', 'ebs:new', 'ebs:snap-', 'ebs:snap-0123456789ABCDEF0', 'ebs:snap-012345678', 'ebs:vol-0123456789abcdef0'])
    test(`${name} is no snapshot that is there`, () =>
      assert.throws(() => snapshotId(name), { code: 'ERR_ARGUMENT', details: { path: name } }));

  for (const name of ['ebs:', 'ebs:New', 'ebs:snap-0123456789abcdef0'])
    test(`${name} is no new snapshot`, () =>
      assert.throws(() => checkNewSnapshot(name), { code: 'ERR_ARGUMENT', details: { path: name } }));
});

test('requests have their turns, evenly, and late ones do not come in a burst', async () => {
  let nowMs = 0;
  const sentMs: number[] = [];
  const clock: Clock = {
    nowMs: () => nowMs,
    async sleep(ms) {
      nowMs += ms;
    },
  };
  const pace = new Pace(900, clock);
  const never = new AbortController().signal;
  for (let request = 0; request < 1800; request += 1) {
    await pace.turn(never);
    sentMs.push(nowMs);
  }
  nowMs += 60_000;
  for (let request = 0; request < 900; request += 1) {
    await pace.turn(never);
    sentMs.push(nowMs);
  }
  for (const [at, firstMs] of sentMs.entries()) {
    // Any second: the requests of it are as many as may be, and those that one wait is for.
    const inSecond = sentMs.slice(at).findIndex((ms) => ms >= firstMs + 1000);
    assert.ok((inSecond === -1 ? sentMs.length - at : inSecond) <= 905, `at ${at}`);
  }
  assert.ok(sentMs[1799]! <= 2000, 'no slower than it has to be');
});
