// Makes a release of the last commit, in release/: the npm package with prebuilt addons, a Debian package for each
// processor, SHA256SUMS, and provenance.json, which says of every file how it came to be.
//
//   npm run release -- --dry-run [--once]
//
// Everything is built twice, in two clones of different names and without a compiler cache, and must be the same byte
// for byte; `--once` leaves the second build out. Without --dry-run the commit must carry the tag of its version, and
// `npm publish` gets the package at the end.
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { makeDebianPackage } from './debian-package.mjs';
import { runOnMusl } from './run-on-musl.mjs';
import { testOnMusl } from './test-on-musl.mjs';
import { filesBelow, ROOT, readJson, run, sha256 } from './tools.mjs';

const TARGET = join(ROOT, 'release');
const PACKED_MAX_BYTES = 3e6;
const PROCESSORS = ['x64', 'arm64'];

const words = process.argv.slice(2);
const unknown = words.find((word) => word !== '--dry-run' && word !== '--once');
if (unknown !== undefined) fail(`${unknown}: no option; usage: npm run release -- [--dry-run] [--once]`);
const isDry = words.includes('--dry-run');

function fail(message) {
  process.stderr.write(`release: ${message}\n`);
  process.exit(1);
}

const say = (text) => process.stdout.write(`release: ${text}\n`);

/** Does one step and says how long it took. */
function step(title, action) {
  const began = Date.now();
  const value = action();
  say(`${title} (${Math.round((Date.now() - began) / 1000)} s)`);
  return value;
}

const git = (...options) => run('git', options).trim();
const commit = git('rev-parse', 'HEAD');
const { version } = JSON.parse(git('show', 'HEAD:package.json'));
const isClean = git('status', '--porcelain') === '';
const isTagged = git('tag', '--points-at', 'HEAD').split('\n').includes(`v${version}`);
if (!isDry && !isClean) fail('there are changes that are not committed: commit them, or try it with --dry-run');
if (!isDry && !isTagged) fail(`the last commit has no tag v${version}: git tag v${version}, or try it with --dry-run`);
if (!isClean) say('changes that are not committed are not in it');
// Compilers, dpkg-deb and the manual pages take it for the time of the release.
const environment = {
  SOURCE_DATE_EPOCH: git('log', '-1', '--format=%ct'),
  CCACHE_DISABLE: '1',
  TZ: 'UTC',
  LC_ALL: 'C.UTF-8',
  VOLSEAL_KERNEL: '',
};
Object.assign(process.env, environment);

/** Builds everything in a clone below `directory`. @returns the clone, and the directory with the release's files */
function buildIn(directory, name) {
  const clone = join(directory, name);
  const output = join(directory, `${name}-output`);
  mkdirSync(output);
  const inClone = (program, options) => run(program, options, { cwd: clone });
  run('git', ['clone', '--quiet', '--no-checkout', ROOT, clone]);
  inClone('git', ['checkout', '--quiet', commit]);
  // The packages that npm has installed here; a link would lead out of the clone, and into the paths of the bundle.
  step('copied the packages of package-lock.json', () => run('cp', ['-a', join(ROOT, 'node_modules'), join(clone, 'node_modules')]));
  step('compiled the addons, for glibc and for musl', () => inClone(process.execPath, ['scripts/prebuild.mjs']));
  step('built modules, bundle and manual pages', () => inClone('npm', ['run', '--silent', 'build']));
  const [{ filename }] = JSON.parse(inClone('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', output]));
  const packed = join(directory, `${name}-packed`);
  mkdirSync(packed);
  run('tar', ['-xzf', join(output, filename), '-C', packed]);
  for (const arch of PROCESSORS)
    step(`made the Debian package for ${arch}`, () => makeDebianPackage(join(packed, 'package'), arch, output));
  return { clone, output, tarball: join(output, filename), packed: join(packed, 'package') };
}

/** Name, length and SHA-256 of every file below `directory`. */
const inventory = (directory) =>
  filesBelow(directory).map((name) => {
    const bytes = readFileSync(join(directory, name));
    return { name, bytes: bytes.length, sha256: sha256(bytes) };
  });

/** What both builds must agree in: the files of the release. */
function compare(first, second) {
  const [a, b] = [first, second].map(({ output }) => inventory(output).map(({ name, sha256 }) => `${sha256}  ${name}`));
  const differing = a.filter((line, index) => line !== b[index]);
  if (a.length !== b.length || differing.length > 0) fail(`the second build differs: ${differing.join(', ')}`);
}

/** publint and @arethetypeswrong/cli: what a package gets wrong for bundlers, Node and TypeScript. */
function check(tarball) {
  const program = (name, bin) => join(ROOT, 'node_modules', name, readJson(join(ROOT, 'node_modules', name, 'package.json')).bin[bin]);
  run(process.execPath, [program('publint', 'publint'), 'run', tarball, '--strict']);
  // An ES module alone: `require` of it works in Node 20.19 and 22.12 or later, but TypeScript 5 says that it may not.
  run(process.execPath, [
    program('@arethetypeswrong/cli', 'attw'),
    tarball,
    '--profile',
    'esm-only',
    '--format',
    'table-flipped',
    '--no-color',
  ]);
}

function provenance({ clone, output, packed }) {
  const firstLine = (program, option = '--version') => run(program, [option]).split('\n')[0];
  const installed = (name) => readJson(join(ROOT, 'node_modules', name, 'package.json')).version;
  const { sources, addons } = readJson(join(clone, 'prebuilds/list.json'));
  return {
    version,
    commit,
    sourceDateEpoch: Number(environment.SOURCE_DATE_EPOCH),
    packageLock: sha256(readFileSync(join(clone, 'package-lock.json'))),
    tools: {
      node: process.version,
      npm: firstLine('npm'),
      cmake: firstLine('cmake'),
      'dpkg-deb': firstLine('dpkg-deb'),
      ...Object.fromEntries(
        ['typescript', 'esbuild', 'cmake-js', 'node-addon-api', 'node-api-headers'].map((name) => [name, installed(name)]),
      ),
    },
    nativeSources: sources,
    addons,
    files: inventory(output),
    npmPackage: inventory(packed),
  };
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;

const work = mkdtempSync(join(tmpdir(), 'volseal-release-'));
try {
  const first = buildIn(work, 'first');
  if (!words.includes('--once')) {
    const second = step('built everything again', () => buildIn(work, 'second, elsewhere'));
    compare(first, second);
    say('both builds are the same, byte for byte');
  }
  step('encrypted and decrypted with the package on musl', () => runOnMusl(first.packed));
  for (const arch of PROCESSORS) step(`the C++ tests passed on musl, ${arch}`, () => testOnMusl(arch));
  step('publint and attw found nothing', () => check(first.tarball));
  rmSync(TARGET, { recursive: true, force: true });
  mkdirSync(TARGET);
  const facts = provenance(first);
  for (const { name } of facts.files) copyFileSync(join(first.output, name), join(TARGET, name));
  writeFileSync(join(TARGET, 'provenance.json'), `${JSON.stringify(facts, undefined, 2)}\n`);
  writeFileSync(
    join(TARGET, 'SHA256SUMS'),
    inventory(TARGET)
      .map(({ name, sha256 }) => `${sha256}  ${name}\n`)
      .join(''),
  );
  for (const { name, bytes } of inventory(TARGET)) say(`release/${name}: ${megabytes(bytes)}`);
  const size = readFileSync(first.tarball).length;
  if (size > PACKED_MAX_BYTES) fail(`${basename(first.tarball)} has ${megabytes(size)}: more than ${megabytes(PACKED_MAX_BYTES)}`);
  const publish = ['publish', join(TARGET, basename(first.tarball))];
  if (isDry)
    say(`a dry run: without --dry-run this would follow: npm ${publish[0]} ${join(basename(dirname(publish[1])), basename(publish[1]))}`);
  else process.stdout.write(run('npm', publish));
} catch (error) {
  fail(error.message);
} finally {
  rmSync(work, { recursive: true, force: true });
}
