/**
 * Two commands at once on one volume: each has it alone, or is refused by name. Afterwards the volume is what the
 * commands that succeeded make of it, one after the other: no keyslot is lost, and no header is torn.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { cpSync, existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { decryptImage, describeVolume, testKeyslot, VolsealError, verifyVolume } from '../../src/index.js';
import { ended, failureOf, type Lab, lab } from '../cli/program.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { describeUnless, testUnless } from '../requirements.js';
import { SEED, seededNumbers } from '../seed.js';
import { until } from '../until.js';
import { skipInjection, startFaulty } from './injected.js';

const KIB = 1024;
const IMAGE_BYTES = 512 * KIB;
const WRITTEN = Buffer.alloc(4096, 'written');
/** Long enough that another command comes while this one has the volume. */
const SLOW = 'fsync,fdatasync:delay_enter=300000';
/** Another command has the volume, or its job in place is in the middle of it. */
const BUSY = ['ERR_STATE_BUSY', 'ERR_STATE_INTERRUPTED'];

/** What there is to see of a volume. */
interface State {
  /** Files with the recovery keys, by keyslot. */
  readonly keys: readonly (string | undefined)[];
  readonly kmsKey: 'first' | 'second';
  readonly allocation: string;
  readonly image: 'old' | 'written';
  /** Whether its data has the data key of the backup. */
  readonly isOfBackup: boolean;
  /** It is no volume any more, but the image. */
  readonly isRaw: boolean;
}

const BEFORE: State = {
  ...{ keys: ['first.key', 'second.key'], kmsKey: 'first', allocation: 'sparse', image: 'old', isOfBackup: true, isRaw: false },
};

interface Command {
  /** @param side 0 or 1: names files of its own */
  readonly args: (side: number) => string[];
  readonly input?: Buffer;
  /** What it makes of a volume; the code of its error where it refuses this one. */
  readonly makes: (state: State, side: number) => State | string;
}

function withAdded({ keys }: State, added: string): State['keys'] {
  const free = [...keys, undefined].indexOf(undefined);
  return Object.assign([...keys], { [free]: added });
}

const COMMANDS: Readonly<Record<string, Command>> = {
  'recovery add': {
    args: (side) => ['recovery', 'add', 'a.vol', '--out', `added${side}.key`],
    makes: (state, side) => ({ ...state, keys: withAdded(state, `added${side}.key`) }),
  },
  'recovery remove': {
    args: () => ['recovery', 'remove', 'a.vol', '0'],
    makes: (state) => (state.keys[0] === undefined ? 'ERR_ARGUMENT' : { ...state, keys: Object.assign([...state.keys], { 0: undefined }) }),
  },
  'header restore': {
    args: () => ['header', 'restore', 'a.vol', 'backup'],
    makes: (state) => {
      const { keys, kmsKey, allocation } = BEFORE;
      return state.isOfBackup ? { ...state, keys, kmsKey, allocation } : 'ERR_HEADER_BACKUP';
    },
  },
  rewrap: { args: () => ['rewrap', 'a.vol', '--key', 'alias/second'], makes: (state) => ({ ...state, kmsKey: 'second' }) },
  reencrypt: { args: () => ['reencrypt', 'a.vol'], makes: (state) => ({ ...state, keys: [], isOfBackup: false }) },
  'reencrypt --out': { args: (side) => ['reencrypt', 'a.vol', '--out', `new${side}.vol`], makes: (state) => state },
  densify: { args: () => ['densify', 'a.vol'], makes: (state) => ({ ...state, allocation: 'full' }) },
  write: { args: () => ['write', 'a.vol'], input: WRITTEN, makes: (state) => ({ ...state, image: 'written' }) },
  'decrypt --in-place': { args: () => ['decrypt', '--in-place', 'a.vol'], makes: (state) => ({ ...state, isRaw: true }) },
};

/** What a command makes of what another one has left. */
const after = (state: State, command: Command, side: number): State | string =>
  state.isRaw ? 'ERR_NOT_A_VOLUME' : command.makes(state, side);

interface Ended {
  /** Undefined where it succeeded. */
  readonly code: string | undefined;
  readonly message: string;
}

async function outcomeOf(child: ChildProcess, input: Buffer | undefined): Promise<Ended> {
  child.stdin!.on('error', () => {});
  child.stdin!.end(input);
  child.stdout!.resume();
  const { status, signal, stderr } = await ended(child);
  assert.equal(signal, null, stderr);
  if (status === 0) return { code: undefined, message: '' };
  const { code, message } = failureOf({ stderr: stderr.slice(stderr.indexOf('{')) } as never);
  return { code, message };
}

/** Whether a process has a lock of the file (flock). */
const isLocked = (path: string): boolean => {
  const { ino } = statSync(path);
  return readFileSync('/proc/locks', 'latin1')
    .split('\n')
    .some((line) => / FLOCK /.test(line) && line.includes(`:${ino} `));
};

/** A lab with a volume, made once; `reset` brings the volume back. */
interface Bench {
  readonly at: Lab;
  readonly kms: string;
  readonly images: Readonly<Record<State['image'], Buffer>>;
  readonly kmsKeys: Readonly<Record<State['kmsKey'], string>>;
  reset(): void;
}

async function bench(): Promise<Bench> {
  const at = lab();
  const old = at.image('old.raw', IMAGE_BYTES);
  old.fill(0, 128 * KIB, 256 * KIB);
  writeFileSync(at.path('old.raw'), old);
  at.ok(['encrypt', 'old.raw', 'a.vol', '--sparse']);
  for (const name of ['first.key', 'second.key']) at.ok(['recovery', 'add', 'a.vol', '--out', name]);
  at.ok(['header', 'backup', 'a.vol', 'backup']);
  const second = /[0-9a-f-]{36}/.exec(at.ok(['kms', 'create-key', '--json']).text)![0];
  at.ok(['kms', 'create-alias', 'alias/second', second]);
  const { keyId: first } = await describeVolume(at.path('a.vol'));
  runTool('cp', ['--sparse=always', at.path('a.vol'), at.path('template')]);
  const written = Buffer.from(old);
  WRITTEN.copy(written);
  return {
    at,
    kms: `embedded:${at.path('home')}`,
    images: { old, written },
    kmsKeys: { first, second },
    reset() {
      for (const name of at.names())
        if (name !== 'template' && !['first.key', 'second.key', 'backup', 'old.raw'].includes(name)) rmSync(at.path(name));
      runTool('cp', ['--sparse=always', at.path('template'), at.path('a.vol')]);
    },
  };
}

/** What is there, seen by all that opens it. */
async function observed({ at, kms, images, kmsKeys }: Bench): Promise<State> {
  const volume = at.path('a.vol');
  const imageOf = (bytes: Buffer): State['image'] => {
    const found = (['old', 'written'] as const).find((name) => images[name].equals(bytes));
    assert.ok(found !== undefined, 'the data is neither what it was nor what was written');
    return found;
  };
  if (statSync(volume).size === IMAGE_BYTES) return { ...BEFORE, image: imageOf(readFileSync(volume)), isRaw: true };
  // Both copies of the header are whole.
  await verifyVolume(volume, { kms });
  await decryptImage(volume, at.path('back.raw'), { kms, force: true });
  const { keyslotList, keyId, allocation } = await describeVolume(volume);
  const keys: string[] = [];
  for (const name of at.names().filter((file) => file.endsWith('.key'))) {
    const opened = await testKeyslot(volume, { recoveryKeyFile: at.path(name) }).catch((error: unknown) => {
      if (!(error instanceof VolsealError) || error.code !== 'ERR_KEYSLOT') throw error;
    });
    if (opened !== undefined) keys[Number(opened.keyslot)] = name;
  }
  assert.equal(keys.filter((key) => key !== undefined).length, keyslotList.length, 'a keyslot opens by no key that there is');
  const isOfBackup = await decryptImage(volume, at.path('by-backup.raw'), { kms, header: at.path('backup'), force: true }).then(
    () => at.contents('by-backup.raw').equals(at.contents('back.raw')),
    () => false,
  );
  const kmsKey = keyId.endsWith(kmsKeys.second) ? 'second' : 'first';
  return { keys: Array.from(keys), kmsKey, allocation, image: imageOf(at.contents('back.raw')), isOfBackup, isRaw: false };
}

/** As assertions compare it: a raw image has nothing but its bytes, and trailing keyslots are none. */
function comparable({ keys, ...state }: State): object {
  if (state.isRaw) return { isRaw: true, image: state.image };
  const last = keys.findLastIndex((key) => key !== undefined);
  return {
    ...state,
    keys: Array.from(keys)
      .slice(0, last + 1)
      .map((key) => key ?? null),
  };
}

/** What two commands with these ends can have made, in whichever order. */
function possible(commands: readonly [Command, Command], ends: readonly [Ended, Ended]): State[] {
  const orders = [
    [0, 1],
    [1, 0],
  ] as const;
  return orders.flatMap((order) => {
    let state: State = BEFORE;
    for (const side of order) {
      const { code } = ends[side];
      const next = after(state, commands[side], side);
      if (code === undefined) {
        if (typeof next === 'string') return [];
        state = next;
      } else if (!BUSY.includes(code) && next !== code) return [];
    }
    return [state];
  });
}

async function checkPair(at: Bench, names: readonly [string, string], ends: readonly [Ended, Ended]): Promise<void> {
  const what = names.map((name, side) => `${name}: ${ends[side]!.code ?? 'done'} ${ends[side]!.message}`).join('; ');
  assert.ok(!existsSync(at.at.path('.a.vol.in-place')), what);
  assert.ok(
    ends.some(({ code }) => code === undefined || !BUSY.includes(code)),
    `both were refused: ${what}`,
  );
  const states = possible([COMMANDS[names[0]]!, COMMANDS[names[1]]!], ends).map(comparable);
  assert.ok(states.length > 0, `this cannot be in any order: ${what}`);
  const seen = comparable(
    await observed(at).catch((error: unknown) => {
      throw new Error(`after ${what}`, { cause: error });
    }),
  );
  const isPossible = states.some((state) => JSON.stringify(Object.entries(state).sort()) === JSON.stringify(Object.entries(seen).sort()));
  if (!isPossible) assert.deepEqual(seen, states[0], what);
  for (const [side, name] of names.entries()) {
    const made = at.at.path(`new${side}.vol`);
    if (name !== 'reencrypt --out' || ends[side]!.code !== undefined) continue;
    await decryptImage(made, at.at.path('back.raw'), { kms: at.kms, force: true });
    assert.ok(
      Object.values(at.images).some((image) => image.equals(at.at.contents('back.raw'))),
      what,
    );
  }
}

const NAMES = Object.keys(COMMANDS);

/** All pairs take seven minutes (VOLSEAL_PAIRS=all); a run takes some with each command, as its seed says. */
const SECONDS_MAX = process.env.VOLSEAL_PAIRS === 'all' ? NAMES.length : 3;

function someOf(names: readonly string[], seed: number): string[] {
  const choose = seededNumbers(seed);
  const left = [...names];
  return Array.from({ length: Math.min(SECONDS_MAX, left.length) }, () => left.splice(choose(left.length), 1)[0]!);
}

describeUnless(skipInjection())('while one command is under way', () => {
  for (const [index, first] of NAMES.entries()) {
    test(`${first}: each other one is refused, or comes after it`, async () => {
      const at = await bench();
      let refused = 0;
      for (const second of someOf(NAMES, SEED + index)) {
        at.reset();
        const slow = startFaulty(at.at, SLOW, [...COMMANDS[first]!.args(0), '--json']);
        let isOver = false;
        slow.once('close', () => {
          isOver = true;
        });
        const slowEnd = outcomeOf(slow, COMMANDS[first]!.input);
        await until(() => isOver || isLocked(at.at.path('a.vol')));
        const fast = at.at.start([...COMMANDS[second]!.args(1), '--json']);
        const ends = await Promise.all([slowEnd, outcomeOf(fast, COMMANDS[second]!.input)]);
        refused += ends.filter(({ code }) => code !== undefined && BUSY.includes(code)).length;
        await checkPair(at, [first, second], ends);
      }
      // A short command may be over before the other one has begun, on a busy machine three times in a row.
      if (SECONDS_MAX === NAMES.length) assert.ok(refused > 0, 'no two were ever at it together');
    });
  }
});

describe('two commands that begin together', () => {
  for (const [index, first] of NAMES.entries()) {
    test(`${first}, with each of the others`, async () => {
      const at = await bench();
      for (const second of someOf(NAMES.slice(index), SEED + index)) {
        for (let round = 0; round < 2; round++) {
          at.reset();
          const children = [first, second].map((name, side) => at.at.start([...COMMANDS[name]!.args(side), '--json']));
          const outcomes = [first, second].map((name, side) => outcomeOf(children[side]!, COMMANDS[name]!.input));
          await checkPair(at, [first, second], (await Promise.all(outcomes)) as [Ended, Ended]);
        }
      }
    });
  }
});

test('encrypt --in-place twice, and with a header of its own: one volume, of the right image', async () => {
  for (const options of [[], ['--header', 'a.header']]) {
    const at = lab();
    const image = at.image('image', IMAGE_BYTES);
    at.ok(['create', 'first.vol', '--size', '64K']);
    const kms = `embedded:${at.path('home')}`;
    const header = options[1] && at.path(options[1]);
    for (let round = 0; round < 6; round++) {
      cpSync(at.path('image'), at.path('a.raw'));
      if (header !== undefined) rmSync(header, { force: true });
      const children = [0, 1].map(() => at.start(['encrypt', '--in-place', 'a.raw', ...options, '--json']));
      const ends = await Promise.all(children.map((child) => outcomeOf(child, undefined)));
      assert.equal(ends.filter(({ code }) => code === undefined).length, 1, JSON.stringify(ends));
      await decryptImage(at.path('a.raw'), at.path('back.raw'), { kms, header, force: true });
      assert.ok(at.contents('back.raw').equals(image));
    }
  }
});

testUnless(skipWithout('cryptsetup'))(
  'adopt twice, also where keyslots are removed: KMS opens the volume, and no key is lost',
  async () => {
    const at = lab();
    writeFileSync(at.path('pass'), 'a passphrase of ours');
    writeFileSync(at.path('template'), '');
    truncateSync(at.path('template'), 17 * KIB * KIB);
    const format = ['luksFormat', '--batch-mode', '--type', 'luks2', '--key-size', '512', '--pbkdf', 'pbkdf2'];
    runTool('cryptsetup', [...format, '--pbkdf-force-iterations', '1000', at.path('template'), at.path('pass')]);
    at.ok(['create', 'first.vol', '--size', '64K']);
    const kms = `embedded:${at.path('home')}`;
    const adopt = ['adopt', 'a.vol', '--passphrase-file', 'pass', '--json'];
    for (const other of [adopt, [...adopt, '--remove-keyslots']])
      for (let round = 0; round < 5; round++) {
        cpSync(at.path('template'), at.path('a.vol'));
        const ends = await Promise.all([adopt, other].map((args) => outcomeOf(at.start(args), undefined)));
        const codes = ends.map(({ code }) => code);
        assert.equal(codes.filter((code) => code === undefined).length, 1, JSON.stringify(ends));
        // Who comes second finds a volume that is under KMS already.
        assert.ok(
          codes.every((code) => code === undefined || code === 'ERR_STATE_BUSY' || code === 'ERR_ARGUMENT'),
          JSON.stringify(ends),
        );
        const verified = await verifyVolume(at.path('a.vol'), { kms });
        assert.equal(verified.dataBound, true);
        const { keyslots } = await describeVolume(at.path('a.vol'));
        const removed = codes[1] === undefined && other !== adopt;
        assert.equal(keyslots, removed ? 0 : 1);
        if (!removed) await testKeyslot(at.path('a.vol'), { passphraseFile: at.path('pass') });
      }
  },
);
