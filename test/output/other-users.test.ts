/**
 * Files and links of other users in shared directories: never followed, never believed, and they stop nobody for ever.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { describe, onTestFinished, test } from 'vitest';
import { Directory, findEntry } from '../../src/directory-entry.js';
import { attach, createVolume, decryptImage, densifyVolume, describeVolume, encryptImage } from '../../src/index.js';
import { AtomicFile } from '../../src/output/atomic-file.js';
import { resolveTarget } from '../../src/output/resolve-target.js';
import { runTool, skipFor, skipWithout } from '../interop/tools.js';
import { describeUnless, testUnless } from '../requirements.js';
import { until } from '../until.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { skipWithoutLoop } from './loop-device.js';

/** Not this test's user. */
const MALLORY = 65_533;
const unlessRoot = process.geteuid?.() !== 0 && skipFor('not root: files of another user cannot be made');

interface Shared {
  box: Sandbox;
  /** A path in a directory where everybody may make files: sticky, as /tmp. */
  at(name: string): string;
}

function shared(): Shared {
  const box = sandbox();
  chmodSync(box.directory, 0o755);
  mkdirSync(box.path('shared'));
  chmodSync(box.path('shared'), 0o1777);
  return { box, at: (name) => box.path(`shared/${name}`) };
}

/** Makes a file that is Mallory's. */
function mallorys(path: string, contents: string | Buffer = 'forged'): void {
  writeFileSync(path, contents, { mode: 0o666 });
  chownSync(path, MALLORY, MALLORY);
}

function mallorysLink(target: string, path: string): void {
  symlinkSync(target, path);
  lchownSync(path, MALLORY, MALLORY);
}

describeUnless(unlessRoot)('a symbolic link of another user', () => {
  test('in a shared directory is refused by name, as target, header, volume and source', async () => {
    const { box, at } = shared();
    box.image('a.raw', 4096);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    writeFileSync(box.path('precious'), 'precious');
    const options = { kms: box.kms, force: true };
    mallorysLink(box.path('precious'), at('out'));
    mallorysLink(box.path('a.vol'), at('a.vol'));
    mallorysLink(box.directory, at('folder'));
    const refusals = [
      () => decryptImage(box.path('a.vol'), at('out'), options),
      () => decryptImage(box.path('a.vol'), at('folder/precious'), options),
      () => decryptImage(box.path('a.vol'), at('folder/new'), options),
      () => encryptImage(box.path('a.raw'), at('out'), options),
      () => createVolume(box.path('new.vol'), { ...options, sizeBytes: 4096, header: at('out') }),
      () => attach(at('a.vol'), options),
      () => describeVolume(at('a.vol')),
      () => encryptImage(at('out'), box.path('b.vol'), options),
    ];
    for (const refused of refusals) {
      await assert.rejects(refused, { code: 'ERR_IO', message: /is a symbolic link of another user \(uid 65533\)/ }, `${refused}`);
    }
    assert.equal(readFileSync(box.path('precious'), 'utf8'), 'precious');
    assert.ok(lstatSync(at('out')).isSymbolicLink());
    assert.ok(!existsSync(box.path('new')) && !existsSync(box.path('new.vol')));
  });

  test('elsewhere is followed for reading, not for writing; root’s own always', async () => {
    const { box, at } = shared();
    box.image('a.raw', 4096);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    mallorysLink('a.vol', box.path('current'));
    assert.equal((await describeVolume(box.path('current'))).sizeBytes, 4096);
    await assert.rejects(attach(box.path('current'), { kms: box.kms }), { code: 'ERR_IO', message: /of another user/ });
    symlinkSync(box.path('a.vol'), at('own'));
    await (await attach(at('own'), { kms: box.kms })).detach();
  });
});

describe('a directory that was opened', () => {
  test('stays what it is, wherever its path leads by then', async () => {
    const box = sandbox();
    mkdirSync(box.path('dir'));
    mkdirSync(box.path('other'));
    await using directory = await Directory.open(box.path('dir'));
    renameSync(box.path('dir'), box.path('moved'));
    symlinkSync('other', box.path('dir'));
    await writeFile(directory.at('new'), 'x');
    await rename(directory.at('new'), directory.at('renamed'));
    assert.ok(existsSync(box.path('moved/renamed')));
    assert.deepEqual(await directory.names(), ['renamed']);
    await assert.rejects(Directory.open(box.path('dir')), { code: 'ERR_IO', message: /dir has become a symbolic link/ });
  });

  test('a target is published in the directory that was checked', async () => {
    const box = sandbox();
    mkdirSync(box.path('dir'));
    mkdirSync(box.path('other'));
    writeFileSync(box.path('other/out'), 'precious');
    writeFileSync(box.path('dir/out'), 'old');
    const options = { force: true, fsync: true };
    const target = await AtomicFile.open(await resolveTarget(box.path('dir/out'), options), options);
    renameSync(box.path('dir'), box.path('moved'));
    symlinkSync('other', box.path('dir'));
    await target.file.writeText('new');
    const publication = await target.publishReversibly();
    await publication.commit();
    await target[Symbol.asyncDispose]();
    assert.equal(readFileSync(box.path('other/out'), 'utf8'), 'precious');
    assert.equal(readFileSync(box.path('moved/out'), 'utf8'), 'new');
  });

  test('a name that becomes a link after it was checked is replaced itself', async () => {
    const box = sandbox();
    writeFileSync(box.path('precious'), 'precious');
    writeFileSync(box.path('out'), 'old');
    const options = { force: true, fsync: true };
    const resolved = await resolveTarget(box.path('out'), options);
    rmSync(box.path('out'));
    symlinkSync('precious', box.path('out'));
    await assert.rejects(AtomicFile.open(resolved, options), { code: 'ERR_IO', message: /out: open failed: ELOOP/ });
    rmSync(box.path('out'));
    writeFileSync(box.path('out'), 'old');
    const target = await AtomicFile.open(resolved, options);
    rmSync(box.path('out'));
    symlinkSync('precious', box.path('out'));
    await target.publish();
    await target[Symbol.asyncDispose]();
    assert.ok(lstatSync(box.path('out')).isFile());
    assert.equal(readFileSync(box.path('precious'), 'utf8'), 'precious');
  });

  test('links are followed as the kernel follows them', async () => {
    const box = sandbox();
    mkdirSync(box.path('a/b'), { recursive: true });
    mkdirSync(box.path('c'));
    writeFileSync(box.path('c/file'), '');
    symlinkSync('../../c', box.path('a/b/up'));
    symlinkSync(`${box.directory}/a/b/up/../c/./file`, box.path('chain'));
    for (const path of ['chain', 'a/b/up/file', 'a//b/up/../c/file', 'a/b/../../chain']) {
      const whole = `${box.directory}/${path}`;
      await using entry = await findEntry(whole, 'write');
      assert.equal(entry.realPath, box.path('c/file'), path);
      assert.equal(entry.found?.stats.ino, statSync(whole, { bigint: true }).ino);
    }
    for (const path of ['c/file/', 'c/file/x', 'c/none/x', 'a/b/up/none/'])
      await assert.rejects(findEntry(`${box.directory}/${path}`, 'write'), { code: 'ERR_IO' });
  });
});

testUnless(unlessRoot || skipWithout('setpriv'))(
  'another user who exchanges a file and a link all the time reaches no file of root',
  async () => {
    const { box, at } = shared();
    const image = box.image('a.raw', 4096);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    writeFileSync(box.path('precious'), 'precious');
    chmodSync(box.path('precious'), 0o644);
    const ids = ['--reuid', `${MALLORY}`, '--regid', `${MALLORY}`, '--clear-groups'];
    const script = readFileSync(new URL('swap-names.sh', import.meta.url), 'utf8');
    const racer = spawn('setpriv', [...ids, 'sh', '-c', script, 'swap', at('out'), box.path('precious')], { stdio: 'ignore' });
    onTestFinished(() => void racer.kill('SIGKILL'));
    let refused = 0;
    let done = 0;
    for (let round = 0; round < 150; round++) {
      await until(() => lstatSync(at('out'), { throwIfNoEntry: false })?.uid === MALLORY);
      try {
        await decryptImage(box.path('a.vol'), at('out'), { kms: box.kms, force: true });
        done++;
        // From now on nobody but root can exchange it: the directory is sticky.
        assert.ok(lstatSync(at('out')).isFile() && readFileSync(at('out')).equals(image));
        rmSync(at('out'));
      } catch (error) {
        assert.match(`${error}`, /of another user|symbolic link|ELOOP|ENOENT/);
        refused++;
      }
      assert.equal(readFileSync(box.path('precious'), 'utf8'), 'precious', `round ${round}`);
    }
    assert.ok(done > 0 && refused > 0, `${done} done, ${refused} refused`);
  },
);

describeUnless(unlessRoot)('files of another user beside a target', () => {
  const PAIR_OPTIONS = { force: true, fsync: false };

  test('a forged mark beside a header is no mark, whatever it says and however large it is', async () => {
    const { box, at } = shared();
    const header = at('a.header');
    await createVolume(box.path('a.vol'), { kms: box.kms, sizeBytes: 4096, header });
    const { ino } = statSync(header, { bigint: true });
    const forged = {
      header: { ino: `${ino}`, temporary: '.a.header.0123456789ab.partial', path: 'a.header' },
      volume: { ino: '1', temporary: '.a.vol.0123456789ab.partial', path: '../a.vol' },
    };
    mallorys(at('.a.header.0123456789ab.partial.old'));
    for (const contents of [JSON.stringify(forged), 'x', Buffer.alloc(1 << 20)]) {
      mallorys(at('.a.header.pair'), contents);
      assert.equal((await describeVolume(box.path('a.vol'), { header })).sizeBytes, 4096);
      rmSync(at('.a.header.pair'));
    }
    // A mark of root is believed, and the file that Mallory put where a backup would be is not named as one.
    writeFileSync(at('.a.header.pair'), JSON.stringify(forged), { mode: 0o600 });
    await assert.rejects(describeVolume(box.path('a.vol'), { header }), {
      code: 'ERR_STATE_INTERRUPTED',
      details: {
        path: box.path('a.vol'),
        header,
        volume: box.path('a.vol'),
        backup: null,
        successor: null,
        replaced: false,
        resumable: false,
      },
    });
  });

  test('a mark that is in the way of a new pair is refused by name', async () => {
    const { box, at } = shared();
    mallorys(at('.a.header.pair'));
    const failure = { code: 'ERR_IO', message: /\.a\.header\.pair: .*belongs to another user \(uid 65533\)/ };
    const options = { ...PAIR_OPTIONS, kms: box.kms, sizeBytes: 4096, header: at('a.header') };
    await assert.rejects(createVolume(box.path('a.vol'), options), failure);
    assert.ok(existsSync(at('.a.header.pair')));
  });

  test('a partial file, a checkpoint and a next checkpoint: --resume steps around them, and finds its own again', async () => {
    const { box, at } = shared();
    const image = box.image('a.raw', 12 * 1024 * 1024);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    for (const name of ['.out.resume', '.out.resume.json', '.out.resume.json.new']) mallorys(at(name));
    const made = await decryptImage(box.path('a.vol'), at('out'), { kms: box.kms, resume: true });
    assert.equal(made.imageBytes, image.length);
    assert.ok(readFileSync(at('out')).equals(image));
    for (const name of ['.out.resume', '.out.resume.json', '.out.resume.json.new']) assert.equal(readFileSync(at(name), 'utf8'), 'forged');
  });

  test('an interrupted run’s own files under random names are found, Mallory’s are not', async () => {
    const { at } = shared();
    mallorys(at('.out.resume'));
    mallorys(at('.out.00000000000a.resume'));
    const options = { force: false, fsync: true, resume: true };
    const resolved = await resolveTarget(at('out'), options);
    const first = await AtomicFile.open(resolved, options);
    await first.file.writeText('half');
    first.keepForResume();
    await first[Symbol.asyncDispose]();
    const second = await AtomicFile.open(resolved, options);
    assert.equal(second.openPath, first.openPath);
    assert.ok(second.hasEarlierData);
    assert.match(second.openPath, /\.out\.[0-9a-f]{12}\.resume$/);
    await second[Symbol.asyncDispose]();
  });
});

describe('a volume that another program writes to', () => {
  testUnless(skipWithoutLoop())('by a loop device is not opened for writing; a read-only loop device does not matter', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { kms: box.kms, sizeBytes: 4 * 1024 * 1024, allocation: 'full' });
    const device = runTool('losetup', ['--find', '--show', box.path('a.vol')]).trim();
    onTestFinished(() => void spawnSync('losetup', ['--detach', device]));
    const refusal = {
      code: 'ERR_STATE_BUSY',
      message: /the loop device \/dev\/loop\d+ writes to it/,
      details: { path: box.path('a.vol'), device },
    };
    await assert.rejects(attach(box.path('a.vol'), { kms: box.kms }), refusal);
    await assert.rejects(densifyVolume(box.path('a.vol'), { kms: box.kms }), refusal);
    await (await attach(box.path('a.vol'), { kms: box.kms, readOnly: true })).detach();
    runTool('losetup', ['--detach', device]);
    const readOnly = runTool('losetup', ['--find', '--show', '--read-only', box.path('a.vol')]).trim();
    onTestFinished(() => void spawnSync('losetup', ['--detach', readOnly]));
    await (await attach(box.path('a.vol'), { kms: box.kms })).detach();
  });

  testUnless(skipWithout('python3'))('with a record lock, as qemu has one, is not opened for writing', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { kms: box.kms, sizeBytes: 4096 });
    // qemu takes shared locks on single bytes from 100 on.
    const program =
      'import fcntl,sys; f=open(sys.argv[1],"r+b"); fcntl.lockf(f,fcntl.LOCK_SH,1,101); print("held",flush=True); sys.stdin.read()';
    const holder = spawn('python3', ['-c', program, box.path('a.vol')], { stdio: ['pipe', 'pipe', 'inherit'] });
    onTestFinished(() => void holder.kill('SIGKILL'));
    await once(holder.stdout, 'data');
    const refusal = { code: 'ERR_STATE_BUSY', message: /another program has locked it/ };
    await assert.rejects(attach(box.path('a.vol'), { kms: box.kms }), refusal);
    holder.stdin.end();
    await once(holder, 'exit');
    await (await attach(box.path('a.vol'), { kms: box.kms })).detach();
  });
});
