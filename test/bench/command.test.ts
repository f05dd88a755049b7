import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { ended, lab, parsed } from '../cli/program.js';
import { until } from '../until.js';
import { assertConsistent, countOf, reportShape } from './report-shape.js';

/** Whether the program ends by itself at a signal from now on. Node catches SIGINT always, and SIGHUP (1) never. */
const catchesSignals = (pid: number): boolean => {
  const [, mask] = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!;
  return (BigInt(`0x${mask}`) & 1n) === 1n;
};

describe('volseal bench', () => {
  test('--json prints the measurements and nothing else', () => {
    const { text, stderr } = lab().ok(['bench', '--json']);
    const report = reportShape.parse(parsed(text));
    assertConsistent(report);
    assert.equal(stderr, '');
    const inUse = report.kernels.find((kernel) => kernel.inUse)!.name;
    for (const { name } of report.kernels.filter(({ usable }) => usable)) {
      assert.equal(countOf(report, { name: 'xts', kernel: name as never, bufferBytes: 1024 * 1024, inPlace: true }), 4);
    }
    assert.equal(countOf(report, { name: 'node:crypto' }), 4);
    assert.equal(countOf(report, { name: 'memcpy' }), 1);
    assert.equal(countOf(report, { name: 'call', kernel: inUse as never }), 7);
  });

  test('Ctrl-C ends it in the middle', async () => {
    const child = lab().start(['bench', '--json']);
    const end = ended(child);
    await until(() => catchesSignals(child.pid!));
    child.kill('SIGINT');
    const { status, stderr } = await end;
    assert.equal(status, 130, stderr);
    assert.equal((parsed(stderr) as { error: { code: string } }).error.code, 'ERR_ABORTED');
  });
});
