/** The tests: `npm test`, or a project by name (`npx vitest run --project native`). docs/TESTING.md says what each is for. */
import { defineConfig } from 'vitest/config';

/** What a developer wants after each edit; the files of the projects below are left out. */
const QUICK = ['audit', 'luks2', 'structure', 'vault', 'xts'].map((room) => `test/${room}/**/*.test.ts`);

const SLOW: Record<string, string[]> = {
  faults: ['test/faults/**/*.test.ts', 'test/**/killed.test.ts'],
  interop: ['test/interop/**/*.test.ts', 'test/**/aws-cli.test.ts', 'test/**/boto3.test.ts', 'test/**/cryptsetup.test.ts'],
  native: ['test/xts/native.test.ts'],
  bench: ['test/bench/**/*.test.ts'],
};
const slow = Object.values(SLOW).flat();

const REALM = ['test/realm/**/*.test.ts'];

const project = (name: string, include: string[], exclude: string[]) => ({ extends: true as const, test: { name, include, exclude } });

export default defineConfig({
  test: {
    // The vault, the pool and the kernel in use belong to a process: each file has one of its own.
    pool: 'forks',
    isolate: true,
    globalSetup: 'test/global-setup.ts',
    // Nothing here depends on speed: these end what hangs, on a machine that is busy too.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    projects: [
      project('quick', QUICK, slow),
      project('main', ['test/**/*.test.ts'], [...QUICK, ...REALM, ...slow]),
      // In a `vm` context, as under Jest.
      { extends: true, test: { name: 'realm', include: REALM, pool: 'vmThreads' } },
      ...Object.entries(SLOW).map(([name, include]) => project(name, include, [])),
    ],
  },
});
