/** The bundle that people run: it is whole, and it runs with a code cache, without one, and with one that V8 does not take. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const PROGRAM = join(ROOT, 'dist/program');

/** An installation of its own, whose program may be damaged. */
function installation(t: TestContext): { file(name: string): string; run(...words: string[]): string } {
  const root = mkdtempSync(join(tmpdir(), 'volseal program '));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'dist'));
  cpSync(PROGRAM, join(root, 'dist/program'), { recursive: true });
  for (const shared of ['build', 'node_modules', 'package.json']) symlinkSync(join(ROOT, shared), join(root, shared));
  const file = (name: string): string => join(root, 'dist/program', name);
  return {
    file,
    run(...words) {
      const env = { ...process.env, VOLSEAL_HOME: join(root, 'home') };
      const { status, stdout, stderr } = spawnSync(process.execPath, [file('main.js'), ...words], { encoding: 'utf8', env });
      assert.deepEqual([status, stderr], [0, '']);
      return stdout;
    },
  };
}

/** Main thread and pool's threads load the bundle, each its own. */
function worksIn({ file, run }: ReturnType<typeof installation>): void {
  writeFileSync(file('image'), Buffer.alloc(4096, 7));
  run('encrypt', file('image'), file('volume'));
  run('decrypt', file('volume'), file('copy'));
  assert.deepEqual(readFileSync(file('copy')), readFileSync(file('image')));
}

describe('the code cache', () => {
  test('is taken by the Node that made it', () => {
    const script = new Script(readFileSync(join(PROGRAM, 'bundle.js'), 'latin1'), {
      cachedData: readFileSync(join(PROGRAM, 'bundle.cache')),
    });
    assert.equal(script.cachedDataRejected, false);
  });

  test('has what a command runs, not its outermost functions alone', () => {
    const source = readFileSync(join(PROGRAM, 'bundle.js'), 'latin1');
    const unused = new Script(source).createCachedData();
    assert.ok(statSync(join(PROGRAM, 'bundle.cache')).size > 2 * unused.length);
  });

  test('may be missing', (t) => {
    const own = installation(t);
    rmSync(own.file('bundle.cache'));
    worksIn(own);
  });

  const damages: Record<string, (cache: Buffer) => Buffer> = {
    'cut off': (cache) => cache.subarray(0, cache.length / 2),
    empty: (cache) => cache.subarray(0, 0),
    'of another V8': (cache) => Buffer.concat([cache.subarray(0, 4), Buffer.alloc(4, 0xa5), cache.subarray(8)]),
  };
  for (const [name, damage] of Object.entries(damages)) {
    test(`may be ${name}`, (t) => {
      const own = installation(t);
      writeFileSync(own.file('bundle.cache'), damage(readFileSync(own.file('bundle.cache'))));
      worksIn(own);
    });
  }

  test('is made anew where it is missing', (t) => {
    const own = installation(t);
    rmSync(own.file('bundle.cache'));
    const { status, stderr } = spawnSync(process.execPath, [own.file('code-cache.js')], { encoding: 'utf8' });
    assert.deepEqual([status, stderr], [0, '']);
    assert.ok(statSync(own.file('bundle.cache')).size > 0);
    worksIn(own);
  });
});

test('the licence of every package in the bundle goes with it', () => {
  const licences = readFileSync(join(PROGRAM, 'LICENSES'), 'utf8');
  for (const name of ['@aws-sdk/client-kms', '@smithy/core', 'commander', 'zod']) {
    assert.match(licences, new RegExp(`^${name} \\d+\\.\\d+\\.\\d+: (Apache-2.0|MIT)$`, 'm'));
  }
  const sections = licences.split(`\n\n${'-'.repeat(80)}\n\n`);
  for (const section of sections) assert.match(section, /^\S+ \d\S+: \S/, section.slice(0, 100));
});
