/** Snapshots as sources and targets, against the strict fake (strict-ebs.ts), by the library. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { decryptImage, describeVolume, encryptImage, readStoredRange, verifyVolume } from '../../src/index.js';
import { openSnapshot } from '../../src/stores/ebs/snapshot.js';
import { ended, failureOf, lab } from '../cli/program.js';
import { nothingHeld } from '../volume/nothing-held.js';
import { sandbox } from '../volume/sandbox.js';
import { type Fault, type StrictEbs, strictEbs } from './strict-ebs.js';

Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example' });

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const BLOCK = 512 * KIB;

async function office() {
  const box = sandbox();
  const ebs = await strictEbs();
  return { box, ebs, kms: box.kms, store: { ebsEndpointUrl: ebs.url } };
}

/** An image with random bytes here and there; a file of `bytes`. */
function sparseImage(bytes: number, written: readonly number[]): Buffer {
  const image = Buffer.alloc(bytes);
  for (const block of written) randomBytes(BLOCK).copy(image, block * BLOCK);
  return image;
}

/** The first bytes of a snapshot without a parent. */
function inBlocks(ebs: StrictEbs, id: string, bytes: number): Buffer {
  const { blocks } = ebs.snapshots.get(id)!;
  const list = Array.from({ length: Math.ceil(bytes / BLOCK) }, (_, index) => blocks.get(index) ?? Buffer.alloc(BLOCK));
  return Buffer.concat(list).subarray(0, bytes);
}

describe('a snapshot of a volume', () => {
  test('every block is written, zeros too, up to whole GiB; and it comes back', async () => {
    const { box, ebs, kms, store } = await office();
    const image = box.image('a.raw', 5 * MIB + 512);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms });
    const snapshot = { description: 'golden', tags: { Name: 'a', team: 'x=y' } };
    const made = await decryptImage(box.path('a.vol'), 'ebs:new', { kms, store, snapshot });
    const [id, found] = [...ebs.snapshots][0]!;
    assert.deepEqual([made.path, made.snapshotId, made.imageBytes], [`ebs:${id}`, id, image.length]);
    assert.equal(found.state, 'completed');
    assert.equal(found.blocks.size, 2048);
    assert.equal(found.request.Description, 'golden');
    assert.deepEqual(found.request.Tags, [
      { Key: 'Name', Value: 'a' },
      { Key: 'team', Value: 'x=y' },
    ]);
    const contents = inBlocks(ebs, id, 6 * MIB);
    assert.ok(contents.subarray(0, image.length).equals(image));
    assert.ok(contents.subarray(image.length).equals(Buffer.alloc(6 * MIB - image.length)));
    const zeros = Buffer.alloc(BLOCK);
    for (let index = 12; index < 2048; index += 1) assert.ok(found.blocks.get(index)!.equals(zeros), `block ${index}`);

    nothingHeld();
  });

  test('sparse: blocks of zeros are left out, and read as zeros', async () => {
    const { box, ebs, kms, store } = await office();
    const image = sparseImage(40 * MIB, [0, 3, 17, 79]);
    writeFileSync(box.path('a.raw'), image);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms });
    const { snapshotId } = await decryptImage(box.path('a.vol'), 'ebs:new', { kms, store, sparse: true });
    assert.deepEqual(
      [...ebs.snapshots.get(snapshotId!)!.blocks.keys()].sort((a, b) => a - b),
      [0, 3, 17, 79],
    );
    assert.ok(inBlocks(ebs, snapshotId!, image.length).equals(image));
  });

  test('as it is: the ciphertext; the snapshot is a volume, which info, verify, read and decrypt open', async () => {
    const { box, ebs, kms, store } = await office();
    const image = box.image('a.raw', 3 * MIB);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms });
    const made = await decryptImage(box.path('a.vol'), 'ebs:new', { kms, store, asIs: true, sparse: true });
    const volume = box.contents('a.vol');
    assert.ok(inBlocks(ebs, made.snapshotId!, volume.length).equals(volume));
    assert.equal((await describeVolume(made.path, { store })).volumeId, made.volumeId);
    await verifyVolume(made.path, { kms, store, against: box.path('a.raw') });
    const pieces: Buffer[] = [];
    await readStoredRange(made.path, { offsetBytes: MIB - 3, lengthBytes: 700 }, { kms, store }, async (stream) => {
      for await (const piece of stream) pieces.push(Buffer.from(piece));
    });
    assert.ok(Buffer.concat(pieces).equals(image.subarray(MIB - 3, MIB + 697)));
    await decryptImage(made.path, box.path('again.raw'), { kms, store });
    assert.ok(box.contents('again.raw').equals(image));
    nothingHeld();
  });

  test('encrypt makes a volume in a new snapshot', async () => {
    const { box, ebs, kms, store } = await office();
    const image = box.image('a.raw', 2 * MIB);
    const made = await encryptImage(box.path('a.raw'), 'ebs:new', { kms, store, snapshot: { encrypted: true } });
    assert.equal(ebs.snapshots.get(made.snapshotId!)!.request.Encrypted, true);
    await decryptImage(made.path, box.path('again.raw'), { kms, store });
    assert.ok(box.contents('again.raw').equals(image));
  });
});

/** All of the snapshot, by ranges that are neither whole blocks nor of one length. */
async function readAll(ebs: StrictEbs, id: string): Promise<void> {
  const expected = ebs.contents(id);
  using source = await openSnapshot(`ebs:${id}`, { ebsEndpointUrl: ebs.url });
  assert.equal(source.sizeBytes, expected.length);
  const ranges = [
    [0, 3 * BLOCK],
    [3 * BLOCK, 7],
    [3 * BLOCK + 7, 40 * BLOCK],
    [290 * BLOCK, 20 * BLOCK],
    [1023 * BLOCK, 1024 * BLOCK + 5],
  ] as const;
  await Promise.all(
    [...ranges, [2047 * BLOCK + 5, BLOCK - 5], [5 * BLOCK, 2 * BLOCK]].map(async ([at = 0, length = 0]) => {
      const area = Buffer.alloc(length, 1);
      await source.readRange(at, area);
      assert.ok(area.equals(expected.subarray(at, at + length)), `${at} + ${length}`);
    }),
  );
}

describe('reading a snapshot', () => {
  const WRITTEN = [0, 1, 5, 6, 300, 1024, 2047];
  test('encrypts it', async () => {
    const { box, ebs, kms, store } = await office();
    const id = ebs.put(sparseImage(GIB, WRITTEN));
    await encryptImage(`ebs:${id}`, box.path('a.vol'), { kms, store });
    writeFileSync(box.path('a.raw'), ebs.contents(id));
    await verifyVolume(box.path('a.vol'), { kms, against: box.path('a.raw') });
  });

  for (const [pageBlocks, emptyPages] of [
    [10_000, false],
    [2, false],
    [3, true],
  ] as const) {
    test(`pages of ${pageBlocks} blocks${emptyPages ? ', some empty' : ''}; tokens that expire`, async () => {
      const ebs = await strictEbs();
      const id = ebs.put(sparseImage(GIB, WRITTEN));
      Object.assign(ebs, { pageBlocks, emptyPages });
      ebs.fail('ListSnapshotBlocks', 'cut', 'throttle', 'expired');
      ebs.fail('GetSnapshotBlock', 'expired', 'throttle', 'expired');
      await readAll(ebs, id);
    });
  }

  for (const fault of ['throttle', 'slowDown', 'fail', 'cut', 'cutBody', 'flip', 'unreadable', 'expired'] as const) {
    test(`GetSnapshotBlock: ${fault}, and then success: the bytes are right`, async () => {
      const ebs = await strictEbs();
      const id = ebs.put(sparseImage(GIB, [0, 7, 2047]));
      ebs.fail('GetSnapshotBlock', fault, fault);
      ebs.fail('ListSnapshotBlocks', fault === 'flip' || fault === 'unreadable' ? 'fail' : fault);
      await readAll(ebs, id);
    });
  }

  test('what is not there, denied, pending, of another kind', async () => {
    const { box, ebs, kms, store } = await office();
    const id = ebs.put(sparseImage(GIB, [0]));
    const rejects = async (name: string, code: string, details: object = {}) => {
      await assert.rejects(encryptImage(name, box.path('a.vol'), { kms, store }), (error: { code: string; details: object }) => {
        assert.equal(error.code, code);
        assert.deepEqual({ ...error.details, ...details }, error.details);
        return true;
      });
      assert.equal(existsSync(box.path('a.vol')), false);
      ebs.mend();
    };
    await rejects('ebs:snap-00000000000000000', 'ERR_STORE_NOT_FOUND');
    for (const name of ['ebs:new', 'ebs:snap-1', 'ebs:', 'ebs:vol-0123456789abcdef0']) await rejects(name, 'ERR_ARGUMENT');
    for (const operation of ['ListSnapshotBlocks', 'GetSnapshotBlock']) {
      ebs.requests.length = 0;
      ebs.fail(operation, ...Array.from({ length: 50 }, (): Fault => 'deny'));
      await rejects(`ebs:${id}`, 'ERR_STORE_DENIED', { action: `ebs:${operation}` });
      assert.equal(ebs.requests.filter((name) => name === operation).length, 1, 'a denial is not tried again');
    }
    ebs.fail('GetSnapshotBlock', 'denyKey');
    await rejects(`ebs:${id}`, 'ERR_STORE_DENIED', { kmsKey: true });
    ebs.fail('GetSnapshotBlock', 'short');
    await rejects(`ebs:${id}`, 'ERR_STORE_REQUEST');
    ebs.fail('GetSnapshotBlock', ...Array.from({ length: 50 }, (): Fault => 'flip'));
    await rejects(`ebs:${id}`, 'ERR_STORE_UNREACHABLE', { name: 'WrongChecksum' });
    ebs.snapshots.get(id)!.state = 'pending';
    await rejects(`ebs:${id}`, 'ERR_STORE_REQUEST', { reason: 'INVALID_SNAPSHOT_ID' });
    nothingHeld();
  });
});

describe('an upload', () => {
  const upload = async (prepare: (ebs: StrictEbs) => void) => {
    const { box, ebs, kms, store } = await office();
    const image = box.image('a.raw', 6 * MIB);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms });
    prepare(ebs);
    const work = decryptImage(box.path('a.vol'), 'ebs:new', { kms, store, sparse: true });
    return { ebs, image, work };
  };

  const faults: [operation: string, faults: Fault[]][] = [
    ['StartSnapshot', ['throttle', 'cut', 'lostReply', 'fail']],
    ['PutSnapshotBlock', ['throttle', 'slowDown', 'fail', 'cut', 'flip', 'lostReply', 'unknown', 'unknown']],
    ['CompleteSnapshot', ['throttle', 'cut', 'unknown']],
    ['CompleteSnapshot', ['lostReply']],
  ];
  for (const [operation, list] of faults) {
    test(`${operation}: ${list.join(', ')}, and then success: one snapshot, its bytes right`, async () => {
      const { ebs, image, work } = await upload((fake) => fake.fail(operation, ...list));
      const { snapshotId } = await work;
      assert.deepEqual([...ebs.snapshots.keys()], [snapshotId], 'the client token is the same in every attempt');
      assert.equal(ebs.snapshots.get(snapshotId!)!.state, 'completed');
      assert.ok(inBlocks(ebs, snapshotId!, image.length).equals(image));
    });
  }

  test('each request fails once, one run after the other: always the right bytes', async () => {
    for (let failing = 0; failing < 12; failing += 1) {
      let seen = 0;
      const { ebs, image, work } = await upload((fake) => {
        fake.onRequest = (operation) => {
          if (seen === failing) fake.fail(operation, 'cut');
          seen += 1;
        };
      });
      const { snapshotId } = await work;
      assert.ok(inBlocks(ebs, snapshotId!, image.length).equals(image), `request ${failing}`);
    }
  });

  for (const [operation, fault, code] of [
    ['StartSnapshot', 'deny', 'ERR_STORE_DENIED'],
    ['StartSnapshot', 'conflict', 'ERR_STORE_REQUEST'],
    ['StartSnapshot', 'quota', 'ERR_STORE_REQUEST'],
    ['PutSnapshotBlock', 'deny', 'ERR_STORE_DENIED'],
    ['PutSnapshotBlock', 'fail', 'ERR_STORE_UNREACHABLE'],
    ['PutSnapshotBlock', 'flip', 'ERR_STORE_UNREACHABLE'],
    ['CompleteSnapshot', 'deny', 'ERR_STORE_DENIED'],
    ['CompleteSnapshot', 'fail', 'ERR_STORE_UNREACHABLE'],
  ] as const) {
    test(`${operation}: ${fault} for good: ${code}, and no snapshot that is complete`, async () => {
      const { ebs, work } = await upload((fake) => fake.fail(operation, ...Array.from({ length: 500 }, (): Fault => fault)));
      await assert.rejects(work, { code });
      for (const { state } of ebs.snapshots.values()) assert.equal(state, 'pending');
      nothingHeld();
    });
  }

  test('an abort ends it', async () => {
    const { box, ebs, kms, store } = await office();
    box.image('a.raw', 6 * MIB);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms });
    const stop = new AbortController();
    ebs.onRequest = (operation) => {
      if (operation === 'PutSnapshotBlock') stop.abort();
    };
    await assert.rejects(decryptImage(box.path('a.vol'), 'ebs:new', { kms, store, signal: stop.signal }), { code: 'ERR_ABORTED' });
    assert.equal([...ebs.snapshots.values()][0]!.state, 'pending');
    nothingHeld();
  });

  test('what cannot be asked for is refused before anything is sent', async () => {
    const { box, ebs, kms, store } = await office();
    box.image('a.raw', MIB);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms });
    const rejects = (options: object, target = 'ebs:new') =>
      assert.rejects(decryptImage(box.path('a.vol'), target, { kms, store, ...options }), { code: 'ERR_ARGUMENT' });
    await rejects({}, 'ebs:snap-00000000000000000');
    await rejects({}, 'ebs:snap');
    for (const option of [{ sha256: true }, { asIs: true, header: box.path('h') }]) await rejects(option);
    for (const snapshot of [
      { description: 'x'.repeat(256) },
      { tags: { 'aws:x': '1' } },
      { tags: Object.fromEntries(Array.from({ length: 51 }, (_, index) => [`k${index}`, ''])) },
      { tags: { k: 'v'.repeat(257) } },
      { encrypted: 'alias/mine' },
    ])
      await rejects({ snapshot });
    await rejects({ asIs: true }, box.path('copy.vol'));
    await rejects({ snapshot: { description: 'x' } }, 's3://images/a.raw');
    await assert.rejects(encryptImage(box.path('a.raw'), 'ebs:new', { kms, store, allocation: 'sparse' }), { code: 'ERR_ARGUMENT' });
    assert.deepEqual(ebs.requests, []);
  });
});

describe('an increment', () => {
  const office2 = async () => {
    const { box, ebs, kms, store } = await office();
    const image = sparseImage(30 * MIB + 512, [0, 3, 17, 40]);
    writeFileSync(box.path('old.raw'), image);
    const parent = ebs.put(image);
    randomBytes(BLOCK).copy(image, 3 * BLOCK);
    image.fill(0, 17 * BLOCK, 18 * BLOCK);
    randomBytes(7).copy(image, 25 * BLOCK + 5);
    randomBytes(512).copy(image, 60 * BLOCK);
    writeFileSync(box.path('new.raw'), image);
    await encryptImage(box.path('new.raw'), box.path('new.vol'), { kms, pad: true });
    return { box, ebs, kms, store, image, parent };
  };

  for (const against of [undefined, 'old.raw', 'the parent'])
    test(`only changed blocks are written, also those that became zeros; compared with ${against ?? 'nothing named'}`, async () => {
      const { box, ebs, kms, store, image, parent } = await office2();
      const changedAgainst = against === 'old.raw' ? box.path(against) : against === undefined ? undefined : parent;
      const made = await decryptImage(box.path('new.vol'), 'ebs:new', { kms, store, snapshot: { parent, changedAgainst } });
      const { blocks, parent: recorded } = ebs.snapshots.get(made.snapshotId!)!;
      assert.equal(recorded, parent);
      assert.deepEqual(
        [...blocks.keys()].sort((a, b) => a - b),
        [3, 17, 25, 60],
      );
      assert.ok(ebs.contents(made.snapshotId!).subarray(0, image.length).equals(image));
    });

  test('a file that is not the image of the parent is refused, and so is what excludes a parent', async () => {
    const { box, ebs, kms, store, parent } = await office2();
    const rejects = (snapshot: object, code: string, more: object = {}) =>
      assert.rejects(decryptImage(box.path('new.vol'), 'ebs:new', { kms, store, snapshot, ...more }), { code });
    box.image('other.raw', 4 * MIB);
    await rejects({ parent, changedAgainst: box.path('other.raw') }, 'ERR_IMAGE_DIFFERS');
    await rejects({ changedAgainst: box.path('old.raw') }, 'ERR_ARGUMENT');
    await rejects({ parent, encrypted: true }, 'ERR_ARGUMENT');
    await rejects({ parent }, 'ERR_ARGUMENT', { sparse: true });
    await rejects({ parent: 'snap-1' }, 'ERR_ARGUMENT');
    await rejects({ parent: 'snap-00000000000000000' }, 'ERR_STORE_NOT_FOUND');
    await assert.rejects(encryptImage(box.path('new.raw'), 'ebs:new', { kms, store, pad: true, snapshot: { parent } }), {
      code: 'ERR_ARGUMENT',
    });
    assert.ok(!ebs.requests.includes('StartSnapshot'));
    nothingHeld();
  });
});

describe('the program', () => {
  test('decrypt to ebs:new, encrypt from it; ids, exit statuses and hints', async () => {
    const box = lab();
    const ebs = await strictEbs();
    const image = box.image('a.raw', 3 * MIB);
    const run = async (...args: string[]) => {
      const child = box.start(args, { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example', AWS_ENDPOINT_URL_EBS: ebs.url });
      let text = '';
      child.stdout!.on('data', (chunk) => {
        text += chunk;
      });
      return { ...(await ended(child)), stdout: Buffer.from(text), text };
    };
    assert.equal((await run('encrypt', 'a.raw', 'a.vol')).status, 0);
    const flags = ['--description', 'golden', '--tag', 'team=images', '--tag', 'Name=a', '--snapshot-key', 'default'];
    const made = await run('decrypt', 'a.vol', 'ebs:new', '--sparse', ...flags, '--json');
    assert.equal(made.status, 0, made.stderr);
    const { path, snapshotId } = JSON.parse(made.text) as { path: string; snapshotId: string };
    assert.equal(path, `ebs:${snapshotId}`);
    const { request } = ebs.snapshots.get(snapshotId)!;
    assert.deepEqual([request.Description, request.Encrypted], ['golden', true]);
    assert.deepEqual(request.Tags, [
      { Key: 'team', Value: 'images' },
      { Key: 'Name', Value: 'a' },
    ]);
    assert.ok(inBlocks(ebs, snapshotId, image.length).equals(image));
    const copied = await run('decrypt', 'a.vol', 'ebs:new', '--as-is', '--sparse');
    assert.match(
      copied.text,
      /^copied a\.vol \(vol-[0-9a-f]{17}\) into ebs:snap-[0-9a-f]{17}[\s\S]*wait snapshot-completed --snapshot-ids snap-/,
    );
    assert.match((await run('info', `ebs:${[...ebs.snapshots.keys()].at(-1)}`)).text, /vol-[0-9a-f]{17}/);

    const failed = async (status: number, hint: RegExp, ...args: string[]) => {
      const outcome = await run(...args, '--json');
      assert.equal(outcome.status, status, outcome.stderr);
      assert.match(failureOf(outcome).hint!, hint);
    };
    await failed(4, /describe-snapshots/, 'encrypt', 'ebs:snap-00000000000000000', 'b.vol');
    ebs.fail('PutSnapshotBlock', 'deny');
    await failed(6, /ebs:PutSnapshotBlock.*policy administrator --stores/, 'decrypt', 'a.vol', 'ebs:new', '--sparse');
    ebs.fail('StartSnapshot', 'quota');
    await failed(6, /quota/, 'decrypt', 'a.vol', 'ebs:new', '--sparse');
    await failed(1, /--help/, 'decrypt', 'a.vol', 'b.raw', '--tag', 'a=b');

    const policy = JSON.parse((await run('policy', 'administrator', '--stores', '--bucket', 'images', '--json')).text);
    const actions = (policy.Statement as { Action: string[] }[]).flatMap(({ Action }) => Action);
    for (const operation of new Set(ebs.requests)) assert.ok(actions.includes(`ebs:${operation}`), operation);
  });
});
