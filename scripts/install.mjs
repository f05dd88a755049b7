// What the package manager runs at installation: takes the prebuilt addon where it fits this machine, else compiles
// one; then makes the code cache of the Node that is here. A script of Node's, because Yarn runs install scripts in a
// shell of its own that knows no `if`.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { prebuiltName } from './prebuilt-name.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CODE_CACHE_SCRIPT = join(ROOT, 'dist/program/code-cache.js');
const PREBUILT = join(ROOT, 'prebuilds', prebuiltName());
/**
 * Where what compiles the addon is put if the package manager did not install it: it is of no use to users of a
 * prebuilt one.
 */
const TOOLS = join(ROOT, 'build/tools');
const require = createRequire(import.meta.url);

/** Runs a program, with this Node as the `node` that it finds. @returns whether it succeeded */
function run(program, words, { environment = {}, stdio = 'inherit' } = {}) {
  const path = `${dirname(process.execPath)}${delimiter}${process.env.PATH}`;
  const { error, status } = spawnSync(program, words, { cwd: ROOT, stdio, env: { ...process.env, PATH: path, ...environment } });
  if (error && error.code !== 'ENOENT') throw error;
  return status === 0;
}

function fail(message) {
  process.stderr.write(`volseal: ${message}\n`);
  process.exit(1);
}

function isInstalled(name) {
  try {
    return require.resolve(`${name}/package.json`) !== '';
  } catch {
    return false;
  }
}

/**
 * In a process of its own: what does not fit may end it. `--build-from-source`, as for other packages, insists on
 * compiling.
 */
function prebuiltFits() {
  if (process.env.npm_config_build_from_source || !existsSync(PREBUILT)) return false;
  return run(process.execPath, ['-e', 'require(process.argv[1])', PREBUILT], { stdio: 'ignore' });
}

/** Puts cmake-js and node-addon-api below build/, in the versions that package.json names. */
function fetchTools() {
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const tools = ['cmake-js', 'node-addon-api'].map((name) => `${name}@${devDependencies[name]}`);
  const options = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund', '--global=false', '--prefix', TOOLS];
  // What npm was told of the installation that runs this script is not meant for this one.
  const outer = Object.keys(process.env).filter((name) => /^npm_config_(global|prefix|location|omit|dry_run|ignore_scripts)$/i.test(name));
  const environment = Object.fromEntries(outer.map((name) => [name, undefined]));
  return run('npm', ['install', ...options, ...tools], { environment });
}

function compile() {
  const why = existsSync(PREBUILT) ? 'the prebuilt addon does not run on this machine' : 'there is no prebuilt addon for this machine';
  if (!run('cmake', ['--version'], { stdio: 'ignore' })) {
    fail(
      `${why}, and cmake, which compiles it, is not installed; install cmake, make and a C++20 compiler ` +
        '(Debian: cmake make g++; Alpine: cmake make g++ linux-headers), then run "npm rebuild volseal"',
    );
  }
  const installed = ['cmake-js', 'node-addon-api'].every(isInstalled);
  if (!installed && !fetchTools()) {
    fail(`${why}, and npm could not fetch cmake-js and node-addon-api, which compile it; the messages above say why`);
  }
  const modules = join(TOOLS, 'node_modules');
  const cmakeJs = installed ? dirname(require.resolve('cmake-js/package.json')) : join(modules, 'cmake-js');
  // Make, which CMake takes where there is no ninja, would compile one file after the other.
  const level = process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? String(availableParallelism());
  const environment = { CMAKE_BUILD_PARALLEL_LEVEL: level, ...(installed ? {} : { NODE_PATH: modules }) };
  if (!run(process.execPath, [join(cmakeJs, 'bin/cmake-js'), 'compile'], { environment })) {
    fail('the native addon did not compile; the messages above say why');
  }
}

// Before minutes of compiling. A clone is built by `prepare` (prepare.mjs), after this script.
if (!existsSync(CODE_CACHE_SCRIPT) && !isInstalled('typescript')) {
  fail('dist/ is not built, and the packages that build it are not installed; run "npm ci --include=dev", then "npm prune --omit=dev"');
}
if (!prebuiltFits()) compile();
// Without a cache volseal starts more slowly: no reason to fail.
if (existsSync(CODE_CACHE_SCRIPT)) run(process.execPath, [CODE_CACHE_SCRIPT], { environment: { VOLSEAL_KERNEL: '' } });
