/**
 * `aws ebs` judges snapshots, through the strict fake (../stores/strict-ebs.ts): it lists and reads the blocks of one
 * that volseal has made, and makes one that volseal reads. cryptsetup opens a volume that was stored as it is.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { decryptImage, encryptImage, verifyVolume } from '../../src/index.js';
import { describeUnless } from '../requirements.js';
import { strictEbs } from '../stores/strict-ebs.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { requireTool, runTool, skipWithout } from './tools.js';

const SIGNER = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' };
Object.assign(process.env, SIGNER);
const MIB = 1024 * 1024;
const BLOCK = 512 * 1024;

/** Not synchronous: the fake answers from this process. */
async function aws(url: string, ...args: string[]): Promise<Record<string, unknown>> {
  const env = {
    ...{ PATH: process.env.PATH, HOME: process.env.HOME, ...SIGNER },
    ...{ AWS_DEFAULT_REGION: 'us-east-1', AWS_CONFIG_FILE: '/dev/null' },
  };
  const command = ['ebs', ...args, '--endpoint-url', url, '--output', 'json'];
  const child = spawn(requireTool('aws'), command, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (chunk) => {
      text[name] += chunk;
    });
  const [status] = await once(child, 'close');
  assert.equal(status, 0, text.stderr);
  return text.stdout === '' ? {} : JSON.parse(text.stdout);
}

const digestOf = (block: Uint8Array): string => createHash('sha256').update(block).digest('base64');

describeUnless(skipWithout('aws', 'cryptsetup'))('aws ebs and cryptsetup', () => {
  test('read back a volume that was stored as it is', async () => {
    const { kms, image, path } = sandbox();
    const ebs = await strictEbs();
    image('a.raw', 2 * MIB);
    await encryptImage(path('a.raw'), path('a.vol'), { kms });
    const store = { ebsEndpointUrl: ebs.url };
    const { snapshotId = '' } = await decryptImage(path('a.vol'), 'ebs:new', { kms, store, asIs: true, sparse: true });
    const listed = (await aws(ebs.url, 'list-snapshot-blocks', '--snapshot-id', snapshotId)) as {
      Blocks: { BlockIndex: number; BlockToken: string }[];
    };
    const back = Buffer.alloc(3 * MIB);
    for (const { BlockIndex, BlockToken } of listed.Blocks) {
      const block = ['--snapshot-id', snapshotId, '--block-index', String(BlockIndex), '--block-token', BlockToken];
      const { Checksum } = await aws(ebs.url, 'get-snapshot-block', ...block, path('block'));
      const bytes = readFileSync(path('block'));
      assert.equal(Checksum, digestOf(bytes));
      bytes.copy(back, BlockIndex * BLOCK);
    }
    writeFileSync(path('back.vol'), back);
    writeFileSync(path('vk'), await dataKeyOf(path('back.vol'), kms));
    runTool('cryptsetup', ['open', '--test-passphrase', '--volume-key-file', path('vk'), '--key-size', '512', path('back.vol')]);
    await verifyVolume(path('back.vol'), { kms, against: path('a.raw') });
  });

  test('make a snapshot that becomes a volume', async () => {
    const { kms, image, path } = sandbox();
    const ebs = await strictEbs();
    const { SnapshotId } = await aws(ebs.url, 'start-snapshot', '--volume-size', '1');
    const block = image('block', BLOCK);
    const about = ['--snapshot-id', String(SnapshotId), '--block-index', '3', '--data-length', String(BLOCK)];
    const sum = ['--checksum', digestOf(block), '--checksum-algorithm', 'SHA256'];
    await aws(ebs.url, 'put-snapshot-block', ...about, '--block-data', path('block'), ...sum);
    await aws(
      ebs.url,
      'complete-snapshot',
      '--snapshot-id',
      String(SnapshotId),
      '--changed-blocks-count',
      '1',
      ...[
        ...['--checksum', createHash('sha256').update(createHash('sha256').update(block).digest()).digest('base64')],
        ...['--checksum-algorithm', 'SHA256', '--checksum-aggregation-method', 'LINEAR'],
      ],
    );
    await encryptImage(`ebs:${SnapshotId}`, path('a.vol'), { kms, store: { ebsEndpointUrl: ebs.url } });
    const expected = Buffer.alloc(4 * BLOCK);
    block.copy(expected, 3 * BLOCK);
    writeFileSync(path('a.raw'), expected);
    truncateSync(path('a.raw'), 1024 * MIB);
    await verifyVolume(path('a.vol'), { kms, against: path('a.raw') });
  });
});
