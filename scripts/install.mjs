// What the package manager runs at installation: compiles the addon, then makes the code cache of the Node that is
// here. A script of Node's, because Yarn runs install scripts in a shell of its own that knows no `if`.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CODE_CACHE_SCRIPT = join(ROOT, 'dist/program/code-cache.js');
const require = createRequire(import.meta.url);

/** Runs a script with this Node, which the scripts that it starts find as `node` too. @returns whether it succeeded */
function runNode(script, words, environment = {}) {
  const path = `${dirname(process.execPath)}${delimiter}${process.env.PATH}`;
  const { error, status } = spawnSync(process.execPath, [script, ...words], {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, PATH: path, ...environment },
  });
  if (error) throw error;
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

// Before minutes of compiling. A clone is built by `prepare` (prepare.mjs), after this script.
if (!existsSync(CODE_CACHE_SCRIPT) && !isInstalled('typescript')) {
  fail('dist/ is not built, and the packages that build it are not installed; run "npm ci --include=dev", then "npm prune --omit=dev"');
}
const found = spawnSync('cmake', ['--version']);
if (found.error) {
  fail('cmake is not installed, and the native addon is compiled here; install cmake, make and a C++20 compiler (Debian: cmake make g++)');
}
const cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin/cmake-js');
if (!runNode(cmakeJs, ['compile'])) fail('the native addon did not compile; the messages above say why');
// Without a cache volseal starts more slowly: no reason to fail.
if (existsSync(CODE_CACHE_SCRIPT)) runNode(CODE_CACHE_SCRIPT, [], { VOLSEAL_KERNEL: '' });
