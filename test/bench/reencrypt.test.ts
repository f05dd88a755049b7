import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished, test } from 'vitest';
import {
  CRYPTSETUP_REENCRYPT,
  ENCRYPT,
  type ImageReport,
  IN_PLACE_DD,
  REENCRYPT_IN_PLACE,
  REENCRYPT_OUT,
} from '../../bench/image-report.js';
import { imageLines } from '../../bench/image-tables.js';
import { reencryptTargetLines } from '../../bench/reencrypt-targets.js';
import { built } from '../built.js';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { cellsOf } from './table-cells.js';

testUnless(skipWithout('dd', 'cryptsetup', 'time'))('the benchmark of new keys runs, small: tables and JSON', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const json = join(directory, 'reencrypt.json');
  const words = [built('bench/main.ts'), 'reencrypt', '--small', '--json', json, '--directory', directory];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  assert.deepEqual(readdirSync(directory), ['reencrypt.json']);

  const report = JSON.parse(readFileSync(json, 'utf8')) as ImageReport;
  assert.equal(report.benchmark, 'reencrypt');
  assert.deepEqual(report.absent, []);
  const of = (name: string) => report.measurements.find((each) => each.name === name) ?? assert.fail(`${name} was not measured`);
  for (const { name, scene, gbps, imageBytes, seconds, dataGbps, limit } of report.measurements) {
    assert.equal(gbps, imageBytes / 1e9 / seconds.median, name);
    assert.equal(limit, scene === 'newKey' ? ENCRYPT : IN_PLACE_DD, name);
    // The start of the program and KMS are not part of it.
    if (name.startsWith('volseal')) assert.ok(dataGbps! > gbps!, name);
  }
  assert.equal(of(REENCRYPT_OUT).dataRatio, of(REENCRYPT_OUT).dataGbps! / of(ENCRYPT).dataGbps!);
  assert.equal(of(REENCRYPT_IN_PLACE).dataRatio, of(REENCRYPT_IN_PLACE).dataGbps! / of(IN_PLACE_DD).gbps!);
  assert.equal(stdout, `${[`Commit ${report.commit}`, ...imageLines(report), '', ...reencryptTargetLines(report)].join('\n')}\n`);
});

test('each goal is held against its own peer, and one that was not measured stays empty', () => {
  const common = { sectorBytes: 512, imageBytes: 1024 ** 3 };
  const measurements = [
    { ...common, scene: 'newKey', name: REENCRYPT_OUT, gbps: 1, dataRatio: 0.95 },
    { ...common, scene: 'inPlace', name: REENCRYPT_IN_PLACE, gbps: 0.6, dataRatio: 0.59 },
    { ...common, scene: 'inPlace', name: CRYPTSETUP_REENCRYPT, gbps: 0.3, dataRatio: null },
    { ...common, scene: 'inPlace', name: CRYPTSETUP_REENCRYPT, gbps: 0.3, dataRatio: null, sectorBytes: 4096 },
  ];
  const report = { measurements, imageBytes: 1024 ** 3 } as unknown as ImageReport;
  const cells = cellsOf(reencryptTargetLines(report).slice(4), 1);
  assert.deepEqual(cells, [
    ['>= 0.90', '0.95', ''],
    ['>= 0.60', '0.59 (missed)', ''],
    ['>= 1.50', '2.00', ''],
  ]);
});
