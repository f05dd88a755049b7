/** Builds the C++ tests of the cipher (test/native), and reads what they say. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { ROOT } from '../built.js';
import { runTool, skipFor, type ToolResult } from '../interop/tools.js';

/** Debian packages without a command of their own: a header of each. */
const HEADERS = {
  'doctest-dev': '/usr/include/doctest/doctest.h',
  valgrind: '/usr/include/valgrind/memcheck.h',
  'libssl-dev': '/usr/include/openssl/evp.h',
};

/**
 * Why a test that needs these headers is skipped; false where they are there. @throws {Error} as `skipFor` of
 * test/interop/tools.ts
 */
export function skipWithoutHeaders(): string | false {
  const missing = Object.entries(HEADERS).filter(([, header]) => !existsSync(header));
  const names = missing.map(([name]) => name).join(', ');
  return missing.length > 0 && skipFor(`not installed: ${names} (run scripts/setup.sh --test)`);
}

/**
 * What the addon was built with, so that the very same code is tested: its compiler, build type and flags, from CMake's
 * cache.
 */
export function addonSettings(names: readonly string[]): string[] {
  const cache = readFileSync(`${ROOT}build/CMakeCache.txt`, 'utf8');
  return names.map((name) => {
    const value = new RegExp(`^${name}:\\w+=(.*)$`, 'm').exec(cache)?.[1];
    if (value === undefined) throw new Error(`build/CMakeCache.txt has no ${name}: build the addon first (npm run build:native)`);
    return `-D${name}=${value}`;
  });
}

/** What the program is built for: this machine, Arm, or this machine with sanitizers of the compiler. */
export type BuildTarget = 'native' | 'aarch64' | 'address,undefined' | 'thread';

/**
 * Builds in a directory of `build`, only what has changed. @returns the program's path. @throws {Error} with the
 * compiler's output
 */
export function buildProgram(
  target: BuildTarget,
  program: 'xts_test' | 'nbd_test' | 'engine_test' | 'faulty' | 'faulty_addon' = 'xts_test',
): string {
  const directory = `${ROOT}build/native-tests${target === 'native' ? '' : `-${target.replace(',', '-')}`}`;
  const settings = {
    native: () => addonSettings(['CMAKE_CXX_COMPILER', 'CMAKE_BUILD_TYPE', 'CMAKE_CXX_FLAGS']),
    aarch64: () => [...addonSettings(['CMAKE_BUILD_TYPE', 'CMAKE_CXX_FLAGS']), `-DCMAKE_TOOLCHAIN_FILE=${ROOT}test/native/aarch64.cmake`],
    'address,undefined': () => sanitized(target),
    thread: () => sanitized(target),
  }[target]();
  buildByCMake(`${ROOT}test/native`, directory, settings, program);
  return `${directory}/${program}`;
}

/** Builds a target of a source directory in a directory of its own. @throws {Error} with the compiler's output */
export function buildByCMake(source: string, directory: string, settings: readonly string[], target: string, env = process.env): void {
  // Test files run side by side, and CMake has a directory for itself.
  const cmake = (words: readonly string[]): unknown => runTool('flock', [`${directory}.lock`, 'cmake', ...words], { env });
  cmake(['-S', source, '-B', directory, ...settings]);
  cmake(['--build', directory, '--target', target, '--parallel', '2']);
}

/** CMake's settings for code with sanitizers of the compiler; their first report ends the program. */
export const sanitized = (sanitizers: string, optimization = '-O1'): string[] => [
  ...addonSettings(['CMAKE_CXX_COMPILER', 'CMAKE_BUILD_TYPE']),
  `-DCMAKE_CXX_FLAGS=-fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer`,
  `-DVOLSEAL_OPTIMIZATION=${optimization}`,
];

/** Runs the program to its end. */
export function runProgram(program: string, args: string[] = [], env: NodeJS.ProcessEnv = process.env): ToolResult {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    env,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}

/** The kernels that a run's output says were tested: lines such as "ran vaes512, tweaks by shifts 4711 times". */
export function kernelsRun(stdout: string): string[] {
  return [...stdout.matchAll(/^ran (.+) [1-9]\d* times$/gm)].map((match) => match[1]!).sort();
}
