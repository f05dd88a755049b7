/** The C++ tests of the NBD protocol (test/native/nbd): as they are, and with the compiler's sanitizers. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { describeUnless } from '../requirements.js';
import { buildProgram, runProgram, skipWithoutHeaders } from '../xts/native-program.js';

describeUnless(skipWithoutHeaders())('the C++ tests of the NBD protocol', () => {
  test.each(['native', 'address,undefined', 'thread'] as const)('pass: %s', (target) => {
    const { status, stdout, stderr } = runProgram(buildProgram(target, 'nbd_test'));
    assert.equal(status, 0, `${stdout}${stderr}`);
    assert.match(stdout, /Status: SUCCESS!/);
    assert.ok(Number(/test cases: +(\d+) \|/.exec(stdout)?.[1]) > 40, stdout);
  });
});
