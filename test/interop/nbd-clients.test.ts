/** Stock NBD clients judge an attached volume: libnbd's, QEMU's, nbdkit's and fio's. */
import { strict as assert } from 'node:assert';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { serveNewVolume } from '../nbd/served.js';
import { describeUnless, testUnless } from '../requirements.js';
import { runTool, skipWithout, tryTool } from './tools.js';

const MIB = 1024 * 1024;

interface NbdInfo {
  protocol: string;
  structured: boolean;
  exports: {
    'export-size': number;
    description?: string;
    contexts: string[];
    block_size_minimum: number;
    block_size_preferred: number;
    block_size_maximum: number;
    [ability: `can_${string}` | `is_${string}`]: boolean;
  }[];
}

const infoOf = (uri: string): NbdInfo['exports'][number] => {
  const info = JSON.parse(runTool('nbdinfo', ['--json', uri])) as NbdInfo;
  assert.equal(info.protocol, 'newstyle-fixed');
  assert.equal(info.structured, true);
  return info.exports[0]!;
};

/**
 * Runs Python statements (as nbdsh does, but in the system's Python, which has libnbd) with `h` connected to the
 * volume. @throws {Error} with what Python says
 */
const nbdsh = (uri: string, ...statements: string[]): string =>
  runTool('python3', ['-m', 'nbd', '--base-allocation', '-u', uri, ...statements.flatMap((statement) => ['-c', statement])]);

describeUnless(skipWithout('nbdinfo', 'nbdcopy', 'nbdsh'))('libnbd', () => {
  test('sees what a full, a sparse and a read-only volume can do', async () => {
    const full = infoOf((await serveNewVolume()).uri);
    const { volume, uri } = await serveNewVolume({ allocation: 'sparse', sectorBytes: 4096 });
    const sparse = infoOf(uri);
    const readOnly = infoOf((await serveNewVolume({ serve: { readOnly: true } })).uri);

    assert.equal(sparse['export-size'], 16 * MIB);
    assert.equal(sparse.description, volume.volumeId);
    assert.deepEqual(sparse.contexts, ['base:allocation']);
    assert.deepEqual([sparse.block_size_minimum, sparse.block_size_preferred, sparse.block_size_maximum], [1, 4096, 32 * MIB]);
    for (const can of ['cache', 'df', 'fast_zero', 'flush', 'fua', 'multi_conn', 'zero'] as const) assert.ok(sparse[`can_${can}`], can);
    assert.deepEqual([sparse.can_trim, full.can_trim, readOnly.can_trim], [true, false, false]);
    assert.deepEqual([sparse.is_read_only, full.is_read_only, readOnly.is_read_only], [false, false, true]);
  });

  test('reads what the library wrote, and the library what libnbd wrote', async () => {
    const { volume, uri } = await serveNewVolume();
    const bytes = randomBytes(300_000);
    await volume.write(12_345, bytes);
    assert.match(
      nbdsh(
        uri,
        'import hashlib',
        'print(hashlib.sha256(h.pread(300000, 12345)).hexdigest())',
        'h.pwrite(b"x" * 1000, 4095, nbd.CMD_FLAG_FUA)',
      ),
      new RegExp(sha256(bytes)),
    );
    assert.deepEqual(await volume.read(4095, 1000), new Uint8Array(Buffer.alloc(1000, 'x')));
  });

  test.each([1, 4])('copies a volume in and out over %i connections', async (connections) => {
    const { box, volume, uri } = await serveNewVolume({ sizeBytes: 64 * MIB });
    const contents = box.image('disk.raw', 64 * MIB);
    runTool('nbdcopy', [`-C${connections}`, '--flush', box.path('disk.raw'), uri]);
    assert.ok(contents.equals(await volume.read(0, 64 * MIB)));
    writeFileSync(box.path('copy.raw'), '');
    runTool('nbdcopy', [`-C${connections}`, uri, box.path('copy.raw')]);
    assert.ok(contents.equals(box.contents('copy.raw')));
  });

  test('sees holes, zeroes and trims them', async () => {
    const { volume, uri } = await serveNewVolume({ allocation: 'sparse', sizeBytes: 8 * MIB });
    await volume.write(MIB, randomBytes(MIB));
    const map = (): unknown => JSON.parse(runTool('nbdinfo', ['--map', '--json', uri]));
    const pieces = [
      { offset: 0, length: MIB, type: 3, description: 'hole,zero' },
      { offset: MIB, length: MIB, type: 0, description: 'data' },
      { offset: 2 * MIB, length: 6 * MIB, type: 3, description: 'hole,zero' },
    ];
    assert.deepEqual(map(), pieces);
    nbdsh(uri, `h.zero(${MIB}, ${MIB}, nbd.CMD_FLAG_FAST_ZERO)`);
    assert.deepEqual(map(), [{ offset: 0, length: 8 * MIB, type: 3, description: 'hole,zero' }]);
    nbdsh(
      uri,
      `h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE)`,
      `h.pwrite(b"y" * 8192, ${4 * MIB})`,
      `h.trim(4096, ${4 * MIB})`,
      'h.cache(65536, 0)',
    );
    assert.deepEqual(await volume.read(4 * MIB, 8192), new Uint8Array(Buffer.concat([Buffer.alloc(4096), Buffer.alloc(4096, 'y')])));
    assert.equal((map() as unknown[]).length, 4);
  });

  test('is told errors: outside, read-only, not fast', async () => {
    const { uri } = await serveNewVolume({ sizeBytes: MIB });
    const refused = (statement: string, uriOfIt = uri): string => {
      const { status, stderr } = tryTool('python3', ['-m', 'nbd', '-u', uriOfIt, '-c', 'h.set_strict_mode(0)', '-c', statement]);
      assert.notEqual(status, 0);
      return stderr;
    };
    assert.match(refused(`h.pread(512, ${MIB - 511})`), /Invalid argument/);
    assert.match(refused(`h.pwrite(b"x" * 512, ${MIB - 511})`), /No space left/);
    assert.match(refused('h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO)'), /not supported/);
    const readOnly = await serveNewVolume({ readOnly: true });
    assert.match(refused('h.pwrite(b"x", 0)', readOnly.uri), /Operation not permitted/);
  });
});

testUnless(skipWithout('qemu-io', 'qemu-img'))('QEMU reads, writes, discards and measures', async () => {
  const { uri, server } = await serveNewVolume({ allocation: 'sparse', sizeBytes: 32 * MIB });
  const output = runTool('qemu-io', [
    ...['-f', 'raw', uri],
    ...[
      'write -P 0x5a 1M 3M',
      'flush',
      'read -P 0x5a 1M 3M',
      'write -z -u 2M 1M',
      'read -P 0 2M 1M',
      'discard 1M 1M',
      'read -P 0 1M 1M',
    ].flatMap((command) => ['-c', command]),
    ...['-c', 'read -P 0x5a 3M 1M', '-c', 'write -f -P 7 12345 678', '-c', 'read -P 7 12345 678'],
  ]);
  assert.doesNotMatch(output, /failed|error/i);
  runTool('qemu-img', ['bench', '-f', 'raw', '-c', '2000', '-d', '16', '-w', '--flush-interval', '100', uri]);
  assert.equal(server.stats().errors, 0);
});

testUnless(skipWithout('fio'))('fio verifies random writes', async () => {
  const { box, uri, server } = await serveNewVolume({ sizeBytes: 32 * MIB });
  runTool('fio', [
    ...['--name=j', '--ioengine=nbd', `--uri=${uri}`, '--rw=randrw', '--bsrange=512-64k', '--blockalign=512', '--iodepth=32', '--size=32m'],
    ...['--verify=crc32c', '--io_size=64m', `--aux-path=${box.directory}`, '--output-format=terse'],
  ]);
  assert.equal(server.stats().errors, 0);
});

testUnless(skipWithout('nbdkit', 'nbdcopy'))("nbdkit's checkwrite finds every write as it should be", async () => {
  const { box, uri } = await serveNewVolume({ sizeBytes: 16 * MIB });
  box.image('disk.raw', 16 * MIB);
  runTool('nbdcopy', [box.path('disk.raw'), uri]);
  const socket = new URL(uri).searchParams.get('socket')!;
  runTool('nbdkit', ['-U', '-', '--filter=checkwrite', 'nbd', `socket=${socket}`, '--run', `nbdcopy "${box.path('disk.raw')}" "$uri"`]);
});

const sha256 = (bytes: Buffer): string => runTool('sha256sum', [], { input: bytes }).slice(0, 64);
