import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished, test } from 'vitest';
import * as z from 'zod';
import { built } from '../built.js';
import { machineShape } from './report-shape.js';

const spread = z.strictObject({ median: z.number().positive(), min: z.number().positive(), max: z.number().positive() });
const reportShape = z.strictObject({
  benchmark: z.literal('kms'),
  date: z.iso.datetime(),
  machine: machineShape,
  node: z.literal(process.version),
  commit: z.string().min(1),
  rounds: z.literal(1),
  operations: z.array(
    z.strictObject({
      operation: z.string().min(1),
      way: z.enum(['service', 'sdk', 'http']),
      grantCount: z.int().positive(),
      seconds: spread,
      ratioToFirst: z.number().positive(),
    }),
  ),
  attach: z.array(z.strictObject({ part: z.string().min(1), seconds: spread })),
});

test('the benchmark of the embedded KMS runs, small: tables and JSON', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const json = join(directory, 'kms.json');
  const main = built('bench/main.ts');
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'kms', '--small', '--json', json], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const report = reportShape.parse(JSON.parse(readFileSync(json, 'utf8')));
  assert.deepEqual([...new Set(report.operations.map(({ grantCount }) => grantCount))], [1, 100]);
  assert.deepEqual([...new Set(report.operations.map(({ way }) => way))], ['service', 'sdk', 'http']);
  for (const { operation } of report.operations) assert.ok(stdout.includes(operation));
  for (const { part } of report.attach) assert.ok(stdout.includes(part));
});
