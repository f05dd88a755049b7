// Builds dist/ where a source is newer than it; where none is, it takes a moment and says nothing.
//
//   node scripts/build-if-needed.mjs [--no-types]
//
// `--no-types`: for tests, which leave the check of types to `npm run lint`.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** What the build writes last but for the manual pages and the code cache. */
const BUILT = join(ROOT, 'dist/program/main.js');
const SOURCES = ['src', 'test', 'bench', 'examples', 'scripts', 'binding.d.ts', 'package.json', 'tsconfig.json'];

const timeOf = (path) => statSync(path).mtimeMs;

/** When a file or any file of a directory was written last. */
function newest(path) {
  if (!statSync(path).isDirectory()) return timeOf(path);
  const inside = readdirSync(path).filter((name) => name !== 'node_modules');
  return Math.max(timeOf(path), ...inside.map((name) => newest(join(path, name))));
}

const isBuilt = () => existsSync(BUILT) && SOURCES.every((source) => newest(join(ROOT, source)) < timeOf(BUILT));

if (!isBuilt()) {
  const run = (...words) => execFileSync('npm', words, { cwd: ROOT, stdio: 'inherit' });
  if (process.argv.includes('--no-types')) {
    rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
    run('exec', '--', 'tsc', '--noCheck');
    run('run', '--silent', 'build:program');
  } else {
    process.stdout.write('building dist/, because a source is newer than it\n');
    run('run', '--silent', 'build');
  }
}
