import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import * as z from 'zod';
import { imagePicture } from '../../bench/image-picture.js';
import { CACHED_DD, COPY, DIRECT_DD, FIO_WRITE, LIMITS, PARALLEL_DD, QEMU } from '../../bench/image-report.js';
import { imageLines } from '../../bench/image-tables.js';
import { imageTargetLines } from '../../bench/image-targets.js';
import { built } from '../built.js';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { machineShape } from './report-shape.js';
import { assertWellFormed } from './svg.js';

const MIB = 1024 * 1024;

const subject = {
  scene: z.enum(['warm', 'cold', 'cached', 'sparse', 'start']),
  name: z.string().min(1),
  sectorBytes: z.union([z.literal(512), z.literal(4096)]).nullable(),
  imageBytes: z.number().int().positive(),
};

const reportShape = z.strictObject({
  benchmark: z.literal('image'),
  date: z.iso.datetime(),
  machine: machineShape,
  node: z.literal(process.version),
  commit: z.string().min(1),
  programs: z.record(z.string(), z.string().min(1)),
  fileSystem: z.string().min(1),
  imageBytes: z.number().int().positive(),
  measurements: z.array(
    z.strictObject({
      ...subject,
      rounds: z.literal(1),
      seconds: z.strictObject({ median: z.number().positive(), min: z.number().positive(), max: z.number().positive() }),
      gbps: z.number().positive().nullable(),
      dataGbps: z.number().positive().nullable(),
      limit: z.string().nullable(),
      ratio: z.number().positive().nullable(),
      dataRatio: z.number().positive().nullable(),
      cpuSeconds: z.number().min(0),
      maxRssBytes: z.number().int().positive(),
      allocatedBytes: z.number().int().min(0).nullable(),
    }),
  ),
  absent: z.array(z.strictObject({ ...subject, reason: z.string().min(1) })),
});

const tools = ['dd', 'fio', 'qemu-img', 'cryptsetup', 'time'];

testUnless(skipWithout(...tools))('the benchmark of whole images runs, small: tables, JSON and picture', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const [json, picture] = [join(directory, 'image.json'), join(directory, 'image.svg')];
  const main = built('bench/main.ts');
  const words = [main, 'image', '--small', '--directory', directory, '--json', json, '--picture', picture];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  assert.deepEqual(readdirSync(directory).sort(), ['image.json', 'image.svg']);

  const report = reportShape.parse(JSON.parse(readFileSync(json, 'utf8')));
  assert.equal(report.imageBytes, 16 * MIB);
  // Loop devices, which cryptsetup needs, are the one thing that a container may lack.
  assert.deepEqual(
    report.absent.filter(({ name }) => name !== 'cryptsetup reencrypt'),
    [],
  );
  const of = (scene: string, name: string) =>
    report.measurements.find((measurement) => measurement.scene === scene && measurement.name === name) ??
    assert.fail(`${name} (${scene}) was not measured`);
  for (const name of [FIO_WRITE, 'fio, reading', 'dd, direct writes', COPY, QEMU, 'qemu-img convert, direct', 'node:crypto, stream'])
    of('warm', name);
  for (const name of [DIRECT_DD, PARALLEL_DD, COPY]) of('cold', name);
  of('cached', CACHED_DD);
  for (const command of ['encrypt', 'decrypt']) {
    for (const scene of ['warm', 'cold', 'start']) of(scene, `volseal ${command}`);
    of('cached', `volseal ${command} --no-fsync`);
    assert.ok(of('warm', `volseal ${command}`).allocatedBytes! >= 16 * MIB);
    assert.ok(of('sparse', `volseal ${command} --sparse`).allocatedBytes! < 8 * MIB);
  }
  for (const { scene, name, gbps, dataGbps, limit, ratio, dataRatio, seconds, imageBytes } of report.measurements) {
    assert.equal(gbps, ['sparse', 'start'].includes(scene) ? null : imageBytes / 1e9 / seconds.median, name);
    assert.equal(limit, LIMITS[scene] ?? null, name);
    assert.equal(ratio, limit === null ? null : gbps! / of(scene, limit).gbps!, name);
    assert.equal(dataGbps !== null, gbps !== null && /^(volseal|fio)/.test(name), name);
    assert.equal(dataRatio, limit === null || dataGbps === null ? null : dataGbps / of(scene, limit).gbps!, name);
    // The start of the program and KMS are not part of it.
    if (name.startsWith('volseal') && gbps !== null) assert.ok(dataGbps! > gbps, name);
  }

  const texts = assertWellFormed(readFileSync(picture, 'utf8'));
  for (const name of ['volseal encrypt, 512', QEMU, PARALLEL_DD]) {
    assert.ok(
      texts.some((text) => text.startsWith(name)),
      `the picture does not name ${name}`,
    );
  }
  assert.equal(imagePicture(report), readFileSync(picture, 'utf8'));
  assert.equal(stdout, `${[`Commit ${report.commit}`, ...imageLines(report), '', ...imageTargetLines(report)].join('\n')}\n`);
});
