/** The C++ tests (test/native), built with the compiler's sanitizers. The first report ends a program. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { buildProgram, runProgram, skipWithoutHeaders } from '../xts/native-program.js';
import { DEADLINE_MS, LONG, reportsIn } from './sanitizers.js';

/**
 * Of each, the tests that a sanitizer makes meaningless are left out. The short form is the engine: the project
 * `native` has the protocol with sanitizers, and the cipher takes minutes.
 */
const PROGRAMS = {
  xts_test: [
    // Valgrind is their judge: they mark keys as uninitialised.
    '--test-suite-exclude=constant time,leaks',
    // They read the stack below them, and what the compiler has left in registers.
    '--source-file-exclude=*residue_test.cc',
  ],
  nbd_test: [],
  // The tests of fdatasync put another one in its place.
  engine_test: [],
} as const;

/** Of the tests that go through every length and place, every eighth. */
const EVERY = '8';

describeUnless(skipWithout('cmake', 'g++') || skipWithoutHeaders())('the C++ tests with sanitizers', () => {
  for (const sanitizers of ['address,undefined', 'thread'] as const) {
    test.each(Object.entries(PROGRAMS).filter(([program]) => LONG || program === 'engine_test'))(
      `${sanitizers}: %s`,
      { timeout: DEADLINE_MS },
      (program, leftOut) => {
        const built = buildProgram(sanitizers, program as keyof typeof PROGRAMS);
        const { status, stdout, stderr } = runProgram(built, [...leftOut], { ...process.env, VOLSEAL_TEST_EVERY: EVERY });
        assert.deepEqual(reportsIn(stderr), []);
        assert.equal(status, 0, `${stdout}${stderr}`);
        const [, cases] = /test cases: +(\d+) \|/.exec(stdout) ?? [];
        assert.ok(Number(cases) > 0, stdout);
        console.info(`${sanitizers}, ${program}: ${cases} test cases, 0 reports`);
      },
    );
  }

  test.each([
    ['address,undefined', 'heap-buffer-overflow'],
    ['address,undefined', 'signed integer overflow'],
    ['thread', 'data race'],
  ] as const)('control: %s reports a fault that was made for it, %s', (sanitizers, fault) => {
    const { status, stderr } = runProgram(buildProgram(sanitizers, 'faulty'), [fault]);
    assert.notEqual(status, 0);
    assert.match(stderr, new RegExp(fault));
    assert.equal(reportsIn(stderr).length, 1, stderr);
  });
});
