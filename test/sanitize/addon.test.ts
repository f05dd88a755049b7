/** The addon with sanitizers inside Node, under the tests that call it in their own process. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, test } from 'vitest';
import { ROOT } from '../built.js';
import { skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { buildProgram, skipWithoutHeaders } from '../xts/native-program.js';
import { buildAddon, runTests } from './sanitized-addon.js';
import { DEADLINE_MS, LONG, reportsIn } from './sanitizers.js';

/** Directories whose tests call the addon. */
const DIRECTORIES = ['engine', 'fuzz', 'in-place', 'jobs', 'kernels', 'luks2', 'nbd', 'stores', 'vault', 'volume', 'workers', 'xts'];

/** Files of these directories that are left out, and why. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  'engine/native': 'builds the C++ tests',
  'nbd/native': 'builds the C++ tests',
  'xts/native': 'builds the C++ tests',
  'fuzz/nbd': 'builds a fuzzer with sanitizers of its own',
  'fuzz/kills': 'kills the program, which the sanitizers slow down',
};

/**
 * What CI runs: keys and their handles, arguments of every kind, an attached volume, threads that end, clients over
 * NBD, volumes in stores behind the cache of blocks.
 */
const SHORT = [
  ...['lifecycle', 'hostile-arguments', 'json-import', 'keyslot'].map((name) => `vault/${name}`),
  ...['xts/arguments', 'volume/attach', 'workers/pool', 'workers/terminated', 'nbd/serve', 'stores/attach-stored', 'fuzz/keys'],
];

/** All test files of the directories but those that are left out. */
function files(): string[] {
  const all = DIRECTORIES.flatMap((directory) =>
    readdirSync(join(ROOT, 'test', directory))
      .filter((name) => name.endsWith('.test.ts'))
      .map((name) => `${directory}/${name.replace(/\.test\.ts$/, '')}`),
  );
  const unknown = [...Object.keys(LEFT_OUT), ...SHORT].filter((name) => !all.includes(name));
  assert.deepEqual(unknown, [], 'files that are not there');
  return (LONG ? all.filter((name) => LEFT_OUT[name] === undefined) : SHORT).map((name) => `test/${name}.test.ts`);
}

describeUnless(skipWithout('cmake', 'g++') || skipWithoutHeaders())('the addon with sanitizers', () => {
  let addon = '';
  beforeAll(() => {
    addon = buildAddon();
  }, DEADLINE_MS);

  test('its tests pass, and nothing is reported', { timeout: DEADLINE_MS }, () => {
    const { reports, passed, others } = runTests(addon, files());
    assert.deepEqual(reports, []);
    assert.deepEqual(others, []);
    assert.ok(passed > 0);
    console.info(`address,undefined, the addon: ${passed} tests of ${files().length} files, 0 reports`);
  });

  test.each(['heap-buffer-overflow', 'signed integer overflow'])('control: an addon with a fault is reported, %s', (fault) => {
    const faulty = buildProgram('address,undefined', 'faulty_addon');
    const { reports } = runTests(faulty, ['test/vault/handle-kinds.test.ts'], { FAULT: fault });
    assert.match(reports.flatMap(reportsIn).join(), new RegExp(fault));
  });
});
