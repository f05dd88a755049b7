/** The C++ tests of the engine's threads and of requests on a device (test/native/engine), without Node. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { buildProgram, runProgram, skipWithoutHeaders } from '../xts/native-program.js';

describeUnless(skipWithout('cmake') || skipWithoutHeaders())('the C++ tests of the engine', () => {
  test('pass', () => {
    const { status, stdout, stderr } = runProgram(buildProgram('native', 'engine_test'));
    assert.equal(status, 0, `${stdout}${stderr}`);
    assert.match(stdout, /test cases: +[1-9]\d* \|/);
  });
});
