/**
 * The addon, built with the address and undefined-behaviour sanitizers, under tests that call it.
 *
 * The tests run in a vitest of their own. Node itself is built without sanitizers, so their library is loaded into it
 * before all others.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../built.js';
import { addonSettings, buildByCMake, sanitized } from '../xts/native-program.js';
import { reportsIn } from './sanitizers.js';

const DIRECTORY = join(ROOT, 'build/addon-address-undefined');
const REPORTS = join(DIRECTORY, 'reports');
const RESULTS = join(DIRECTORY, 'results.json');

/** Tests that never end: the caller's own deadline cannot end a program that it waits for. */
const HANGS_MS = 40 * 60_000;

/** Builds it, only what has changed. @returns its path. @throws {Error} with the compiler's output */
export function buildAddon(): string {
  const settings = [...sanitized('address,undefined'), ...addonSettings(['CMAKE_JS_INC', 'CMAKE_JS_LIB'])];
  // With CI set, warnings are errors: the usual build sees to that, and sanitizers have warnings of their own.
  buildByCMake(ROOT, DIRECTORY, settings, 'volseal', { ...process.env, CI: undefined });
  return join(DIRECTORY, 'volseal.node');
}

export interface Outcome {
  /** What the sanitizers reported, a text for each process. */
  readonly reports: readonly string[];
  readonly passed: number;
  /** Tests that failed or were skipped, and files that could not be run. */
  readonly others: readonly string[];
}

/** Runs test files with an addon in the place of the project's own. @param files their paths, from the root */
export function runTests(addon: string, files: readonly string[], variables: NodeJS.ProcessEnv = {}): Outcome {
  rmSync(REPORTS, { recursive: true, force: true });
  mkdirSync(REPORTS, { recursive: true });
  rmSync(RESULTS, { force: true });
  const words = ['node_modules/vitest/vitest.mjs', 'run', ...files, '--reporter=json', `--outputFile=${RESULTS}`];
  const { stdout, stderr } = spawnSync(process.execPath, words, {
    cwd: ROOT,
    env: { ...environment(addon), ...variables },
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    timeout: HANGS_MS,
  });
  // Address errors are in files, one for each process; undefined behaviour is on standard error, whatever log_path is.
  const written = readdirSync(REPORTS).map((name) => readFileSync(join(REPORTS, name), 'utf8'));
  const reports = [...written, ...(reportsIn(stderr).length > 0 ? [stderr] : [])];
  if (!existsSync(RESULTS)) throw new Error(`vitest gave no results: ${stdout}${stderr}${reports.join('')}`);
  return { reports, ...outcomeOf(JSON.parse(readFileSync(RESULTS, 'utf8')) as Results) };
}

/** Of vitest's JSON report, what is used. */
interface Results {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

function outcomeOf({ testResults }: Results): Omit<Outcome, 'reports'> {
  const tests = testResults.flatMap(({ name, assertionResults }) => assertionResults.map((test) => ({ ...test, name })));
  const others = [
    ...tests
      .filter(({ status }) => status !== 'passed')
      .map(({ name, status, fullName, failureMessages }) => `${name}: ${fullName}: ${status} ${failureMessages.join('\n')}`),
    ...testResults
      .filter(({ status, assertionResults }) => status === 'failed' && assertionResults.every((test) => test.status === 'passed'))
      .map(({ name, message }) => `${name}: ${message}`),
  ];
  return { passed: tests.filter(({ status }) => status === 'passed').length, others };
}

function environment(addon: string): NodeJS.ProcessEnv {
  const library = (name: string): string => execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  // Leaks are not looked for: Node ends without freeing.
  const options = `detect_leaks=0:log_path='${join(REPORTS, 'report')}'`;
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST'));
  return {
    ...Object.fromEntries(inherited),
    VOLSEAL_TEST_ADDON: addon,
    NODE_OPTIONS: `--require ${JSON.stringify(join(ROOT, 'dist/test/sanitize/place-addon.cjs'))}`,
    // The C++ library too: the sanitizers look for its throw when they begin.
    LD_PRELOAD: ['libasan.so', 'libstdc++.so.6'].map(library).join(' '),
    ASAN_OPTIONS: options,
    UBSAN_OPTIONS: `print_stacktrace=1:${options}`,
  };
}
