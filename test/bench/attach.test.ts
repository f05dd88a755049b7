import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished, test } from 'vitest';
import * as z from 'zod';
import { built } from '../built.js';
import { machineShape } from './report-shape.js';

const reportShape = z.object({
  benchmark: z.literal('attach'),
  machine: machineShape,
  library: z.array(
    z.strictObject({
      contender: z.string().min(1),
      direction: z.enum(['read', 'write']),
      bytes: z.int().positive(),
      depth: z.int().positive(),
      requestsPerSecond: z.number().positive(),
      cpuMicroseconds: z.number().nonnegative(),
      latencyMicroseconds: z.number().positive(),
    }),
  ),
});

test('the benchmark of attached volumes runs, small: tables, targets and JSON', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const json = join(directory, 'attach.json');
  const words = [built('bench/main.ts'), 'attach', '--small', '--json', json];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const { library } = reportShape.parse(JSON.parse(readFileSync(json, 'utf8')));
  // Five ways to read in three cases, two ways to write in two.
  assert.equal(library.length, 3 * 5 + 2 * 2);
  assert.equal([...stdout.matchAll(/of FileHandle\.read/g)].length, 5);
});
