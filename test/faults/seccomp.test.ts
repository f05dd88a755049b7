/** The program in a sandbox that forbids system calls which it needs: it says which, and what to allow. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { lab, unprivileged } from '../cli/program.js';
import { requireTool, skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';

/** Numbers of system calls, by machine (asm/unistd.h). */
const NUMBERS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  x64: { memfd_secret: 447, mlock: 149, mlock2: 325, prctl: 157, prlimit64: 302 },
  arm64: { memfd_secret: 447, mlock: 228, mlock2: 284, prctl: 167, prlimit64: 261 },
};

/**
 * Runs argv[2:] with the calls whose numbers argv[1] names forbidden: they fail with EPERM. A filter of seccomp(2) in
 * classic BPF: load the number (offset 0 of seccomp_data), compare with each, and return ERRNO or ALLOW.
 */
const SANDBOX = `
import ctypes, os, struct, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
code = struct.pack("HBBI", 0x20, 0, 0, 0)
for index, number in enumerate(numbers):
    code += struct.pack("HBBI", 0x15, len(numbers) - index, 0, number)
code += struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000) + struct.pack("HBBI", 0x06, 0, 0, 0x00050001)
filter = ctypes.create_string_buffer(code, len(code))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(code) // 8, ctypes.addressof(filter))
for words in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(program), 0, 0)):
    if libc.prctl(*words) != 0:
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[2], sys.argv[2:])
`;

const forbidding = (...calls: string[]): string[] => {
  const numbers = calls.map((call) => NUMBERS[process.arch]![call]!);
  return [...unprivileged, requireTool('python3'), '-c', SANDBOX, numbers.join(',')];
};

const skip = process.arch in NUMBERS ? skipWithout('python3', ...unprivileged.slice(0, 1)) : `knows no system calls of ${process.arch}`;

describeUnless(skip)('a sandbox that forbids', () => {
  test('memfd_secret and mlock: that is said, not that the limit is too low', () => {
    const at = lab();
    at.image('a.raw', 4096);
    const outcome = at.run(['encrypt', 'a.raw', 'a.vol'], { through: forbidding('memfd_secret', 'mlock', 'mlock2') });
    assert.equal(outcome.status, 8, outcome.stderr);
    assert.match(outcome.stderr, /memory for keys cannot be locked \(mlock failed: Operation not permitted/);
    assert.match(outcome.stderr, /hint: A sandbox \(seccomp\) forbids locked memory: allow memfd_secret or mlock/);
    assert.deepEqual(
      at.names().filter((name) => name.includes('a.vol')),
      [],
    );
  });

  test('memfd_secret alone: mlock does', () => {
    const at = lab();
    at.image('a.raw', 4096);
    at.ok(['encrypt', 'a.raw', 'a.vol'], { through: forbidding('memfd_secret') });
    at.ok(['verify', 'a.vol', '--against', 'a.raw']);
  });

  for (const call of ['prctl', 'prlimit64'])
    test(`${call}: a message with a hint, and no stack`, () => {
      const at = lab();
      at.image('a.raw', 4096);
      const outcome = at.run(['encrypt', 'a.raw', 'a.vol'], { through: forbidding(call) });
      assert.equal(outcome.status, 4, outcome.stderr);
      assert.match(
        outcome.stderr,
        /volseal: .*(prctl|setrlimit)\([A-Z_]+\) failed: Operation not permitted\nhint: A sandbox \(seccomp\) forbids this call/,
      );
      assert.doesNotMatch(outcome.stderr, /\n\s+at /);
    });
});
