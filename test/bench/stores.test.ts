/** The benchmark of stores runs, small; each goal is held against its own peer. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished, test } from 'vitest';
import { type StoresReport, storesLines } from '../../bench/stores.js';
import { built } from '../built.js';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { machineShape } from './report-shape.js';
import { cellsOf } from './table-cells.js';

testUnless(skipWithout('aws', 'curl', 'openssl', 'time'))('images to S3 and back: a table, goals and JSON', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const json = join(directory, 'stores.json');
  const words = [built('bench/main.ts'), 'stores', '--small', '--json', json, '--directory', directory];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  assert.deepEqual(readdirSync(directory), ['stores.json']);
  const report = JSON.parse(readFileSync(json, 'utf8')) as StoresReport;
  machineShape.parse(report.machine);
  assert.deepEqual(
    report.measurements.map(({ scene, name }) => `${scene} ${name}`),
    ['upload', 'download'].flatMap((scene) => ['aws s3 cp', 'volseal', 'curl, one connection'].map((name) => `${scene} ${name}`)),
  );
  for (const { gbps, seconds, maxRssBytes } of report.measurements) {
    assert.equal(gbps, report.imageBytes / 1e9 / seconds.median);
    assert.ok(maxRssBytes > 0);
  }
  assert.equal(stdout, `${storesLines(report).join('\n')}\n`);
});

test('goals: rate and CPU of aws s3 cp, memory less that of Node', () => {
  const MIB = 1024 * 1024;
  const measurement = (scene: string, name: string, gbps: number, cpuSeconds: number) => ({
    ...{ scene, name, gbps, cpuSeconds, maxRssBytes: MIB },
    seconds: { median: 1, min: 1, max: 1 },
  });
  const report = {
    ...{ machine: { cpu: 'cpu', cores: 2, memoryBytes: MIB, osRelease: '6', loadAverage: 0 }, node: 'v20.0.0', programs: {} },
    ...{ imageBytes: MIB, largeBytes: MIB, rounds: 1, nodeRssBytes: 50 * MIB },
    largeRssBytes: { upload: 300 * MIB, download: 307 * MIB },
    measurements: [
      measurement('upload', 'aws s3 cp', 1, 10),
      measurement('upload', 'volseal', 2, 4),
      measurement('download', 'aws s3 cp', 1, 10),
      measurement('download', 'volseal', 0.5, 6),
    ],
  } as unknown as StoresReport;
  const cells = cellsOf(storesLines(report).slice(-3), 1);
  assert.deepEqual(cells, [
    ['>= 1.00', '2.00', '0.50 (missed)'],
    ['<= 0.50', '0.40', '0.60 (missed)'],
    ['<= 256 MiB', '250 MiB', '257 MiB (missed)'],
  ]);
});
