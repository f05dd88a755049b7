/**
 * A disk that is full while a header, or a whole image, moves: with each amount of room that a job may find. While it
 * is full the volume or image is whole; with room the same command finishes, and a job in place can be taken back too.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'vitest';
import {
  addRecoveryKey,
  backupHeader,
  decryptImage,
  decryptInPlace,
  describeVolume,
  encryptImage,
  encryptInPlace,
  reencryptInPlace,
  restoreHeader,
  testKeyslot,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { built } from '../built.js';
import { stoppingAt } from '../in-place/stopping.js';
import { runTool } from '../interop/tools.js';
import { skipWithoutMount, smallDisk } from '../mount.js';
import { describeUnless } from '../requirements.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const MIB = 1024 * 1024;
const PAGE = 4096;
const DISK_BYTES = 16 * MIB;
const IMAGE_BYTES = MIB + 5 * 512;
const JOBS = { encrypt: encryptInPlace, decrypt: decryptInPlace, reencrypt: reencryptInPlace } as const;

/** A full disk, and a job there. */
interface Scene {
  readonly box: Sandbox;
  /** A path on the small disk. */
  readonly on: (name: string) => string;
  readonly image: Buffer;
}

interface Scenario {
  readonly title: string;
  /** In steps of so many bytes more room, until there is enough. */
  readonly stepBytes: number;
  readonly script: string;
  readonly args: (scene: Scene) => string[];
  /** Makes `disk.vol` in the sandbox, and what else it needs there; `disk.vol` is copied to the small disk. */
  readonly prepare: (box: Sandbox) => Promise<void>;
  /** While the disk is full. */
  readonly whileFull: (scene: Scene) => Promise<void>;
  /** There is room again. @param round counts, so that both ways are tried */
  readonly withRoom: (scene: Scene, isDone: boolean, round: number) => Promise<void>;
}

const JOURNAL = '.disk.vol.in-place';

async function holdsImage({ box, on, image }: Scene, header?: string): Promise<void> {
  await decryptImage(on('disk.vol'), box.path('back'), { kms: box.kms, header, force: true });
  assert.ok(box.contents('back').equals(image));
}

const volumeIn = async (box: Sandbox): Promise<void> => {
  await encryptImage(box.path('image'), box.path('disk.vol'), { kms: box.kms, force: true });
};

function inPlace(kind: keyof typeof JOBS): Scenario {
  return {
    title: `${kind} in place`,
    stepBytes: 768 * 1024,
    script: built('test/in-place/in-place-once.ts'),
    args: ({ box, on }) => [kind, on('disk.vol'), box.kms, '-', '-'],
    async prepare(box) {
      await volumeIn(box);
      if (kind === 'encrypt') cpSync(box.path('image'), box.path('disk.vol'));
    },
    async whileFull(scene) {
      const file = readFileSync(scene.on('disk.vol'));
      const isImage = file.equals(scene.image);
      if (!isImage) return holdsImage(scene);
      assert.ok(kind !== 'reencrypt');
    },
    async withRoom(scene, isDone, round) {
      const { box, on, image } = scene;
      const undo = existsSync(on(JOURNAL)) && round % 2 === 1;
      if (!isDone) await JOBS[kind](on('disk.vol'), { kms: box.kms, undo, partBytes: MIB });
      assert.ok(!existsSync(on(JOURNAL)));
      const isImage = (kind === 'encrypt' && undo) || (kind === 'decrypt' && !undo);
      if (isImage) assert.ok(readFileSync(on('disk.vol')).equals(image));
      else await holdsImage(scene);
    },
  };
}

const SCENARIOS: readonly Scenario[] = [
  inPlace('encrypt'),
  inPlace('decrypt'),
  inPlace('reencrypt'),
  {
    title: 'recovery add',
    stepBytes: 48 * 1024,
    script: built('test/faults/header-job-once.ts'),
    args: ({ box, on }) => ['add', on('disk.vol'), box.kms, on('disk.key')],
    prepare: volumeIn,
    whileFull: holdsImage,
    async withRoom(scene, isDone) {
      const { box, on } = scene;
      assert.equal(existsSync(on('disk.key')), isDone);
      if (!isDone) {
        assert.deepEqual((await describeVolume(on('disk.vol'))).keyslotList, [], 'a keyslot of which nobody has the key');
        await addRecoveryKey(on('disk.vol'), on('disk.key'), { kms: box.kms });
      }
      await testKeyslot(on('disk.vol'), { recoveryKeyFile: on('disk.key') });
      await holdsImage(scene);
    },
  },
  {
    title: 'header restore, where the header was trimmed away',
    stepBytes: 48 * 1024,
    script: built('test/faults/header-job-once.ts'),
    args: ({ box, on }) => ['restore', on('disk.vol'), box.kms, box.path('backup')],
    async prepare(box) {
      await volumeIn(box);
      await addRecoveryKey(box.path('disk.vol'), box.path('first.key'), { kms: box.kms });
      await backupHeader(box.path('disk.vol'), box.path('backup'), { force: true });
      // What a stray mkfs or blkdiscard leaves of it; remains of the second copy show that a volume was there.
      runTool('fallocate', ['--punch-hole', '--offset', '0', '--length', '16384', box.path('disk.vol')]);
      runTool('fallocate', ['--punch-hole', '--offset', '20480', '--length', String(MIB - 20480), box.path('disk.vol')]);
    },
    // By the backup it opens, whatever was written of it.
    whileFull: (scene) => holdsImage(scene, scene.box.path('backup')),
    async withRoom(scene, isDone) {
      const { box, on } = scene;
      if (!isDone) await restoreHeader(on('disk.vol'), box.path('backup'), { kms: box.kms });
      await testKeyslot(on('disk.vol'), { recoveryKeyFile: box.path('first.key') });
      await holdsImage(scene);
    },
  },
];

/** Leaves so many bytes of room, whole pages. */
function fill(disk: string, roomBytes: number): void {
  const { bavail, bsize } = statfsSync(disk);
  writeFileSync(join(disk, 'filler'), Buffer.alloc(Math.max(0, Math.floor((bavail * bsize - roomBytes) / PAGE) * PAGE)));
}

async function withEachRoom({ stepBytes, script, args, prepare, whileFull, withRoom }: Scenario): Promise<void> {
  const box = sandbox();
  const image = box.image('image', IMAGE_BYTES);
  const disk = box.path('small');
  smallDisk(disk, DISK_BYTES);
  const scene: Scene = { box, image, on: (name) => join(disk, name) };
  await prepare(box);
  let failures = 0;
  for (let round = 0, isDone = false; !isDone; round++) {
    for (const name of readdirSync(disk)) rmSync(join(disk, name));
    runTool('cp', ['--sparse=always', box.path('disk.vol'), scene.on('disk.vol')]);
    fill(disk, round * stepBytes);
    const { stdout, stderr, status } = spawnSync(process.execPath, [script, ...args(scene)], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    isDone = stdout.trim() === 'done';
    try {
      if (!isDone) assert.equal(stdout.trim(), 'ERR_IO ENOSPC', stderr);
      await whileFull(scene);
      rmSync(scene.on('filler'));
      await withRoom(scene, isDone, round);
    } catch (error) {
      throw new Error(`with ${round * stepBytes} bytes of room`, { cause: error });
    }
    assert.equal(native.vaultInfo().liveKeys, 0);
    failures += isDone ? 0 : 1;
  }
  assert.ok(failures > 2, `only ${failures} runs found the disk full`);
}

/** A job in place that has moved a part, and then the disk is full to the last page. */
async function fullInTheMiddle(kind: keyof typeof JOBS, undo: boolean): Promise<void> {
  const { prepare } = inPlace(kind);
  const box = sandbox();
  const image = box.image('image', IMAGE_BYTES);
  const disk = box.path('small');
  smallDisk(disk, DISK_BYTES);
  const scene: Scene = { box, image, on: (name) => join(disk, name) };
  const volume = scene.on('disk.vol');
  await prepare(box);
  // Its holes take no room before they are written.
  runTool('cp', ['--sparse=always', box.path('disk.vol'), volume]);
  const options = { kms: box.kms, partBytes: MIB };
  await assert.rejects(JOBS[kind](volume, { ...options, ...stoppingAt(1) }), { code: 'ERR_ABORTED' });
  fill(disk, 0);
  assert.equal(statfsSync(disk).bavail, 0);
  const { undone } = await JOBS[kind](volume, { ...options, undo });
  assert.equal(undone, undo);
  assert.ok(!existsSync(scene.on(JOURNAL)));
  if ((kind === 'encrypt') === undo && kind !== 'reencrypt') assert.ok(readFileSync(volume).equals(image));
  else await holdsImage(scene);
  assert.equal(native.vaultInfo().liveKeys, 0);
}

describeUnless(skipWithoutMount())('a full disk', () => {
  for (const scenario of SCENARIOS) test(scenario.title, () => withEachRoom(scenario));
  for (const kind of ['encrypt', 'decrypt', 'reencrypt'] as const)
    for (const undo of [true, false])
      test(`without any room, ${kind} in place that was begun ${undo ? 'is taken back' : 'goes on'}`, () => fullInTheMiddle(kind, undo));
});
