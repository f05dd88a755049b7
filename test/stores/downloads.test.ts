/** What is in S3 on its way into files, interrupted and resumed, against the strict fake (strict-s3.ts). */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { decryptImage, encryptImage, type VolsealError, verifyVolume } from '../../src/index.js';
import { native } from '../../src/native.js';
import { poolIsUsed } from '../../src/workers/pool.js';
import { skipWithoutMount, smallDisk } from '../mount.js';
import { testUnless } from '../requirements.js';
import { until } from '../until.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { type StrictS3, strictS3 } from './strict-s3.js';

Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' });

const MIB = 1024 * 1024;
/** Ten pieces of 16 MiB, of which six are under way at once. */
const IMAGE_BYTES = 148 * MIB + 512;
const PIECES = 10;

interface Case {
  readonly name: string;
  /** The file that comes; and how much of it is in front of the data. */
  readonly target: string;
  readonly frontBytes: number;
  /** The object that is read. */
  readonly object: string;
  readonly run: (more?: object) => Promise<unknown>;
  /** Whether the file is what it is to be. */
  readonly isRight: () => Promise<void>;
}

interface Office {
  readonly box: Sandbox;
  readonly s3: StrictS3;
  readonly cases: readonly Case[];
}

async function office(): Promise<Office> {
  const box = sandbox();
  const s3 = await strictS3('images');
  const image = box.image('a.raw', IMAGE_BYTES);
  const { kms } = box;
  await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms });
  s3.put('images/a.vol', box.contents('a.vol'));
  s3.put('images/a.raw', image);
  const options = { kms, store: { endpointUrl: s3.url }, resume: true };
  const [raw, volume, data] = ['b.raw', 'b.vol', 'c.data'].map((name) => box.path(name)) as [string, string, string];
  const header = box.path('c.header');
  const against = box.path('a.raw');
  const cases: Case[] = [
    {
      ...{ name: 'decrypt', target: raw, frontBytes: 0, object: 'images/a.vol' },
      run: (more = {}) => decryptImage('s3://images/a.vol', raw, { ...options, ...more }),
      isRight: async () => assert.ok(readFileSync(raw).equals(image)),
    },
    {
      ...{ name: 'encrypt', target: volume, frontBytes: MIB, object: 'images/a.raw' },
      run: (more = {}) => encryptImage('s3://images/a.raw', volume, { ...options, ...more }),
      isRight: async () => void (await verifyVolume(volume, { kms, against })),
    },
    {
      ...{ name: 'encrypt with a detached header', target: data, frontBytes: 0, object: 'images/a.raw' },
      run: (more = {}) => encryptImage('s3://images/a.raw', data, { ...options, header, ...more }),
      isRight: async () => void (await verifyVolume(data, { kms, header, against })),
    },
  ];
  return { box, s3, cases };
}

const partialOf = (target: string): string => target.replace(/([^/]+)$/, '.$1.resume');
const checkpointOf = (target: string): string => `${partialOf(target)}.json`;

const PIECE_BYTES = 16 * MIB;
/** So many pieces are there when the others fail. */
const THERE = 8;

/** Whether a request is for one of the last pieces; a look at the end of an image is shorter. */
const isLate = (range: string | undefined): boolean =>
  lengthOf(range) > MIB && Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0) >= THERE * PIECE_BYTES;

/** Runs `work` until the first pieces are there; then `fault` comes over the others. */
async function interrupt(s3: StrictS3, work: (more: object) => Promise<unknown>, fault: 'abort' | 'deny' = 'abort'): Promise<void> {
  const stop = new AbortController();
  let done = 0;
  s3.onRequest = async (operation, range) => {
    if (operation !== 'GetObject' || !isLate(range)) return undefined;
    await until(() => done >= THERE * PIECE_BYTES);
    if (fault === 'deny') return 'deny';
    stop.abort();
    return 'cut';
  };
  const onProgress = ({ doneBytes }: { doneBytes: number }): void => {
    done = doneBytes;
  };
  const code = fault === 'deny' ? 'ERR_STORE_DENIED' : 'ERR_ABORTED';
  await assert.rejects(work({ signal: stop.signal, onProgress }), { code });
  delete s3.onRequest;
}

describe('a download that was interrupted goes on', () => {
  for (const [index, name] of ['decrypt', 'encrypt', 'encrypt with a detached header'].entries()) {
    test(`${name}: what is there is not fetched again`, async () => {
      const { s3, cases } = await office();
      const { target, run, isRight } = cases[index]!;
      await interrupt(s3, run);
      assert.ok(existsSync(partialOf(target)));
      assert.equal(existsSync(target), false);
      const warnings: string[] = [];
      let pieces = 0;
      s3.onRequest = (operation, range) => {
        if (operation === 'GetObject' && lengthOf(range) > MIB) pieces += 1;
      };
      await run({ onWarning: (warning: string) => warnings.push(warning) });
      assert.match(warnings.join(), new RegExp(`resuming at byte ${THERE * PIECE_BYTES} `));
      assert.equal(pieces, PIECES - THERE);
      await isRight();
      assert.equal(existsSync(partialOf(target)), false);
      assert.equal(poolIsUsed(), false);
      assert.equal(native.vaultInfo().liveKeys, 0);
    });

    test(`${name}: another object, or a partial file that was changed, is refused`, async () => {
      const { s3, cases } = await office();
      const { target, frontBytes, object, run, isRight } = cases[index]!;
      await interrupt(s3, run);
      const partial = partialOf(target);
      const before = readFileSync(partial);
      const refused = (message: RegExp) =>
        assert.rejects(run(), (error: VolsealError) => {
          assert.equal(error.code, 'ERR_RESUME', error.message);
          assert.match(error.message, message);
          return true;
        });
      const { etag } = s3.objects.get(object)!;
      s3.objects.get(object)!.etag = '"other"';
      await refused(/another object/);
      s3.objects.get(object)!.etag = etag;

      // Of the last part that counts as done.
      const safeBytes = Number(JSON.parse(readFileSync(checkpointOf(target), 'utf8')).safeBytes);
      const changed = Buffer.from(before);
      changed[frontBytes + safeBytes - 1]! ^= 1;
      writeFileSync(partial, changed);
      await refused(/does not give/);
      writeFileSync(partial, before);
      await run();
      await isRight();
      assert.ok(statSync(target).size > 0);
    });
  }

  test('a request that fails for good keeps what is there', async () => {
    const { s3, cases } = await office();
    const { target, run, isRight } = cases[0]!;
    await interrupt(s3, run, 'deny');
    assert.ok(existsSync(partialOf(target)));
    await run();
    await isRight();
  });

  test('a job that begins anew leaves the interrupted one, and another job does not take it up', async () => {
    const { box, s3, cases } = await office();
    const { target, run, isRight } = cases[0]!;
    await interrupt(s3, run);
    const { kms } = box;
    const store = { endpointUrl: s3.url };
    await assert.rejects(encryptImage('s3://images/a.raw', target, { kms, store, resume: true }), { code: 'ERR_RESUME' });
    await decryptImage('s3://images/a.vol', target, { kms, store });
    await isRight();
  });
});

testUnless(skipWithoutMount())('onto a disk that is too small: it says so before it is full', async () => {
  const { box, s3 } = await office();
  smallDisk(box.path('small'), 64 * MIB);
  const options = { kms: box.kms, store: { endpointUrl: s3.url } };
  s3.onRequest = (_, range) => assert.ok(lengthOf(range) <= MIB, 'no piece is fetched');
  for (const [target, work] of [
    ['b.raw', (path: string) => decryptImage('s3://images/a.vol', path, options)],
    ['b.vol', (path: string) => encryptImage('s3://images/a.raw', path, options)],
    ['c.vol', (path: string) => encryptImage('s3://images/a.raw', path, { ...options, resume: true })],
  ] as const) {
    const path = box.path(`small/${target}`);
    await assert.rejects(work(path), ({ code, details }: VolsealError) => {
      assert.deepEqual([code, details.errno], ['ERR_IO', 'ENOSPC']);
      return true;
    });
    assert.equal(existsSync(path), false);
  }
});

/** Bytes of a range. */
function lengthOf(range: string | undefined): number {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
  return last === undefined ? 0 : Number(last) - Number(first) + 1;
}
