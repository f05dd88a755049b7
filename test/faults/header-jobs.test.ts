/**
 * Jobs that make or change a header, and `reencrypt` into a new volume: killed, or with a disk that fails, at every
 * call that changes a file. The volume opens afterwards, and the same job can be done.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import {
  addRecoveryKey,
  adoptVolume,
  backupHeader,
  decryptImage,
  describeVolume,
  encryptImage,
  reencryptVolume,
  removeKeyslot,
  restoreHeader,
  testKeyslot,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { built } from '../built.js';
import { runTool, skipWithout, tryTool } from '../interop/tools.js';
import { describeUnless, testUnless } from '../requirements.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { type NthCall, runToNthCall, skipNthCall } from './nth-call.js';

const ONCE = built('test/faults/header-job-once.ts');
const IMAGE_BYTES = 64 * 1024;
const ACTIONS: readonly NthCall['action'][] = ['kill', 'torn', 'EIO', 'ENOSPC'];

interface Scenario {
  readonly kind: 'reencrypt' | 'add' | 'remove' | 'restore' | 'adopt';
  readonly argument: (box: Sandbox) => string;
  /** With `disk.vol` there. */
  readonly prepare: (box: Sandbox) => Promise<void>;
  /** Looks at what was left, does the job again where it is not done, and looks again. */
  readonly check: (box: Sandbox, isDone: boolean) => Promise<void>;
  readonly callsMin: number;
}

/** A volume of volseal. */
async function volumeOf(box: Sandbox): Promise<void> {
  box.image('image', IMAGE_BYTES);
  await encryptImage(box.path('image'), box.path('disk.vol'), { kms: box.kms });
}

/** The volume gives its image, by whichever copy of its header is whole. */
async function verified(box: Sandbox, name = 'disk.vol'): Promise<void> {
  await decryptImage(box.path(name), box.path('back'), { kms: box.kms, force: true });
  assert.ok(box.contents('back').equals(box.contents('image')));
}

const keyslotsOf = async (box: Sandbox): Promise<string[]> =>
  (await describeVolume(box.path('disk.vol'))).keyslotList.map(({ keyslot, kind }) => `${keyslot} ${kind}`);

const SCENARIOS: readonly Scenario[] = [
  {
    kind: 'reencrypt',
    argument: (box) => box.path('disk.new'),
    prepare: volumeOf,
    async check(box, isDone) {
      await verified(box);
      assert.ok(!isDone || existsSync(box.path('disk.new')));
      if (existsSync(box.path('disk.new'))) await verified(box, 'disk.new');
      await reencryptVolume(box.path('disk.vol'), box.path('disk.new'), { kms: box.kms, force: true });
      await verified(box, 'disk.new');
    },
    callsMin: 5,
  },
  {
    kind: 'add',
    argument: (box) => box.path('disk.key'),
    prepare: volumeOf,
    async check(box, isDone) {
      await verified(box);
      const isThere = existsSync(box.path('disk.key'));
      assert.ok(!isDone || isThere);
      // The key that somebody holds opens the volume; a keyslot that nobody has a key of can be removed.
      if (isThere) await testKeyslot(box.path('disk.vol'), { recoveryKeyFile: box.path('disk.key') });
      for (const keyslot of await keyslotsOf(box)) await removeKeyslot(box.path('disk.vol'), keyslot.split(' ')[0]!, { kms: box.kms });
      await addRecoveryKey(box.path('disk.vol'), box.path('again.key'), { kms: box.kms });
      await testKeyslot(box.path('disk.vol'), { recoveryKeyFile: box.path('again.key') });
      rmSync(box.path('again.key'));
      await verified(box);
    },
    callsMin: 6,
  },
  {
    kind: 'remove',
    argument: () => '0',
    async prepare(box) {
      await volumeOf(box);
      for (const name of ['first.key', 'second.key']) await addRecoveryKey(box.path('disk.vol'), box.path(name), { kms: box.kms });
    },
    async check(box, isDone) {
      await verified(box);
      const left = await keyslotsOf(box);
      assert.ok(left.includes('1 recovery'), left.join());
      await testKeyslot(box.path('disk.vol'), { recoveryKeyFile: box.path('second.key') });
      if (left.length > 1) {
        assert.ok(!isDone);
        await removeKeyslot(box.path('disk.vol'), '0', { kms: box.kms });
      }
      await assert.rejects(testKeyslot(box.path('disk.vol'), { recoveryKeyFile: box.path('first.key') }), { code: 'ERR_KEYSLOT' });
      await verified(box);
    },
    callsMin: 3,
  },
  {
    kind: 'restore',
    argument: (box) => box.path('backup'),
    async prepare(box) {
      await volumeOf(box);
      await addRecoveryKey(box.path('disk.vol'), box.path('first.key'), { kms: box.kms });
      await backupHeader(box.path('disk.vol'), box.path('backup'));
      // An older backup than the header that is there.
      await addRecoveryKey(box.path('disk.vol'), box.path('second.key'), { kms: box.kms });
    },
    async check(box, isDone) {
      await verified(box);
      if (!isDone) await restoreHeader(box.path('disk.vol'), box.path('backup'), { kms: box.kms });
      assert.deepEqual(await keyslotsOf(box), ['0 recovery']);
      await testKeyslot(box.path('disk.vol'), { recoveryKeyFile: box.path('first.key') });
      await verified(box);
    },
    callsMin: 4,
  },
];

const ADOPT: Scenario = {
  kind: 'adopt',
  argument: (box) => box.path('pass'),
  async prepare(box) {
    await volumeOf(box);
    rmSync(box.path('disk.vol'));
    writeFileSync(box.path('pass'), 'a passphrase of ours');
    writeFileSync(box.path('disk.vol'), '');
    truncateSync(box.path('disk.vol'), 17 * 1024 * 1024);
    const pbkdf = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
    const format = ['luksFormat', '--batch-mode', '--type', 'luks2', '--key-size', '512', '--sector-size', '512', ...pbkdf];
    runTool('cryptsetup', [...format, box.path('disk.vol'), box.path('pass')]);
  },
  async check(box, isDone) {
    const opens = ['open', '--test-passphrase', '--key-file', box.path('pass'), box.path('disk.vol')];
    assert.equal(tryTool('cryptsetup', opens).status, 0);
    const opened = (): Promise<unknown> => decryptImage(box.path('disk.vol'), box.path('back'), { kms: box.kms, force: true });
    const isAdopted = await opened().then(
      () => true,
      () => false,
    );
    assert.ok(isAdopted || !isDone);
    if (!isAdopted) await adoptVolume(box.path('disk.vol'), { kms: box.kms, passphraseFile: box.path('pass') });
    await opened();
    assert.equal(tryTool('cryptsetup', opens).status, 0);
  },
  callsMin: 2,
};

async function atEveryCall({ kind, argument, prepare, check, callsMin }: Scenario): Promise<void> {
  const box = sandbox();
  await prepare(box);
  cpSync(box.path('disk.vol'), box.path('template'));
  for (const action of ACTIONS) {
    let met = true;
    let calls = 0;
    while (met) {
      calls += 1;
      for (const name of readdirSync(box.directory)) if (/^\.?disk\./.test(name)) rmSync(box.path(name));
      cpSync(box.path('template'), box.path('disk.vol'));
      const outcome = runToNthCall(ONCE, [kind, box.path('disk.vol'), box.kms, argument(box)], { at: calls, action, name: 'disk.' });
      met = outcome.met;
      try {
        if (!outcome.killed && outcome.stdout !== 'done')
          assert.match(outcome.stdout, /^ERR_IO (EIO|ENOSPC)$/, `${outcome.stdout}: ${outcome.stderr}`);
        await check(box, outcome.stdout === 'done');
      } catch (error) {
        throw new Error(`${kind}, ${action} at call ${calls}`, { cause: error });
      }
      assert.equal(native.vaultInfo().liveKeys, 0);
    }
    assert.ok(calls > callsMin, `only ${calls} calls`);
  }
}

describeUnless(skipNthCall())('a header and its jobs', () => {
  for (const scenario of SCENARIOS) test(`${scenario.kind}: every call is killed, torn, or fails`, () => atEveryCall(scenario));
  testUnless(skipWithout('cryptsetup'))('adopt: every call is killed, torn, or fails', () => atEveryCall(ADOPT));
});
