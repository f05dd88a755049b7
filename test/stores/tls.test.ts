/** S3 over TLS, by the program: what is signed, what faults do to it, and how much memory an upload takes. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { ended, type Lab, lab } from '../cli/program.js';
import { selfSigned } from '../kms/client/fake-server.js';
import { type Fault, type StrictS3, strictS3, strictS3Over } from './strict-s3.js';

const MIB = 1024 * 1024;

interface Office {
  readonly box: Lab;
  readonly s3: StrictS3;
  /** Runs `volseal`, which must succeed. `pid`: of the run under way. */
  ok(...args: string[]): Promise<void>;
  pid: number | undefined;
}

async function office(secure: boolean): Promise<Office> {
  const box = lab();
  const { key, cert, certPath } = selfSigned(box.directory);
  const s3 = secure ? await strictS3Over({ key, cert }, 'images') : await strictS3('images');
  const env = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example', AWS_ENDPOINT_URL_S3: s3.url };
  const made: Office = {
    ...{ box, s3, pid: undefined },
    async ok(...args) {
      const child = box.start(args, { ...env, NODE_EXTRA_CA_CERTS: certPath });
      made.pid = child.pid;
      const { status, stderr } = await ended(child);
      assert.equal(status, 0, stderr);
    },
  };
  return made;
}

describe('S3 over TLS', () => {
  const faults: [operation: string, faults: Fault[]][] = [
    ['UploadPart', []],
    ['UploadPart', ['flip', 'cut', 'throttle', 'lostReply', 'fail']],
    ['GetObject', ['cutBody', 'cut', 'throttle']],
  ];
  for (const [operation, list] of faults) {
    test(`there and back, ${operation}: ${list.join(', ') || 'no fault'}`, async () => {
      const { box, s3, ok } = await office(true);
      const image = box.image('a.raw', 35 * MIB + 512);
      s3.fail(operation, ...list);
      await ok('encrypt', 'a.raw', 's3://images/a.vol');
      await ok('decrypt', 's3://images/a.vol', 'again.raw');
      assert.ok(box.contents('again.raw').equals(image));
      assert.ok(s3.payloads.length >= 3);
      assert.deepEqual([...new Set(s3.payloads)], ['UNSIGNED-PAYLOAD'], 'TLS protects the bytes, and each part has its CRC-32');
    });
  }

  test('without TLS the bodies are signed', async () => {
    const { box, s3, ok } = await office(false);
    box.image('a.raw', 17 * MIB);
    await ok('encrypt', 'a.raw', 's3://images/a.vol');
    assert.equal(s3.payloads.length, 2);
    for (const hash of s3.payloads) assert.match(hash, /^[0-9a-f]{64}$/);
  });

  test('an upload takes its buffers, and no second copy of them', async () => {
    const run = await office(true);
    const { box, s3, ok } = run;
    box.image('a.raw', 20 * 16 * MIB);
    const most: number[] = [];
    s3.onRequest = (operation) => {
      if (operation === 'CompleteMultipartUpload') most.push(peakBytes(run.pid!));
    };
    await ok('encrypt', 'a.raw', 's3://images/a.vol');
    // Six parts of 16 MiB, Node, the SDK and what the garbage collector has not seen yet.
    assert.equal(most.length, 1);
    assert.ok(most[0]! < 300 * MIB, `${Math.round(most[0]! / MIB)} MiB were resident`);
  });
});

/** The most that was resident of a process. */
const peakBytes = (pid: number): number => 1024 * Number(/VmHWM:\s*(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
