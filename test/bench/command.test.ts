import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, test } from 'vitest';
import { ended, lab, parsed } from '../cli/program.js';
import { assertConsistent, countOf, reportShape } from './report-shape.js';

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
    await delay(1500);
    child.kill('SIGINT');
    const { status, stderr } = await end;
    assert.equal(status, 130, stderr);
    assert.equal((parsed(stderr) as { error: { code: string } }).error.code, 'ERR_ABORTED');
  });
});
