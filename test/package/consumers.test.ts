/**
 * The package with an addon for this machine, as projects use it that have no compiler: installed by npm, pnpm and Yarn
 * without install scripts, and loaded in every way that Node, test runners and bundlers know.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '../built.js';
import { unprivileged } from '../cli/program.js';
import { packWithAddon } from './tarball.js';

const MANAGERS = { pnpm: '10.34.8', '@yarnpkg/cli-dist': '4.18.1' };
/** What the scripts that pnpm makes of programs run. */
const OF_PNPM = ['sed', 'dirname', 'uname'];

const directory = mkdtempSync(join(tmpdir(), 'volseal consumers '));
/** What install scripts and programs find: Node, npm and a shell; no cmake, no make, no compiler. */
const bin = join(directory, 'bin');
const tools = join(directory, 'tools');

function run(words: readonly string[], project: string, environment: Record<string, string> = {}) {
  const [command = '', ...rest] = words;
  const env = { ...process.env, PATH: bin, ...environment };
  const { error, status, stdout, stderr } = spawnSync(command, rest, { cwd: project, encoding: 'utf8', env });
  if (error) throw error;
  return { status, output: stdout + stderr };
}

/** Runs a program that must succeed. */
function done(words: readonly string[], project: string, environment: Record<string, string> = {}): string {
  const { status, output } = run(words, project, environment);
  expect(status, `${words.join(' ')}\n${output}`).toBe(0);
  return output;
}

/** A project that depends on the tarball; its name has a space. */
function makeProject(name: string, files: Record<string, string> = {}): string {
  const project = join(directory, `${name} project`);
  cpSync(join(ROOT, 'test/package/project'), project, { recursive: true });
  writeFileSync(
    join(project, 'package.json'),
    JSON.stringify({ name: 'project', private: true, dependencies: { volseal: 'file:../volseal.tgz' } }),
  );
  for (const [path, text] of Object.entries(files)) writeFileSync(join(project, path), text);
  return project;
}

const node = (script: string): string[] => [process.execPath, script];
const ofRoot = (path: string): string => join(ROOT, 'node_modules', path);
const npm = (...words: string[]): string[] => ['npm', ...words, '--no-audit', '--no-fund'];

let registry = '';

beforeAll(() => {
  mkdirSync(bin);
  mkdirSync(tools);
  symlinkSync(process.execPath, join(bin, 'node'));
  for (const name of ['npm', 'sh', ...OF_PNPM, ...unprivileged.slice(0, 1)]) symlinkSync(findProgram(name), join(bin, name));
  packWithAddon(directory);
  registry = run(['npm', 'config', 'get', 'registry'], directory).output.trim();
  const wanted = Object.entries(MANAGERS).map(([name, version]) => `${name}@${version}`);
  done(npm('install', '--prefer-offline', '--ignore-scripts', '--prefix', tools, ...wanted), directory);
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

function findProgram(name: string): string {
  const place = (process.env.PATH ?? '').split(delimiter).find((path) => existsSync(join(path, name)));
  if (place === undefined) throw new Error(`${name} is not on the PATH`);
  return realpathSync(join(place, name));
}

test('no compiler is on the PATH of these tests', () => {
  const words = ['sh', '-c', 'command -v cmake make c++ g++ cc gcc clang'];
  expect(run(words, directory).output).toBe('');
});

describe('installed without install scripts', () => {
  /** What each manager is told, and how it runs a program of the project. */
  const installs: readonly {
    readonly manager: string;
    readonly files?: Record<string, string>;
    readonly install: readonly string[];
    readonly inside?: readonly string[];
  }[] = [
    { manager: 'npm', install: npm('install', '--ignore-scripts', '--prefer-offline') },
    {
      manager: 'pnpm',
      install: [
        ...node(join(tools, 'node_modules/pnpm/bin/pnpm.cjs')),
        'install',
        '--prefer-offline',
        `--store-dir=${join(directory, 'store')}`,
      ],
    },
    {
      manager: 'Yarn',
      files: {
        '.yarnrc.yml': 'nodeLinker: node-modules\nenableTelemetry: false\nenableScripts: false\nenableImmutableInstalls: false\n',
        'yarn.lock': '',
      },
      install: [...node(join(tools, 'node_modules/@yarnpkg/cli-dist/bin/yarn.js')), 'install'],
    },
  ];
  for (const { manager, files = {}, install, inside = [] } of installs) {
    test(`by ${manager}: the library and the program work with the addon of the package`, () => {
      const project = makeProject(manager, files);
      done(install, project, { YARN_NPM_REGISTRY_SERVER: registry, YARN_GLOBAL_FOLDER: join(directory, 'yarn'), CI: 'true' });
      const installed = realpathSync(join(project, 'node_modules/volseal'));
      // What a script would have made.
      expect([existsSync(join(installed, 'build')), existsSync(join(installed, 'dist/program/bundle.cache'))]).toEqual([false, false]);
      expect(done([...inside, ...node('module.mjs')], project)).toContain('round trip: ok');
      const version = done([...inside, join(project, 'node_modules/.bin/volseal'), '--version', '--json'], project);
      expect(JSON.parse(version)).toMatchObject({ addon: 'prebuilt' });
    });
  }

  test('by npm again, offline, from its cache', () => {
    const project = makeProject('npm');
    rmSync(join(project, 'node_modules'), { recursive: true });
    rmSync(join(project, 'package-lock.json'));
    done(npm('install', '--ignore-scripts', '--offline'), project);
    expect(done(node('module.mjs'), project)).toContain('round trip: ok');
  });
});

describe('in a project', () => {
  const project = join(directory, 'npm project');
  const uses: readonly (readonly [title: string, words: readonly string[], before?: () => void])[] = [
    ['as an ES module', node('module.mjs')],
    ['by require, in CommonJS', node('common.cjs')],
    ['in a worker thread of the program', node('thread.mjs')],
    ['with the fake KMS of volseal/testing', node('fake-kms.mjs')],
    ['under vitest', [...node(ofRoot('vitest/vitest.mjs')), 'run', '--globals', '--root', project]],
    ...(['esm', 'cjs'] as const).map(
      (format) => [`in a bundle of esbuild (${format}) that leaves it out`, node(`bundle.${format}.js`), () => bundle(format)] as const,
    ),
  ];
  for (const [title, words, before] of uses) {
    test(title, () => {
      before?.();
      const { status, output } = run(words, project);
      expect(status, output).toBe(0);
      expect(output).toMatch(/round trip: ok/);
    });
  }

  function bundle(format: 'esm' | 'cjs', ...options: string[]): void {
    const entry = format === 'esm' ? 'module.mjs' : 'common.cjs';
    const words = [`--bundle`, '--platform=node', `--format=${format}`, '--log-level=error', `--outfile=bundle.${format}.js`];
    if (format === 'esm')
      words.push(
        '--out-extension:.js=.js',
        `--banner:js=import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);`,
      );
    const external = options.length === 0 ? ['--external:volseal'] : options;
    done([ofRoot('.bin/esbuild'), entry, ...words, ...external], project);
  }

  test('a bundle that takes it in says what to do', () => {
    const packages = ['bullmq', 'ioredis', 'pg', 'pino', '@opentelemetry/api'].map((name) => `--external:${name}`);
    bundle('esm', ...packages);
    const { status, output } = run(node('bundle.esm.js'), project);
    expect(status).toBe(1);
    expect(output).toMatch(/leave it out of the bundle \(esbuild: --external:volseal\)/);
  });

  test('whose node_modules nobody may write', () => {
    const modules = join(project, 'node_modules');
    const places = [
      modules,
      ...readdirSync(modules, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name)),
    ];
    for (const place of places) chmodSync(place, 0o555);
    try {
      const cannotWrite = run(
        [...unprivileged, ...node('-e'), `require('node:fs').writeFileSync('node_modules/volseal/new', '')`],
        project,
      );
      expect(cannotWrite.output).toContain('EACCES');
      expect(done([...unprivileged, ...node('module.mjs')], project)).toContain('round trip: ok');
      expect(done([...unprivileged, ...node('node_modules/volseal/dist/program/main.js'), 'kernels'], project)).toContain('aes');
    } finally {
      for (const place of places) chmodSync(place, 0o755);
    }
  });
});
