import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import * as z from 'zod';
import { parseCryptsetup, parseOpensslSpeed } from '../../bench/peers.js';
import { kernelPicture } from '../../bench/picture.js';
import { targetLines } from '../../bench/targets.js';
import { judgeBytes } from '../../src/bench/contenders.js';
import { measureKernels } from '../../src/bench/kernels.js';
import { reportLines } from '../../src/bench/tables.js';
import { native } from '../../src/native.js';
import { built } from '../built.js';
import { assertConsistent, countOf, reportShape } from './report-shape.js';
import { assertWellFormed } from './svg.js';

const cloneReportShape = reportShape.extend({ commit: z.string().min(1), programs: z.record(z.string(), z.string().min(1)) });

const KIB = 1024;
const SMALL_LARGE_BYTES = 32 * KIB * KIB;

describe('the benchmark of the kernels', () => {
  test('runs, small: tables, JSON and picture', () => {
    const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const [json, picture] = [join(directory, 'kernels.json'), join(directory, 'kernels.svg')];
    const main = built('bench/main.ts');
    const words = [main, 'kernels', '--small', '--json', json, '--picture', picture];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    assert.equal(stderr, '');

    const report = cloneReportShape.parse(JSON.parse(readFileSync(json, 'utf8')));
    assertConsistent(report);
    assert.equal(report.largeBytes, SMALL_LARGE_BYTES);
    const usable = report.kernels.filter((kernel) => kernel.usable);
    assert.deepEqual(report.kernels, native.xtsKernels());
    const layouts = [64 * KIB, KIB * KIB, SMALL_LARGE_BYTES].flatMap((bufferBytes) =>
      [true, false].map((inPlace) => ({ bufferBytes, inPlace })),
    );
    for (const layout of layouts) {
      // Two sector sizes, two directions.
      assert.equal(countOf(report, { name: 'OpenSSL EVP', ...layout }), 4);
      for (const { name: kernel } of usable) {
        const isAbsent = kernel === 'portable' && layout.bufferBytes === SMALL_LARGE_BYTES;
        assert.equal(
          countOf(report, { name: 'xts', kernel: kernel as never, ...layout }),
          isAbsent ? 0 : 4,
          `${kernel} ${JSON.stringify(layout)}`,
        );
        assert.equal(
          report.absent.filter((absence) => absence.kernel === kernel && absence.bufferBytes === layout.bufferBytes).length,
          isAbsent ? 8 : 0,
        );
      }
      if (!layout.inPlace) assert.equal(countOf(report, { name: 'memcpy', bufferBytes: layout.bufferBytes }), 1);
    }
    for (const { name } of usable.filter(({ name }) => name !== 'portable')) {
      assert.equal(countOf(report, { name: 'limit', kernel: name as never }), 1);
    }
    assert.equal(countOf(report, { name: 'node:crypto', sectorBytes: 512 }), 4);
    assert.deepEqual(
      report.measurements.filter(({ name }) => name === 'call').map(({ bufferBytes, sectorBytes }) => [bufferBytes, sectorBytes]),
      [512, 4096, 64 * KIB, KIB * KIB].flatMap((bytes) =>
        bytes === 512
          ? [[bytes, 512]]
          : [
              [bytes, 512],
              [bytes, 4096],
            ],
      ),
    );
    for (const peer of ['openssl speed', 'cryptsetup benchmark']) {
      const isThere = [...report.measurements, ...report.absent].some(({ name }) => name === peer);
      assert.ok(isThere, `${peer} is neither measured nor absent`);
    }

    const texts = assertWellFormed(readFileSync(picture, 'utf8'));
    for (const { name } of usable) assert.ok(texts.includes(name), `the picture does not name ${name}`);
    for (const { vectorBits } of usable.filter(({ name }) => name !== 'portable')) {
      assert.ok(texts.some((text) => text.startsWith(`${vectorBits}-bit limit `)));
    }
    assert.equal(kernelPicture(report as never), readFileSync(picture, 'utf8'));

    assert.equal(stdout, `Commit ${report.commit}\n${[...reportLines(report as never), '', ...targetLines(report as never)].join('\n')}\n`);
    for (const { name } of usable) assert.match(stdout, new RegExp(`^\\| ${name} +\\| 64 KiB +\\| in place +\\|`, 'm'));
  });

  test("a user's measurements, small; afterwards the process is as it was", async () => {
    const before = native.vaultInfo();
    native.xtsUseKernel('portable');
    try {
      const plan = { breadth: 'main', rounds: 1, budgetMs: 60_000, turnMs: 1, largeBytes: SMALL_LARGE_BYTES } as const;
      const report = reportShape.parse(await measureKernels(plan));
      assertConsistent(report);
      assert.deepEqual(
        native
          .xtsKernels()
          .filter(({ inUse }) => inUse)
          .map(({ name }) => name),
        ['portable'],
      );
      assert.equal(native.vaultInfo().liveKeys, before.liveKeys);
      const usable = report.kernels.filter((kernel) => kernel.usable);
      for (const { name: kernel } of usable) {
        assert.equal(countOf(report, { name: 'xts', kernel: kernel as never, bufferBytes: KIB * KIB, inPlace: true }), 4);
      }
      // The kernel in use is the forced one, and it has no large buffers.
      assert.equal(countOf(report, { name: 'call', kernel: 'portable' }), 7);
      assert.equal(countOf(report, { name: 'xts', bufferBytes: SMALL_LARGE_BYTES }), 0);
      assert.equal(report.absent.filter(({ bufferBytes }) => bufferBytes === SMALL_LARGE_BYTES).length, 4);
    } finally {
      native.xtsUseKernel('');
    }
  });

  test('aborted, it throws, and wipes its key', async () => {
    const before = native.vaultInfo();
    const plan = { breadth: 'main', rounds: 1, budgetMs: 60_000, turnMs: 1, largeBytes: SMALL_LARGE_BYTES } as const;
    await assert.rejects(measureKernels(plan, { signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' });
    assert.equal(native.vaultInfo().liveKeys, before.liveKeys);
  });

  test('wrong bytes are not measured', () => {
    assert.throws(() => judgeBytes('a lazy kernel', (_encrypt, source, target) => source.copy(target)), {
      code: 'ERR_SELF_TEST',
      message: /^a lazy kernel encrypts sectors of 512 bytes to other bytes than node:crypto does$/,
    });
  });
});

describe('what peers print', () => {
  test('openssl speed -mr', () => {
    const text = '+DT:AES-256-XTS:1:512\n+R:11731465:AES-256-XTS:0.990000\n+H:512\n+F:25:AES-256-XTS:6000000000.00\n';
    assert.equal(parseOpensslSpeed(text), 6);
    assert.equal(parseOpensslSpeed('+H:512\n'), undefined);
  });

  test('cryptsetup benchmark', () => {
    const text = [
      '# Tests are approximate using memory only (no storage IO).',
      '# Algorithm |       Key |      Encryption |      Decryption',
      '    aes-xts        512b      2000.0 MiB/s      1000.5 MiB/s',
      '',
    ].join('\n');
    assert.deepEqual(parseCryptsetup(text), { encrypt: 2.097152, decrypt: 1.049100288 });
    assert.equal(parseCryptsetup('# Algorithm |       Key |      Encryption |      Decryption\n'), undefined);
  });
});
