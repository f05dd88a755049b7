/** The C++ tests of the kernels (test/native): as they are, under valgrind, and cross-compiled for Arm under qemu. */
import assert from 'node:assert/strict';
import { beforeAll, test } from 'vitest';
import { skipWithout, type ToolResult, tryTool } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { usableKernels } from './kernels.js';
import { buildProgram, kernelsRun, runProgram, skipWithoutHeaders } from './native-program.js';

/** What valgrind ends with where it has complained. */
const COMPLAINED = 99;

const FORMS: Record<string, string[]> = {
  vaes512: ['tweaks by products', 'tweaks by shifts'],
  vaes256: ['tweaks by products', 'tweaks by shifts', 'tweaks in general registers'],
  aesni: ['tweaks in general registers', 'tweaks in vector registers'],
};
/** What valgrind can run: it has no VAES. */
const UNDER_VALGRIND = ['aesni, tweaks in general registers', 'aesni, tweaks in vector registers', 'portable'];

const skip = skipWithout('cmake') || skipWithoutHeaders();
/** Elsewhere the native run has Arm's kernel, and valgrind no AES-NI. */
const onlyOnX64 = process.arch !== 'x64' && 'not an x86-64 machine';

/** Checks that every test passed. @returns the kernels that ran */
function checkResult({ status, stdout, stderr }: ToolResult, expectedStatus = 0): string[] {
  assert.equal(status, expectedStatus, `${stdout}${stderr}`);
  assert.match(stdout, /Status: SUCCESS!/);
  const run = Number(/test cases: +(\d+) \|/.exec(stdout)?.[1]);
  assert.ok(run > 0, `no test ran: ${stdout}`);
  return kernelsRun(stdout);
}

describeUnless(skip)('the C++ tests', () => {
  let program: string;
  beforeAll(() => {
    program = buildProgram('native');
  });

  test('pass on every kernel of this machine, in every form of it', () => {
    const forms = usableKernels().flatMap((name) => FORMS[name]?.map((form) => `${name}, ${form}`) ?? [name]);
    assert.deepEqual(checkResult(runProgram(program)), forms.sort());
  });

  describeUnless(onlyOnX64 || skipWithout('valgrind'))('under valgrind', () => {
    const memcheck = (filter: string): ToolResult => tryTool('valgrind', ['-q', `--error-exitcode=${COMPLAINED}`, program, filter]);

    test('find no branch and no address that depends on a key', () => {
      assert.deepEqual(checkResult(memcheck('--test-suite=constant time')), UNDER_VALGRIND);
    });

    test('would find them', () => {
      const result = memcheck('--test-suite=leaks');
      checkResult(result, COMPLAINED);
      assert.match(result.stderr, /Use of uninitialised value/);
      assert.match(result.stderr, /Conditional jump or move depends on uninitialised value/);
    });

    test('find no access outside a buffer and no use of uninitialised memory', () => {
      const cases = ["*exactly the run's size*", '*IEEE vectors*', '*self-test*', '*round keys*', '*stream_copy*'];
      assert.deepEqual(checkResult(memcheck(`--test-case=${cases.join(',')}`)), UNDER_VALGRIND);
    });
  });
});

describeUnless(skip || onlyOnX64 || skipWithout('aarch64-linux-gnu-g++', 'qemu-aarch64'))('the C++ tests, for Arm', () => {
  test('pass on both kernels', () => {
    const program = buildProgram('aarch64');
    const env = { ...process.env, VOLSEAL_TEST_EVERY: '8' };
    assert.deepEqual(checkResult(tryTool('qemu-aarch64', [program], { env })), ['armv8', 'portable']);
  });
});
