/** Before all tests: builds what only exists built, and keeps the tests away from the user's own keys and records. */
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MAIN, ROOT } from './built.js';

const SOURCES = ['src', 'test', 'bench', 'examples', 'scripts', 'binding.d.ts', 'package.json', 'tsconfig.json'];

const timeOf = (path: string): number => statSync(path).mtimeMs;

/** When a file or any file of a directory was written last. */
function newest(path: string): number {
  if (!statSync(path).isDirectory()) return timeOf(path);
  const inside = readdirSync(path).filter((name) => name !== 'node_modules');
  return Math.max(timeOf(path), ...inside.map((name) => newest(join(path, name))));
}

function isBuilt(): boolean {
  return existsSync(MAIN) && SOURCES.every((source) => newest(join(ROOT, source)) < timeOf(MAIN));
}

/** As `npm run build` does, but for the check of types: `npm run lint` is for that. */
function build(): void {
  const run = (...words: string[]): void => void execFileSync('npm', words, { cwd: ROOT, stdio: 'inherit' });
  rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
  run('exec', '--', 'tsc', '--noCheck');
  run('run', '--silent', 'build:program');
}

/** Builds if need be. @returns what cleans up after the last test */
export default function setUp(): () => void {
  if (!isBuilt()) build();
  const dataHome = mkdtempSync(join(tmpdir(), 'volseal-data-'));
  process.env.XDG_DATA_HOME = dataHome;
  // The SDK's advice on Node's version is for its users.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
  process.env.VOLSEAL_TEST_SEED ??= String(randomInt(2 ** 31));
  const seed = `seed of this run: VOLSEAL_TEST_SEED=${process.env.VOLSEAL_TEST_SEED}`;
  console.log(seed);
  return () => {
    rmSync(dataHome, { recursive: true, force: true });
    console.log(seed);
  };
}
