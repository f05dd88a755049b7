/**
 * Jobs in place that are killed, or whose disk fails, at every call that changes a file: the same job finishes them, or
 * takes them back, and not a sector is lost.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import {
  attach,
  decryptImage,
  decryptInPlace,
  encryptImage,
  encryptInPlace,
  reencryptInPlace,
  VolsealError,
  verifyVolume,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { built } from '../built.js';
import { describeUnless } from '../requirements.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { type NthCall, runToNthCall, skipNthCall } from './nth-call.js';

const ONCE = built('test/in-place/in-place-once.ts');
const MIB = 1024 * 1024;
/** Two parts, the last one small. */
const IMAGE_BYTES = MIB + 5 * 512;

type Kind = 'encrypt' | 'decrypt' | 'reencrypt';
const JOBS = { encrypt: encryptInPlace, decrypt: decryptInPlace, reencrypt: reencryptInPlace } as const;

interface Case {
  readonly box: Sandbox;
  readonly kind: Kind;
  readonly image: Buffer;
  readonly header: string | undefined;
}

const DISK = 'disk.raw';
const JOURNAL = '.disk.raw.in-place';
const files = (header: string | undefined): string[] => [DISK, ...(header === undefined ? [] : ['disk.header'])];

/** The file before the job, in a template beside it. */
async function prepared(kind: Kind, detached: boolean): Promise<Case> {
  const box = sandbox();
  const image = box.image(DISK, IMAGE_BYTES);
  const header = detached ? box.path('disk.header') : undefined;
  if (kind !== 'encrypt') {
    await encryptImage(box.path(DISK), box.path('made'), { kms: box.kms, header });
    cpSync(box.path('made'), box.path(DISK));
  } else {
    // Makes the KMS and its key.
    await encryptImage(box.path(DISK), box.path('made'), { kms: box.kms });
  }
  for (const name of files(header)) if (existsSync(box.path(name))) cpSync(box.path(name), box.path(`template.${name}`));
  return { box, kind, image, header };
}

function reset({ box, header }: Case): void {
  for (const name of [...files(header), JOURNAL]) {
    rmSync(box.path(name), { force: true });
    if (existsSync(box.path(`template.${name}`))) cpSync(box.path(`template.${name}`), box.path(name));
  }
}

const run = ({ box, kind, header }: Case, call: NthCall, undo = '-') =>
  runToNthCall(ONCE, [kind, box.path(DISK), box.kms, header ?? '-', undo], call);

/**
 * In the middle it holds the image, attached and as a whole; a writer puts what is in the journal. No other job begins.
 */
async function readInTheMiddle({ box, header, image }: Case, writes: boolean): Promise<void> {
  if (!existsSync(box.path(JOURNAL))) return;
  await assert.rejects(encryptImage(box.path(DISK), box.path('stolen'), { kms: box.kms }), /in the middle/);
  try {
    await using volume = await attach(box.path(DISK), { kms: box.kms, header, readOnly: !writes });
    assert.ok(Buffer.from(await volume.read(0, IMAGE_BYTES)).equals(image));
    if (writes) await volume.write(0, image);
    await volume.detach();
    writeFileSync(box.path('expected'), image);
    await verifyVolume(box.path(DISK), { kms: box.kms, header, against: box.path('expected') });
  } catch (error) {
    // The file is not yet, or not any more, as long as both forms need.
    if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_INTERRUPTED') throw error;
    assert.ok(statSync(box.path(DISK)).size <= IMAGE_BYTES, error.message);
  }
}

async function goOn(at: Case, undo: boolean): Promise<void> {
  const { box, kind, header } = at;
  const options = { kms: box.kms, header, undo: undo && existsSync(box.path(JOURNAL)), partBytes: MIB };
  if (options.undo || !(await isDone(at))) await JOBS[kind](box.path(DISK), options);
  assert.ok(!existsSync(box.path(JOURNAL)));
  await check(at, options.undo ? 'before' : 'after');
}

/** Whether the killed run had come to its end. */
async function isDone({ box, header, kind }: Case): Promise<boolean> {
  if (existsSync(box.path(JOURNAL))) return false;
  const file = readFileSync(box.path(DISK));
  if (kind === 'encrypt') return header === undefined ? file.length > IMAGE_BYTES : existsSync(header);
  return !file.equals(readFileSync(box.path(`template.${DISK}`)));
}

async function check({ box, kind, image, header }: Case, when: 'before' | 'after'): Promise<void> {
  const isImage = kind === 'encrypt' ? when === 'before' : kind === 'decrypt' && when === 'after';
  if (isImage) {
    assert.ok(box.contents(DISK).equals(image));
    if (header !== undefined) assert.ok(!existsSync(header));
    return;
  }
  await decryptImage(box.path(DISK), box.path('back'), { kms: box.kms, header, force: true });
  assert.ok(box.contents('back').equals(image));
  if (kind === 'reencrypt') {
    const [now, before] = [DISK, `template.${DISK}`].map((name) => box.contents(name).subarray(header === undefined ? MIB : 0));
    for (let at = 0; at < now!.length; at += 512)
      assert.equal(now!.subarray(at, at + 512).equals(before!.subarray(at, at + 512)), when === 'before', `sector at ${at}`);
  }
  assert.equal(native.vaultInfo().liveKeys, 0);
}

describeUnless(skipNthCall())('a job in place', () => {
  // Every call where `step` is 1, else some: jobs that keep the data in its place have the same code, and so have those
  // that move it.
  for (const [kind, detached, step] of [
    ['encrypt', false, 1],
    ['encrypt', true, 2],
    ['decrypt', false, 3],
    ['decrypt', true, 1],
    ['reencrypt', false, 1],
    ['reencrypt', true, 3],
  ] as const) {
    const name = `${kind}, ${detached ? 'detached header' : 'header in front'}`;

    test(`${name}: killed at ${step === 1 ? 'every call' : 'calls'}, the same job finishes it, or takes it back`, async () => {
      const at = await prepared(kind, detached);
      let met = true;
      let calls = 1;
      for (let round = 0; met; round++, calls += step) {
        reset(at);
        const action = round % 3 === 2 ? 'torn' : 'kill';
        ({ met } = run(at, { at: calls, action, name: 'disk.' }));
        await inCall(calls, action, async () => {
          await readInTheMiddle(at, round % 4 >= 2);
          await goOn(at, round % 2 === 1);
        });
      }
      assert.ok(calls > 20, `only ${calls} calls`);
    });
  }

  test('taking back is killed, and goes on either way', async () => {
    const at = await prepared('encrypt', false);
    let met = true;
    for (let calls = 1, round = 0; met; calls += 2, round++) {
      reset(at);
      // In the middle: one of two parts is moved, and the other is in the journal.
      assert.ok(run(at, { at: 20, action: 'kill', name: 'disk.' }).killed);
      assert.ok(existsSync(at.box.path(JOURNAL)));
      ({ met } = run(at, { at: calls, action: round % 3 === 2 ? 'torn' : 'kill', name: 'disk.' }, 'undo'));
      await inCall(calls, 'undo', () => (existsSync(at.box.path(JOURNAL)) ? goOn(at, round % 2 === 0) : check(at, 'before')));
    }
  });

  for (const [kind, action] of [
    ['encrypt', 'EIO'],
    ['encrypt', 'ENOSPC'],
    ['decrypt', 'ENOSPC'],
  ] as const) {
    test(`${kind}, ${action}: an error, and the same job finishes it`, async () => {
      const at = await prepared(kind, false);
      let met = true;
      let calls = action === 'EIO' ? 1 : 2;
      for (let round = 0; met; calls += 2, round++) {
        reset(at);
        const outcome = run(at, { at: calls, action, name: 'disk.' });
        ({ met } = outcome);
        assert.equal(outcome.killed, false);
        // Room that cannot be set aside beforehand is no error: the writes will tell.
        assert.match(outcome.stdout, met ? /^(done|ERR_IO (EIO|ENOSPC))$/ : /^done$/, outcome.stderr);
        await inCall(calls, action, () => goOn(at, round % 2 === 1));
      }
      assert.ok(calls > 20, `only ${calls} calls`);
    });
  }
});

async function inCall(call: number, action: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw new Error(`call ${call} (${action}): ${(error as Error).stack}`, { cause: error });
  }
}
