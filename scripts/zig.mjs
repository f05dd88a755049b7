// Zig, whose compiler brings a C++ library for musl along: Debian has none. In the versions of scripts/zig, below
// build/; 0.4 GB, so only what builds for musl fetches it.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const HOME = join(ROOT, 'build/zig');
const PACKAGES = join(HOME, 'node_modules/@zigc');
/** The compiled C++ library and C library are kept here. */
const ENVIRONMENT = {
  ZIG_LIB_DIR: join(PACKAGES, 'lib'),
  ZIG_GLOBAL_CACHE_DIR: join(HOME, 'cache'),
  ZIG_LOCAL_CACHE_DIR: join(HOME, 'cache'),
};

const changed = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/**
 * Fetches Zig where it is not there yet.
 * @param processor GNU's name of one
 * @returns the words of a command that compiles C++ for musl, the environment it needs, and what it calls itself
 */
export function zigFor(processor) {
  mkdirSync(HOME, { recursive: true });
  const lock = join(ROOT, 'scripts/zig/package-lock.json');
  if (changed(join(HOME, 'node_modules/.package-lock.json')) <= changed(lock)) {
    for (const name of ['package.json', 'package-lock.json']) copyFileSync(join(ROOT, 'scripts/zig', name), join(HOME, name));
    const options = ['--prefix', HOME, '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund'];
    execFileSync('npm', ['ci', ...options], { stdio: 'inherit' });
  }
  const { version } = JSON.parse(readFileSync(join(PACKAGES, 'linux-x64/package.json'), 'utf8'));
  return {
    // Without -O it adds checks that need a library of their own.
    command: [
      join(PACKAGES, 'linux-x64/bin/zig'),
      'c++',
      '-target',
      `${processor}-linux-musl`,
      '-fno-sanitize=undefined',
      '-Wno-nullability-completeness',
    ],
    environment: ENVIRONMENT,
    name: `zig c++ ${version}`,
  };
}

/** What Zig's musl, 1.2.5, has since 1.2.3 only. */
const SINCE_OLDEST = new Set(['preadv2', 'pwritev2', 'statx']);

/** The oldest musl that an addon may need, of Alpine 3.16 and Debian 12, and what it has. */
export function muslSymbols() {
  const stubs = readFileSync(join(PACKAGES, 'lib/libc/musl/libc.S'), 'utf8');
  const names = [...stubs.matchAll(/^(?:\.globl|\.weak|WEAK64|WEAKTIME64) (\w+)$/gm)].map(([, name]) => name);
  return { version: '1.2.3', names: new Set(names.filter((name) => !SINCE_OLDEST.has(name))) };
}
