/**
 * Stock tools judge what is in S3: `aws s3api` reads a volume back and puts an image, cryptsetup opens what came back.
 * Where the machine has moto_server, an S3 that somebody else wrote, it takes the same uploads; it is never required.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { onTestFinished, test } from 'vitest';
import { decryptImage, encryptImage, readStoredRange, verifyVolume } from '../../src/index.js';
import { freePort } from '../free-port.js';
import { describeUnless, testUnless } from '../requirements.js';
import { strictS3 } from '../stores/strict-s3.js';
import { until } from '../until.js';
import { dataKeyOf, type Sandbox, sandbox } from '../volume/sandbox.js';
import { requireTool, runTool, skipWithout } from './tools.js';

const SIGNER = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' };
Object.assign(process.env, SIGNER);
const MIB = 1024 * 1024;

/** Not synchronous: the fake answers from this process. */
async function aws(url: string, ...args: string[]): Promise<void> {
  const env = {
    ...{ PATH: process.env.PATH, HOME: process.env.HOME, ...SIGNER },
    ...{ AWS_DEFAULT_REGION: 'us-east-1', AWS_CONFIG_FILE: '/dev/null', AWS_REQUEST_CHECKSUM_CALCULATION: 'when_required' },
  };
  const child = spawn(requireTool('aws'), ['s3api', ...args, '--endpoint-url', url], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const [status] = await once(child, 'close');
  assert.equal(status, 0, stderr);
}

/** An image of three parts goes there and comes back, each way by the other program. */
async function thereAndBack(box: Sandbox, url: string): Promise<void> {
  const { kms } = box;
  const store = { endpointUrl: url };
  const image = box.image('a.raw', 40 * MIB);
  await encryptImage(box.path('a.raw'), 's3://images/a.vol', { kms, store });
  await aws(url, 'get-object', '--bucket', 'images', '--key', 'a.vol', box.path('a.vol'));
  writeFileSync(box.path('vk'), await dataKeyOf(box.path('a.vol'), kms));
  runTool('cryptsetup', ['open', '--test-passphrase', '--volume-key-file', box.path('vk'), '--key-size', '512', box.path('a.vol')]);
  await verifyVolume(box.path('a.vol'), { kms, against: box.path('a.raw') });

  await aws(url, 'put-object', '--bucket', 'images', '--key', 'b.raw', '--body', box.path('a.raw'));
  await encryptImage('s3://images/b.raw', 's3://images/b.vol', { kms, store });
  await decryptImage('s3://images/b.vol', 's3://images/again.raw', { kms, store });
  await aws(url, 'get-object', '--bucket', 'images', '--key', 'again.raw', box.path('again.raw'));
  assert.ok(box.contents('again.raw').equals(image));
  const { readBytes } = await readStoredRange(
    's3://images/b.vol',
    { offsetBytes: 17 * MIB, lengthBytes: 5000 },
    { kms, store },
    async (pieces) => {
      for await (const piece of pieces) assert.ok(image.subarray(17 * MIB, 17 * MIB + 5000).equals(piece));
    },
  );
  assert.equal(readBytes, 5000);
}

describeUnless(skipWithout('aws', 'cryptsetup'))('aws s3api and cryptsetup', () => {
  test('read back what was uploaded, through the strict fake', async () => {
    await thereAndBack(sandbox(), (await strictS3('images')).url);
  });

  testUnless(motoIsThere() ? false : 'moto_server is not on this machine')('and through moto', async () => {
    const port = await freePort();
    const server = spawn('moto_server', ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' });
    onTestFinished(() => void server.kill());
    const url = `http://127.0.0.1:${port}`;
    await until(() =>
      fetch(url).then(
        () => true,
        () => false,
      ),
    );
    await aws(url, 'create-bucket', '--bucket', 'images');
    await thereAndBack(sandbox(), url);
  });
});

function motoIsThere(): boolean {
  try {
    return requireTool('moto_server') !== '';
  } catch {
    return false;
  }
}
