import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { type KernelInfo, kernels } from '../../src/index.js';
import { failureOf, lab, parsed } from './program.js';

interface Report {
  inUse: string;
  fastest: string;
  kernels: KernelInfo[];
}

const reportOf = (text: string): Report => parsed(text) as unknown as Report;

const usable = kernels().filter((kernel) => kernel.usable);
const impossible = kernels().filter((kernel) => !kernel.usable);
const [fastest] = usable;

describe('volseal kernels', () => {
  test('a line for each, the one in use marked, and why', () => {
    const lines = lab().ok(['kernels']).text.split('\n');
    const listed = lines.slice(0, kernels().length);
    for (const [index, { name, vectorBits, reason, usable }] of kernels().entries()) {
      const mark = name === fastest!.name ? '*' : ' ';
      const words = `${mark} ${name.padEnd(8)}  ${vectorBits}-bit  ${usable ? '' : 'cannot run: '}${reason}`;
      assert.equal(listed[index], words);
    }
    assert.deepEqual(lines.slice(listed.length), ['', '* in use: the fastest that this machine can run', '']);
  });

  test('as JSON: every kernel, the first usable one in use', () => {
    const report = reportOf(lab().ok(['kernels', '--json']).text);
    assert.deepEqual(Object.keys(report), ['inUse', 'fastest', 'kernels']);
    assert.deepEqual(report.kernels, kernels());
    assert.equal(report.inUse, report.kernels.find((kernel) => kernel.usable)!.name);
    assert.equal(report.fastest, report.inUse);
    assert.deepEqual(
      report.kernels.filter(({ inUse }) => inUse).map(({ name }) => name),
      [report.inUse],
    );
    assert.deepEqual(report.kernels.map(({ name }) => name).sort(), ['aesni', 'armv8', 'portable', 'vaes256', 'vaes512']);
  });

  test('info names it too', () => {
    const { ok, run } = lab();
    assert.match(ok(['info', '--help']).text, /kernel.* volseal kernels\n/);
    assert.match(run(['info', '--cpu']).stderr, /unknown option '--cpu'.*\nhint: volseal info --help/);
  });
});

describe('VOLSEAL_KERNEL', () => {
  for (const { name } of usable) {
    test(`${name} does the work, and gives the same volume and image`, () => {
      const { ok, image, contents } = lab();
      const env = { VOLSEAL_KERNEL: name };
      const report = reportOf(ok(['kernels', '--json'], { env }).text);
      assert.equal(report.inUse, name);
      assert.equal(report.fastest, fastest!.name);
      const why = name === fastest!.name ? 'the fastest' : `VOLSEAL_KERNEL forces it; without that, ${fastest!.name} would be`;
      assert.ok(ok(['kernels'], { env }).text.includes(`* in use: ${why}`));

      const raw = image('a.raw', 300 * 1024 + 512);
      ok(['encrypt', 'a.raw', 'a.vol'], { env });
      ok(['decrypt', 'a.vol', 'b.raw'], { env });
      ok(['decrypt', 'a.vol', 'c.raw']);
      assert.ok(contents('b.raw').equals(raw));
      assert.ok(contents('c.raw').equals(raw));
      ok(['write', 'a.vol', '--offset', '1000'], { env, input: 'hello' });
      assert.equal(ok(['read', 'a.vol', '--offset', '1000', '--length', '5']).text, 'hello');
    });
  }

  test('an empty one counts as unset', () => {
    const { ok } = lab();
    assert.equal(reportOf(ok(['kernels', '--json'], { env: { VOLSEAL_KERNEL: '' } }).text).inUse, fastest!.name);
  });

  test('one that does not exist, or that this machine cannot run: status 1 from every command, help excepted', () => {
    const { run, ok, names } = lab();
    const wrong: (readonly [name: string, message: string])[] = [
      ['vaes1024', 'VOLSEAL_KERNEL: there is no kernel "vaes1024", only '],
      ['AESNI', 'VOLSEAL_KERNEL: there is no kernel "AESNI"'],
      ...impossible.map(({ name, reason }) => [name, `VOLSEAL_KERNEL: this machine cannot run the kernel ${name}: ${reason}`] as const),
    ];
    assert.ok(impossible.length > 0, 'no processor runs both the x86 kernels and the Arm ones');
    for (const [name, message] of wrong) {
      const env = { VOLSEAL_KERNEL: name };
      for (const args of [['create', 'a.vol', '--size', '1M'], ['info', 'nowhere.vol'], ['kms', 'list-keys'], ['kernels']]) {
        const people = run(args, { env });
        assert.equal(people.status, 1, people.stderr);
        assert.ok(people.stderr.includes(message), people.stderr);
        assert.match(people.stderr, /\nhint: VOLSEAL_KERNEL= volseal kernels shows/);
        const failure = failureOf(run([...args, '--json'], { env }));
        assert.equal(failure.code, 'ERR_ARGUMENT');
        assert.deepEqual(failure.details, { kernel: name });
      }
      ok(['--help'], { env });
      ok(['--version'], { env });
    }
    assert.deepEqual(names(), []);
  });

  test('the hint works as it stands', () => {
    const { run, shell } = lab();
    const { stderr } = run(['kernels'], { env: { VOLSEAL_KERNEL: 'none' } });
    const command = /hint: (VOLSEAL_KERNEL= volseal kernels) /.exec(stderr)![1];
    assert.equal(shell(`export VOLSEAL_KERNEL=none; ${command}`).status, 0);
  });

  test('help names it', () => {
    assert.match(lab().ok(['--help']).text, /Environment:\n(.*\n)* {2}VOLSEAL_KERNEL +\S/);
  });
});
