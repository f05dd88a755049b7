/**
 * The bundle that people run: it is whole, and it runs with a code cache, without one, and with one that V8 does not
 * take.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { afterAll, beforeAll, describe, onTestFinished, test } from 'vitest';
import { cacheHead, sourceOf } from '../../src/program/load.js';
import { MAIN, ROOT } from '../built.js';
import { lacksNode, type NodeName, nodeExecutable } from '../other-nodes.js';
import { testUnless } from '../requirements.js';

const PROGRAM = join(ROOT, 'dist/program');

const IMAGE = Buffer.alloc(4096, 7);
/** A directory with a home, and a volume that holds IMAGE. */
const SHARED = mkdtempSync(join(tmpdir(), 'volseal-program-'));
const VOLUME = join(SHARED, 'volume');
afterAll(() => rmSync(SHARED, { recursive: true, force: true }));
beforeAll(() => {
  const env = { ...process.env, VOLSEAL_HOME: join(SHARED, 'home') };
  const { status, stderr } = spawnSync(process.execPath, [MAIN, 'encrypt', '-', VOLUME, '--size', '4K'], {
    encoding: 'utf8',
    env,
    input: IMAGE,
  });
  assert.equal(status, 0, stderr);
});

interface Installation {
  /** The path of a file of the program. */
  file(name: string): string;
  /** Runs volseal, which must succeed. @returns what it writes to standard output */
  run(...words: string[]): string;
  /** The same under another Node. */
  runWith(node: string, ...words: string[]): string;
  /** Makes the code cache, without any message. */
  makeCache(node?: string): void;
}

/** An installation of its own, whose program may be damaged. */
function installation(): Installation {
  const root = mkdtempSync(join(tmpdir(), 'volseal 100%20#program '));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'dist'));
  cpSync(PROGRAM, join(root, 'dist/program'), { recursive: true });
  for (const shared of ['build', 'node_modules', 'package.json']) symlinkSync(join(ROOT, shared), join(root, shared));
  const file = (name: string): string => join(root, 'dist/program', name);
  const spawn = (node: string, words: string[]): string => {
    const env = { ...process.env, VOLSEAL_HOME: join(SHARED, 'home') };
    const { status, stdout, stderr } = spawnSync(node, words, { encoding: 'utf8', env });
    assert.equal(stderr, '');
    assert.equal(status, 0);
    return stdout;
  };
  return {
    file,
    run: (...words) => spawn(process.execPath, [file('main.js'), ...words]),
    runWith: (node, ...words) => spawn(node, [file('main.js'), ...words]),
    makeCache: (node = process.execPath) => void spawn(node, [file('code-cache.js')]),
  };
}

/** The main thread and the pool's threads load the bundle, each for itself. */
function worksIn({ file, runWith }: Installation, node = process.execPath): void {
  runWith(node, 'decrypt', VOLUME, file('copy'), '--force');
  assert.deepEqual(readFileSync(file('copy')), IMAGE);
}

/** Of the program, and of the pool's threads; and the part of the bundle that each is made from. */
const PARTS: Readonly<Record<string, string>> = {
  'bundle.cache': 'bundle.js',
  'bundle.cache-rest': 'bundle-rest.js',
  'bundle.cache-stores': 'stores-sdk.js',
  'bundle.cache-thread': 'bundle.js',
  'bundle.cache-thread-rest': 'bundle-rest.js',
};
const CACHES = Object.keys(PARTS);

const sourceIn = (own: { file(name: string): string }, part: string): string =>
  sourceOf(part === 'stores-sdk.js' ? 'stores' : 'first', readFileSync(own.file(part)));

/** A code cache without its head (src/program/load.ts), and with one that tells that it fits. */
const withoutHead = (file: Buffer): Buffer => file.subarray(file.indexOf('\n') + 1);

const withByteChanged = (bytes: Buffer, at: number): Buffer => {
  const changed = Buffer.from(bytes);
  changed[Math.floor(at)]! ^= 0x55;
  return changed;
};

const withHead = (cache: Buffer, name: string): Buffer =>
  Buffer.concat([cacheHead(readFileSync(join(PROGRAM, PARTS[name]!)), cache), cache]);

describe('the code cache', () => {
  test('is taken by the Node that made it', () => {
    const own = installation();
    own.makeCache();
    for (const [name, part] of Object.entries(PARTS)) {
      const file = readFileSync(own.file(name));
      const cachedData = withoutHead(file);
      assert.deepEqual(file, withHead(cachedData, name));
      const script = new Script(sourceIn(own, part), { cachedData });
      assert.equal(script.cachedDataRejected, false);
    }
  });

  test('has what a command runs, not its outermost functions alone', () => {
    const own = installation();
    own.makeCache();
    for (const [name, part] of Object.entries(PARTS)) {
      const unused = new Script(sourceIn(own, part)).createCachedData();
      assert.ok(statSync(own.file(name)).size > 1.4 * unused.length, name);
    }
  });

  // V8 crashes on some caches that it accepts: those of another release with the same V8 version (nodejs/node#62781).
  for (const other of ['node-20', 'node-22'] satisfies NodeName[]) {
    testUnless(lacksNode(other))(`of this Node is not given to ${other}, nor the other way round; each makes its own`, () => {
      const own = installation();
      for (const [maker, user] of [
        [process.execPath, nodeExecutable(other)],
        [nodeExecutable(other), process.execPath],
      ] as const) {
        own.makeCache(maker);
        const made = readFileSync(own.file('bundle.cache'));
        worksIn(own, user);
        assert.deepEqual(readFileSync(own.file('bundle.cache')), made);
        own.makeCache(user);
        worksIn(own, user);
      }
    });
  }

  test('made with flags of V8 does not fit a Node without them', () => {
    const own = installation();
    assert.equal(spawnSync(process.execPath, ['--jitless', own.file('code-cache.js')]).status, 0);
    const file = readFileSync(own.file('bundle.cache'));
    assert.notDeepEqual(file, withHead(withoutHead(file), 'bundle.cache'));
    worksIn(own);
  });

  test('may be missing', () => {
    const own = installation();
    for (const cache of CACHES) rmSync(own.file(cache));
    worksIn(own);
  });

  const damages: Record<string, (cache: Buffer, name: string) => Buffer> = {
    'cut off': (cache) => cache.subarray(0, cache.length / 2),
    empty: (cache) => cache.subarray(0, 0),
    'of another V8': (cache, name) => withHead(withByteChanged(withoutHead(cache), 4), name),
    'without a head': withoutHead,
    'wrong in one byte, which V8 does not look at': (cache) => withByteChanged(cache, cache.length / 2),
  };
  for (const [name, damage] of Object.entries(damages)) {
    test(`may be ${name}`, () => {
      const own = installation();
      for (const cache of CACHES) writeFileSync(own.file(cache), damage(readFileSync(own.file(cache)), cache));
      worksIn(own);
    });
  }

  test('of another bundle is not taken for its own', () => {
    const own = installation();
    const other = readFileSync(own.file('bundle.js'), 'latin1').replace('encrypted disk images: LUKS2', 'ENCRYPTED DISK IMAGES: LUKS2');
    writeFileSync(own.file('bundle.js'), other, 'latin1');
    assert.match(own.run('--help'), /ENCRYPTED DISK IMAGES/);
  });

  test('is for everybody, whatever the umask of who makes it', () => {
    const own = installation();
    for (const cache of CACHES) rmSync(own.file(cache));
    const { status } = spawnSync('sh', ['-c', 'umask 077; exec "$1" "$2"', 'sh', process.execPath, own.file('code-cache.js')]);
    assert.equal(status, 0);
    for (const cache of CACHES) assert.equal(statSync(own.file(cache)).mode & 0o777, 0o644);
  });

  test('that cannot be written is missed with a warning, and nothing is left of it', () => {
    const own = installation();
    for (const cache of CACHES) rmSync(own.file(cache));
    // Room neither for the rehearsal's files nor for the cache.
    const limited = ['-c', 'ulimit -f 100; exec "$1" "$2"', 'sh', process.execPath, own.file('code-cache.js')];
    const { status, stderr } = spawnSync('bash', limited, { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    assert.match(stderr, /volseal will start more slowly: its code cache is incomplete: .*EFBIG/);
    assert.deepEqual(
      readdirSync(own.file('.')).filter((name) => name.includes('cache')),
      ['code-cache.js'],
    );
    worksIn(own);
  });

  test('is made anew where it is missing', () => {
    const own = installation();
    for (const cache of CACHES) rmSync(own.file(cache));
    own.makeCache();
    for (const cache of CACHES) assert.ok(statSync(own.file(cache)).size > 0);
    worksIn(own);
  });
});

describe('a start loads only what it needs:', () => {
  const LOADED = join(SHARED, 'loaded.cjs');
  beforeAll(() => writeFileSync(LOADED, "process.on('exit', () => console.log(process.moduleLoadList.join('\\n')))"));
  const modulesOf = (...words: string[]): string[] => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--require', LOADED, MAIN, ...words], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    return stdout.split('\n');
  };

  test('info has neither cryptography nor child processes of Node', () => {
    const modules = modulesOf('info', VOLUME);
    assert.ok(modules.includes('NativeModule fs'));
    for (const name of ['crypto', 'child_process', 'http']) assert.ok(!modules.includes(`NativeModule ${name}`), name);
  });

  test('info runs without the second part of the bundle', () => {
    const own = installation();
    const told = own.run('info', VOLUME);
    rmSync(own.file('bundle-rest.js'));
    assert.equal(own.run('info', VOLUME), told);
  });

  test('a program that uses them has them', () => {
    const modules = modulesOf('decrypt', VOLUME, join(SHARED, 'decrypted'), '--kms', `embedded:${join(SHARED, 'home')}`);
    assert.ok(modules.includes('NativeModule crypto'));
  });
});

test('the licence of every package in the bundle goes with it', () => {
  const licences = readFileSync(join(PROGRAM, 'LICENSES'), 'utf8');
  for (const name of ['@aws-sdk/client-kms', '@aws-sdk/client-s3', '@aws-sdk/client-ebs', '@smithy/core', 'commander', 'zod']) {
    assert.match(licences, new RegExp(`^${name} \\d+\\.\\d+\\.\\d+: (Apache-2.0|MIT)$`, 'm'));
  }
  const sections = licences.split(`\n\n${'-'.repeat(80)}\n\n`);
  for (const section of sections) assert.match(section, /^\S+ \d\S+: \S/, section.slice(0, 100));
});

test('packages whose code in the bundle works with files outside of it are pinned', () => {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { dependencies: Record<string, string> };
  for (const name of ['lmdb', 'piscina']) {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8')) as { version: string };
    assert.equal(dependencies[name], version);
  }
});
