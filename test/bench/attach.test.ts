import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import * as z from 'zod';
import { built } from '../built.js';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { machineShape } from './report-shape.js';
import { assertWellFormed } from './svg.js';

const nbdShape = z.strictObject({
  sizeBytes: z.int().positive(),
  measurements: z.array(
    z.strictObject({
      server: z.string().min(1),
      access: z.string().min(1),
      figure: z.enum(['gbps', 'requestsPerSecond', 'latencyMicroseconds']),
      scene: z.enum(['warm', 'cold']),
      rounds: z.int().positive(),
      median: z.number().positive(),
      spread: z.number().nonnegative(),
    }),
  ),
  memory: z.array(z.strictObject({ server: z.string().min(1), peakBytes: z.int().positive() })),
  absent: z.tuple([]),
});

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
  nbd: nbdShape,
});

const programs = skipWithout('nbdkit', 'qemu-nbd', 'qemu-img', 'nbdcopy', 'fio', 'time', 'fallocate');

testUnless(programs)('the benchmark of attached volumes runs, small: tables, targets, JSON and a picture', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const [json, picture] = [join(directory, 'attach.json'), join(directory, 'attach.svg')];
  const words = [built('bench/main.ts'), 'attach', '--small', '--json', json, '--picture', picture, '--directory', directory];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const { library, nbd } = reportShape.parse(JSON.parse(readFileSync(json, 'utf8')));
  // Five ways to read in three cases, two ways to write in two.
  assert.equal(library.length, 3 * 5 + 2 * 2);
  assert.equal([...stdout.matchAll(/of FileHandle\.read/g)].length, 5);
  // Twelve kinds of access to five servers, two cold ones to six, and the plain file.
  assert.equal(nbd.measurements.length, 12 * 5 + 2 * 6 + 1);
  assert.equal(nbd.memory.length, 6);
  for (const { server } of nbd.memory) assert.ok(stdout.includes(`| ${server} `), server);
  // Each target has a row of its own.
  assert.equal([...stdout.matchAll(/^\| .*: of (the better|nbdkit|qemu|one)|latency of nbdkit|^\| memory of/gm)].length, 14);
  assert.deepEqual(assertWellFormed(readFileSync(picture, 'utf8')).filter((text) => text === 'volseal serve').length, 4);
  // The benchmark has left only what it was told to write.
  assert.deepEqual(readdirSync(directory).sort(), ['attach.json', 'attach.svg']);
});
