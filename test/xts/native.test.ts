/** The C++ tests of the kernels (test/native): as they are, under valgrind, and cross-compiled for Arm under qemu. */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { skipWithout, type ToolResult, tryTool } from '../interop/tools.js';
import { usableKernels } from './kernels.js';
import { buildProgram, kernelsRun, runProgram, skipWithoutHeaders } from './native-program.js';

/** What valgrind ends with where it has complained. */
const COMPLAINED = 99;

const skip = skipWithout('cmake') || skipWithoutHeaders();
/** Elsewhere the native run has Arm's kernel, and valgrind no AES-NI. */
const onlyOnX64 = process.arch !== 'x64' && 'not an x86-64 machine';

/** Sees that every test passed, and shows the seed. @returns the kernels that ran */
function judge(t: { diagnostic(text: string): void }, { status, stdout, stderr }: ToolResult, expectedStatus = 0): string[] {
  t.diagnostic(stdout.split('\n', 1)[0]!);
  assert.equal(status, expectedStatus, `${stdout}${stderr}`);
  assert.match(stdout, /Status: SUCCESS!/);
  const run = Number(/test cases: +(\d+) \|/.exec(stdout)?.[1]);
  assert.ok(run > 0, `no test ran: ${stdout}`);
  return kernelsRun(stdout);
}

describe('the C++ tests', { skip }, () => {
  let program: string;
  before(() => {
    program = buildProgram('native');
  });

  test('pass on every kernel of this machine, in every form of it', (t) => {
    const forms = usableKernels().flatMap((name) =>
      name.startsWith('vaes') ? [`${name}, tweaks by products`, `${name}, tweaks by shifts`] : [name],
    );
    assert.deepEqual(judge(t, runProgram(program)), forms.sort());
  });

  describe('under valgrind', { skip: onlyOnX64 || skipWithout('valgrind') }, () => {
    const memcheck = (filter: string): ToolResult => tryTool('valgrind', ['-q', `--error-exitcode=${COMPLAINED}`, program, filter]);

    test('find no branch and no address that depends on a key', (t) => {
      assert.deepEqual(judge(t, memcheck('--test-suite=constant time')), ['aesni', 'portable']);
    });

    test('would find them', (t) => {
      const result = memcheck('--test-suite=leaks');
      judge(t, result, COMPLAINED);
      assert.match(result.stderr, /Use of uninitialised value/);
      assert.match(result.stderr, /Conditional jump or move depends on uninitialised value/);
    });

    test('find no access beside a buffer and no use of memory that was never set', (t) => {
      const cases = ["*exactly the run's size*", '*IEEE vectors*', '*self-test*', '*round keys*', '*stream_copy*'];
      assert.deepEqual(judge(t, memcheck(`--test-case=${cases.join(',')}`)), ['aesni', 'portable']);
    });
  });
});

describe('the C++ tests, for Arm', { skip: skip || onlyOnX64 || skipWithout('aarch64-linux-gnu-g++', 'qemu-aarch64') }, () => {
  test('pass on both kernels', (t) => {
    const program = buildProgram('aarch64');
    const env = { ...process.env, VOLSEAL_TEST_EVERY: '8' };
    assert.deepEqual(judge(t, tryTool('qemu-aarch64', [program], { env })), ['armv8', 'portable']);
  });
});
