/** The C++ tests of the cipher, built with the compiler's sanitizers. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { buildProgram, runProgram, skipWithoutHeaders } from '../xts/native-program.js';

/** The long form tests every case, the short one every so many. */
const EVERY = String(Math.max(1, Math.ceil(8 / Number(process.env.VOLSEAL_FUZZ_TIMES ?? 1))));

/** These look at freed stack and at unmapped memory on purpose, or need valgrind. */
const LEFT_OUT = ['--test-suite-exclude=constant time,leaks', '--test-case-exclude=*residue*,*stack*'];

describeUnless(skipWithout('cmake') || skipWithoutHeaders())('the C++ tests, built with sanitizers', () => {
  for (const target of ['address,undefined', 'thread'] as const) {
    test(`${target}: no report`, () => {
      const program = buildProgram(target);
      const { status, stdout, stderr } = runProgram(program, LEFT_OUT, { ...process.env, VOLSEAL_TEST_EVERY: EVERY });
      assert.equal(status, 0, `${stdout}${stderr}`);
      assert.match(stdout, /Status: SUCCESS!/);
      assert.doesNotMatch(stderr, /Sanitizer|runtime error/);
      assert.ok(Number(/test cases: +(\d+) \|/.exec(stdout)?.[1]) > 0, stdout);
    });
  }
});
