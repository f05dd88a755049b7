// Builds the C++ tests of the cipher and of the NBD protocol for musl, by the compiler of the prebuilt addons, and runs
// them: those for another processor under qemu-user. They are static programs, so they need no musl on this machine.
//
//   node scripts/release/test-on-musl.mjs [x64] [arm64]
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { zigFor } from '../zig.mjs';
import { ROOT, run } from './tools.mjs';

/** By Node's names of processors: GNU's. */
const PROCESSORS = { x64: 'x86_64', arm64: 'aarch64' };
const PROGRAMS = ['xts_test', 'nbd_test'];

/** @returns how many tests passed, by program @throws {Error} with what the compiler or a test said */
export function testOnMusl(arch) {
  const processor = PROCESSORS[arch];
  const { command, environment } = zigFor(processor);
  const directory = join(ROOT, 'build', `native-tests-musl-${arch}`);
  const settings = [
    '-DCMAKE_BUILD_TYPE=Release',
    `-DCMAKE_CXX_COMPILER=${command.join(';')}`,
    '-DCMAKE_SYSTEM_NAME=Linux',
    `-DCMAKE_SYSTEM_PROCESSOR=${processor}`,
  ];
  run('cmake', ['-S', join(ROOT, 'test/native'), '-B', directory, ...settings], { environment });
  run('cmake', ['--build', directory, '--parallel', '2', '--target', ...PROGRAMS], { environment });
  const emulator = arch === process.arch ? [] : [`qemu-${processor}`];
  return Object.fromEntries(
    PROGRAMS.map((name) => {
      const [program, ...words] = [...emulator, join(directory, name)];
      // Under an emulator, every eighth length and offset.
      const env = { ...process.env, ...(emulator.length > 0 ? { VOLSEAL_TEST_EVERY: '8' } : {}) };
      const { status, stdout, stderr } = spawnSync(program, words, { env, encoding: 'utf8', maxBuffer: 2 ** 26 });
      const passed = Number(/test cases: +(\d+) \|/.exec(stdout)?.[1] ?? 0);
      if (status !== 0 || passed === 0) throw new Error(`${name} for musl on ${arch} ended with status ${status}\n${stdout}${stderr}`);
      return [name, passed];
    }),
  );
}

if (process.argv[1] === import.meta.filename) {
  const asked = process.argv.slice(2);
  for (const arch of asked.length > 0 ? asked : Object.keys(PROCESSORS)) {
    process.stdout.write(`${arch}: ${JSON.stringify(testOnMusl(arch))}\n`);
  }
}
