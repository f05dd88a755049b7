/**
 * The tests: `npm test`, or a project by name (`npx vitest run --project faults`). docs/TESTING.md says what each is
 * for.
 */
import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Each project and its files, without those that a later project has. A file is in one project. */
const FILES: readonly (readonly [project: string, files: readonly string[]])[] = [
  // Whole commands, jobs and volumes: everything that has no project of its own.
  ['system', ['**']],
  // Functions, modules and their contracts: what a developer runs after each edit.
  [
    'unit',
    [
      ...['audit', 'kernels', 'kms', 'luks2', 'output', 'structure', 'vault', 'xts'].map((directory) => `${directory}/**`),
      ...['hints', 'sizes'].map((name) => `cli/${name}`),
      ...['messages', 'slots'].map((name) => `attached/${name}`),
      'stores/names',
      'fleet/spec',
      'jobs/image-ranges',
    ],
  ],
  // Contracts whose tests take seconds each: every sector size and kernel, HTTP, many processes.
  [
    'long',
    [
      ...['cross-check', 'streaming'].map((name) => `xts/${name}`),
      ...['client/calls', 'embedded/http', 'embedded/grants', 'embedded/root-key-source'].map((name) => `kms/${name}`),
      'audit/log',
      'output/device-targets',
    ],
  ],
  // Faults of disk, memory and network, and runs that are killed.
  ['faults', ['faults/**', '**/killed', 'kms/embedded/store']],
  // Stock tools, a real kernel, memory searched from outside.
  ['interop', ['interop/**', '**/aws-cli', '**/boto3', '**/cryptsetup']],
  // The C++ tests: natively, under valgrind, for Arm.
  ['native', ['xts/native', 'nbd/native', 'engine/native']],
  ['bench', ['bench/**']],
  // In a `vm` context, as under Jest.
  ['realm', ['realm/**']],
  // The package packed, installed and used as its users do; needs a registry.
  ['package', ['package/**']],
  // What other processes would disturb: the page cache. One file at a time, after all others.
  ['alone', ['engine/page-cache']],
  // Random inputs and kills by count: `npm run fuzz`.
  ['fuzz', ['fuzz/**']],
  // The C++ tests, built with sanitizers: `npm run sanitize`. Its name: `npm test` leaves out what begins with fuzz.
  ['fuzz-sanitize', ['sanitize/**']],
];

const globs = (files: readonly string[]): string[] => files.map((file) => `test/${file.endsWith('**') ? `${file}/*` : file}.test.ts`);

/**
 * Files that take a minute and more begin first, so that no processor is idle at the end; then projects of long files.
 */
const FIRST = ['package', 'native', 'interop', 'faults', 'long', 'system'];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ project: { name } }: TestSpecification): number => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    // Two on two processors: most files wait for programs that they start one after the other.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    sequence: { sequencer: LongestFirst },
    // Once for all projects: they do not inherit it.
    globalSetup: 'test/global-setup.ts',
    // Code in the test's own process. docs/TESTING.md says what that leaves out.
    coverage: { provider: 'v8', include: ['src/**/*.ts'], reporter: ['text', 'json-summary'], reportsDirectory: 'build/coverage' },
    projects: FILES.map(([name, files], index) => ({
      test: {
        name,
        include: globs(files),
        exclude: FILES.slice(index + 1).flatMap(([, later]) => globs(later)),
        // The vault, the pool and the kernel in use belong to a process: each file has one of its own.
        pool: name === 'realm' ? 'vmThreads' : 'forks',
        isolate: true,
        ...(name === 'alone' ? { maxWorkers: 1 } : {}),
        // They end what hangs, on a busy machine too: no test depends on speed.
        testTimeout: 600_000,
        hookTimeout: 600_000,
      },
    })),
  },
});
