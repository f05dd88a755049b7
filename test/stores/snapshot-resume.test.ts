/** Snapshots that are interrupted and resumed (`decrypt VOLUME ebs:new --resume`), against the strict fake. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { hintFor } from '../../src/cli/hints/hints.js';
import type { VolsealError } from '../../src/errors.js';
import { type DecryptOptions, decryptImage, encryptImage } from '../../src/index.js';
import { native } from '../../src/native.js';
import { poolIsUsed } from '../../src/workers/pool.js';
import { ended, lab } from '../cli/program.js';
import { sandbox } from '../volume/sandbox.js';
import { type StrictEbs, strictEbs } from './strict-ebs.js';

const SIGNER = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' };
Object.assign(process.env, SIGNER);

const MIB = 1024 * 1024;
const BLOCK = 512 * 1024;
/** Blocks of a snapshot of 1 GiB, which is the smallest. */
const BLOCKS = 2048;
const IMAGE_BYTES = 200 * MIB + 512;
/** Behind them the snapshot has blocks of zeros. */
const IMAGE_BLOCKS = Math.ceil(IMAGE_BYTES / BLOCK);
const RECORD = '.a.vol.snapshot-resume';

async function office() {
  const box = sandbox();
  const ebs = await strictEbs();
  const image = box.image('a.raw', IMAGE_BYTES);
  await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
  const options: DecryptOptions = { kms: box.kms, store: { ebsEndpointUrl: ebs.url }, resume: true };
  const decrypt = (more: DecryptOptions = {}) => decryptImage(box.path('a.vol'), 'ebs:new', { ...options, ...more });
  return { box, ebs, image, decrypt, record: box.path(RECORD) };
}

/** The blocks that are sent from now on, each once: a request whose connection breaks off is made again. */
function blocksFromNow(ebs: StrictEbs): Set<number> {
  const indexes = new Set<number>();
  ebs.onRequest = (operation, index) => void (operation === 'PutSnapshotBlock' && indexes.add(index));
  return indexes;
}

const pendingOf = ({ snapshots }: StrictEbs): string => [...snapshots].find(([, { state }]) => state === 'pending')![0];

/** How many blocks EBS has before the first that is missing. */
function blocksInFront(ebs: StrictEbs): number {
  const { blocks } = ebs.snapshots.get(pendingOf(ebs))!;
  let count = 0;
  while (blocks.has(count)) count += 1;
  return count;
}

/** Stops at the `blocks`-th block. */
async function interrupt(ebs: StrictEbs, blocks: number, work: (signal: AbortSignal) => Promise<unknown>): Promise<VolsealError> {
  const stop = new AbortController();
  let puts = 0;
  ebs.onRequest = (operation) => {
    if (operation !== 'PutSnapshotBlock') return;
    puts += 1;
    if (puts === blocks) stop.abort();
  };
  const error = await work(stop.signal).then(
    () => assert.fail('it was not interrupted'),
    (reason: VolsealError) => reason,
  );
  ebs.onRequest = undefined;
  assert.equal(error.code, 'ERR_ABORTED', error.message);
  return error;
}

/** How many blocks the record says were sent. */
const recorded = (record: string): number => Number(readFileSync(record, 'utf8').split('\n')[1]);

/**
 * Stops runs at their `blocks`-th block until the record has more than `least`. One block can be late for seconds on a
 * busy machine while others overtake it, and the record counts up to the first whose reply is missing.
 */
async function interruptBehind(
  { ebs, decrypt, record }: Awaited<ReturnType<typeof office>>,
  least: number,
  blocks: number,
): Promise<VolsealError> {
  let sent = 0;
  for (let run = 1; ; run += 1) {
    const error = await interrupt(ebs, blocks, (signal) => decrypt({ signal }));
    assert.ok(recorded(record) >= sent, 'what is known is not forgotten');
    sent = recorded(record);
    assert.ok(sent <= blocksInFront(ebs), 'what is known is there');
    if (sent > least) return error;
    assert.ok(run < 10, `${sent} blocks are known to be there after ${run} runs`);
  }
}

const refused = async (work: Promise<unknown>, why: RegExp, code = 'ERR_RESUME'): Promise<void> => {
  await assert.rejects(work, (error: VolsealError) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, why);
    if (code === 'ERR_RESUME')
      assert.match(
        hintFor({ code, details: error.details, command: 'decrypt' })!,
        /rm .*snapshot-resume.*aws ec2 delete-snapshot --snapshot-id snap/i,
      );
    return true;
  });
};

function isRight(ebs: StrictEbs, id: string, image: Buffer): void {
  assert.equal(ebs.snapshots.get(id)!.state, 'completed');
  assert.equal(ebs.snapshots.get(id)!.blocks.size, BLOCKS);
  assert.ok(ebs.contents(id).subarray(0, image.length).equals(image));
  assert.equal(poolIsUsed(), false);
  assert.equal(native.vaultInfo().liveKeys, 0);
}

describe('an interrupted snapshot goes on', () => {
  test('what was sent is not sent again, and EBS compares all of it', async () => {
    const job = await office();
    const { ebs, image, decrypt, record } = job;
    const error = await interruptBehind(job, 200, 300);
    assert.match(error.message, /stopped on request; what was sent is kept for a day, with the record .*snapshot-resume$/);
    assert.match(hintFor({ code: error.code, details: error.details, command: 'decrypt' })!, /run the same command again/);
    const id = pendingOf(ebs);
    assert.equal(ebs.snapshots.get(id)!.request.Timeout, 24 * 60);
    const sent = recorded(record);
    const indexes = blocksFromNow(ebs);
    const warnings: string[] = [];
    const made = await decrypt({ onWarning: (warning) => warnings.push(warning) });
    assert.equal(made.snapshotId, id);
    assert.equal(ebs.snapshots.size, 1);
    assert.equal(Math.min(...indexes), sent);
    assert.equal(indexes.size, BLOCKS - sent);
    assert.match(warnings[0]!, new RegExp(`resuming: ${sent} blocks were sent`));
    assert.equal(existsSync(record), false);
    isRight(ebs, id, image);
  });

  test('interrupted again and again, at the end behind the image', async () => {
    const job = await office();
    await interrupt(job.ebs, 100, (signal) => job.decrypt({ signal }));
    await interruptBehind(job, IMAGE_BLOCKS, 1000);
    const sent = recorded(job.record);
    const indexes = blocksFromNow(job.ebs);
    const made = await job.decrypt();
    assert.equal(indexes.size, BLOCKS - sent);
    isRight(job.ebs, made.snapshotId!, job.image);
  });

  test('a copy of the volume as it is, without its key', async () => {
    const { box, ebs, decrypt, record } = await office();
    const volume = readFileSync(box.path('a.vol'));
    const copy = { asIs: true, sparse: true, kms: undefined };
    await interrupt(ebs, 200, (signal) => decrypt({ ...copy, signal }));
    const id = pendingOf(ebs);
    const [facts = '', count] = readFileSync(record, 'utf8').split('\n');
    assert.equal(JSON.parse(facts).mac, '');
    await refused(decrypt(), /not written by somebody with the key/);
    await refused(decrypt({ asIs: true }), /was begun with/);
    const indexes = blocksFromNow(ebs);
    const made = await decrypt(copy);
    assert.equal(made.snapshotId, id);
    const blocks = Array.from({ length: Math.ceil(volume.length / BLOCK) }, (_, index) =>
      volume.subarray(index * BLOCK, (index + 1) * BLOCK),
    );
    const left = blocks.flatMap((block, index) => (index >= Number(count) && block.some((byte) => byte !== 0) ? [index] : []));
    assert.deepEqual(indexes, new Set(left));
    assert.equal(existsSync(record), false);
    assert.ok(ebs.contents(id).subarray(0, volume.length).equals(volume));
    assert.equal(native.vaultInfo().liveKeys, 0);
  });

  test('a copy does not go on with the snapshot of an image', async () => {
    const { ebs, decrypt } = await office();
    await interrupt(ebs, 100, (signal) => decrypt({ signal }));
    await refused(decrypt({ asIs: true }), /was begun with/);
  });

  test('the program, killed with SIGKILL', async () => {
    const box = lab();
    const ebs = await strictEbs();
    const image = box.image('a.raw', IMAGE_BYTES);
    box.ok(['encrypt', 'a.raw', 'a.vol']);
    const env = { ...SIGNER, AWS_ENDPOINT_URL_EBS: ebs.url, AWS_REGION: 'us-east-1' };
    for (const blocks of [60, 500, 700]) {
      const child = box.start(['decrypt', 'a.vol', 'ebs:new', '--resume'], env);
      let puts = 0;
      ebs.onRequest = (operation) => {
        if (operation !== 'PutSnapshotBlock') return;
        puts += 1;
        if (puts === blocks) child.kill('SIGKILL');
      };
      assert.equal((await ended(child)).signal, 'SIGKILL');
      assert.equal(ebs.snapshots.size, 1, 'one snapshot, however often it is begun again');
    }
    ebs.onRequest = undefined;
    const { status, stderr } = await ended(box.start(['decrypt', 'a.vol', 'ebs:new', '--resume'], env));
    assert.equal(status, 0, stderr);
    const [id] = [...ebs.snapshots.keys()];
    isRight(ebs, id!, image);
    assert.equal(existsSync(box.path(RECORD)), false);
  });

  test('completed, and only the record is left: it is found done', async () => {
    const { box, ebs, image, decrypt, record } = await office();
    let text = Buffer.alloc(0);
    ebs.onRequest = (operation) => {
      if (operation === 'CompleteSnapshot') text = readFileSync(record);
    };
    const first = await decrypt();
    writeFileSync(box.path(RECORD), text, { mode: 0o600 });
    const indexes = blocksFromNow(ebs);
    const second = await decrypt();
    assert.equal(second.snapshotId, first.snapshotId);
    assert.equal(indexes.size, 0);
    assert.equal(existsSync(record), false);
    isRight(ebs, first.snapshotId!, image);
  });
});

describe('what is refused', () => {
  test('a volume that was changed, other choices, a forged record, one that others may write to', async () => {
    const { box, ebs, image, decrypt, record } = await office();
    await interrupt(ebs, 100, (signal) => decrypt({ signal, snapshot: { description: 'golden' } }));
    const good = readFileSync(record, 'utf8');
    await refused(decrypt({ snapshot: { description: 'other' } }), /the snapshot was begun with \{"description":"golden"/);
    const forged = async (text: string, why: RegExp): Promise<void> => {
      writeFileSync(record, text);
      await refused(decrypt({ snapshot: { description: 'golden' } }), why);
    };
    await forged('{\n', /it is not JSON/);
    await forged(`${JSON.stringify({ version: 1 })}\n`, /it is not valid/);
    await forged(good.replace(/snap-0[0-9a-f]{16}/, 'snap-00000000000000000'), /was not written by somebody with the key of this volume/);
    writeFileSync(record, good);
    chmodSync(record, 0o660);
    await refused(decrypt({ snapshot: { description: 'golden' } }), /not a file of this user alone/);
    chmodSync(record, 0o600);

    // A count that lies makes blocks missing, and EBS refuses the snapshot.
    writeFileSync(record, good.replace(/\d{16}$/, '0000000000002000'));
    await refused(decrypt({ snapshot: { description: 'golden' } }), /EBS does not go on with it .*EBS refuses CompleteSnapshot/);
    writeFileSync(record, good);
    isRight(ebs, (await decrypt({ snapshot: { description: 'golden' } })).snapshotId!, image);

    await interrupt(ebs, 100, (signal) => decrypt({ signal }));
    utimesSync(box.path('a.vol'), 1, 1);
    await refused(decrypt(), /the volume is not as it was: it was written to/);
  });

  test('a snapshot that EBS has cancelled; removing the record begins anew', async () => {
    const { box, ebs, image, decrypt, record } = await office();
    await interrupt(ebs, 100, (signal) => decrypt({ signal }));
    ebs.snapshots.clear();
    await refused(decrypt(), /snap-0[0-9a-f]{16} is gone/);
    writeFileSync(record, '');
    isRight(ebs, (await decrypt()).snapshotId!, image);
    assert.equal(existsSync(box.path(RECORD)), false);
  });

  test('a volume that changes while it is read: the record goes', async () => {
    const { box, ebs, decrypt, record } = await office();
    ebs.onRequest = (operation) => {
      if (operation === 'PutSnapshotBlock') utimesSync(box.path('a.vol'), 1, 1);
    };
    await refused(decrypt(), /was changed while it was read/, 'ERR_SOURCE_CHANGED');
    assert.equal(existsSync(record), false);
  });

  test('two at once: the second is told', async () => {
    const { ebs, image, decrypt } = await office();
    let second: Promise<unknown> | undefined;
    ebs.onRequest = (operation) => {
      if (operation === 'PutSnapshotBlock') second ??= refused(decrypt(), /another run is at work/, 'ERR_STATE_BUSY');
    };
    const { snapshotId } = await decrypt();
    await second;
    isRight(ebs, snapshotId!, image);
  });
});
