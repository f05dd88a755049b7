/** The package as people get it: packed, installed by npm in an empty directory, and used from there. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { ROOT } from '../built.js';
import { pack } from './tarball.js';

const directory = mkdtempSync(join(tmpdir(), 'volseal consumer '));
const inPackage = (path: string): string => join(directory, 'node_modules/volseal', path);

function run(command: string, words: readonly string[], environment: Record<string, string> = {}) {
  const result = spawnSync(command, words, { cwd: directory, encoding: 'utf8', env: { ...process.env, ...environment } });
  return { status: result.status, output: result.stdout + result.stderr };
}

beforeAll(() => {
  cpSync(join(ROOT, 'test/package/consumer'), directory, { recursive: true });
  const installed = run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', pack(directory)]);
  expect(installed.status, installed.output).toBe(0);
}, 1_800_000);

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test('installing compiles the addon and makes the code cache', () => {
  expect(existsSync(inPackage('build/Release/volseal.node'))).toBe(true);
  expect(existsSync(inPackage('dist/program/bundle.cache'))).toBe(true);
});

for (const typescript of ['typescript5', 'typescript7']) {
  for (const [resolution, module] of [
    ['nodenext', 'nodenext'],
    ['node16', 'node16'],
    ['bundler', 'esnext'],
  ] as const) {
    test(`its types hold under ${typescript} with ${resolution}, libraries checked too`, () => {
      const compiler = join(directory, 'node_modules', typescript, 'bin/tsc');
      const options = ['--project', '.', '--moduleResolution', resolution, '--module', module];
      expect(run(process.execPath, [compiler, ...options])).toEqual({ status: 0, output: '' });
    });
  }
}

test('the program encrypts and decrypts', () => {
  writeFileSync(join(directory, 'disk.raw'), Buffer.alloc(8192, 7));
  const home = { VOLSEAL_HOME: join(directory, 'home') };
  expect(run('npm', ['exec', '--', 'volseal', 'encrypt', 'disk.raw', 'disk.vol'], home)).toMatchObject({ status: 0 });
  expect(run('npm', ['exec', '--', 'volseal', 'decrypt', 'disk.vol', 'copy.raw'], home)).toMatchObject({ status: 0 });
  expect(readFileSync(join(directory, 'copy.raw')).equals(Buffer.alloc(8192, 7))).toBe(true);
});

test('the library works under Jest', () => {
  const jest = join(directory, 'node_modules/jest/bin/jest.js');
  const { status, output } = run(process.execPath, [
    '--experimental-vm-modules',
    jest,
    '--testTimeout',
    '300000',
    '--testMatch',
    '**/*.test.mjs',
  ]);
  expect(status, output).toBe(0);
});

test('a package with an addon for this machine needs no compiler; one that does not fit is not taken', () => {
  // As scripts/prebuild.mjs places it; the addon that was compiled at installation stands for the one that it makes.
  const prebuilt = inPackage(`prebuilds/linux-${process.arch}/volseal.node`);
  mkdirSync(dirname(prebuilt), { recursive: true });
  renameSync(inPackage('build/Release/volseal.node'), prebuilt);
  const install = (): ReturnType<typeof run> => run(process.execPath, [inPackage('scripts/install.mjs')]);
  const addon = (): unknown => {
    const { output } = run(process.execPath, [inPackage('dist/program/main.js'), '--version', '--json']);
    return (JSON.parse(output) as { addon: unknown }).addon;
  };
  expect(install()).toEqual({ status: 0, output: '' });
  expect(existsSync(inPackage('build/Release/volseal.node'))).toBe(false);
  expect(addon()).toBe('prebuilt');

  writeFileSync(prebuilt, 'an addon for another C library');
  expect(install()).toMatchObject({ status: 0 });
  expect(addon()).toBe('compiled here');
});

test('an installation without the packages that build dist/ says so before it compiles', () => {
  const clone = mkdtempSync(join(tmpdir(), 'volseal-clone-'));
  onTestFinished(() => rmSync(clone, { recursive: true, force: true }));
  cpSync(join(ROOT, 'scripts'), join(clone, 'scripts'), { recursive: true });
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/install.mjs'], { cwd: clone, encoding: 'utf8' });
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(/^volseal: dist\/ is not built, .*npm ci --include=dev/);
});

test('install scripts need no shell of their own: Yarn has none like sh', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare']) expect(scripts[name] ?? 'node x').toMatch(/^node [\w./-]+$/);
});
