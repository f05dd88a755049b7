/** Images that are not raw are recognised and refused, unless the caller insists; and what is worth a warning. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { describe, onTestFinished, test } from 'vitest';
import { createVolume, encryptImage, verifyVolume } from '../../src/index.js';
import { rootRefused } from '../cli/program.js';
import { requireTool, runTool, skipWithout } from '../interop/tools.js';
import { loopDevice } from '../output/loop-device.js';
import { describeUnless, testUnless } from '../requirements.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const MIB = 1024 * 1024;

/** Encrypting `name` is refused as `format`; with `raw` it is encrypted as it is. */
async function refusedAs(box: Sandbox, name: string, format: string): Promise<void> {
  const [path, volume] = [box.path(name), box.path('a.vol')];
  await assert.rejects(
    encryptImage(path, volume, { kms: box.kms, pad: true }),
    (error: { code: string; message: string; details: object }) => {
      assert.equal(error.code, 'ERR_ARGUMENT');
      assert.equal(error.message, `${path}: is ${format}, not a raw image`);
      return true;
    },
  );
  await encryptImage(path, volume, { kms: box.kms, pad: true, raw: true });
  await verifyVolume(volume, { kms: box.kms, against: path });
}

describeUnless(skipWithout('qemu-img'))('images of virtual machines, as qemu-img makes them', () => {
  const made: [format: string, options: string[], said: string][] = [
    ['qcow2', [], 'a qcow2 image'],
    ['qed', [], 'a QED image'],
    ['vhdx', [], 'a VHDX image'],
    ['vpc', ['-o', 'subformat=dynamic'], 'a VHD image'],
    ['vpc', ['-o', 'subformat=fixed,force_size'], 'a VHD image'],
    ['vmdk', [], 'a VMDK image'],
    ['vmdk', ['-o', 'subformat=monolithicFlat'], 'a VMDK descriptor'],
    ['vdi', [], 'a VDI image'],
    ['parallels', [], 'a Parallels image'],
  ];
  for (const [format, options, said] of made) {
    test(`${format} ${options.join(' ')}`, async () => {
      const box = sandbox();
      runTool('qemu-img', ['create', '-q', '-f', format, ...options, box.path('disk'), '2M']);
      await refusedAs(box, 'disk', said);
    });
  }
});

describe('compressed files', () => {
  const image = Buffer.alloc(MIB, 'raw bytes');
  const made: [name: string, said: string, make: () => Buffer][] = [
    ['gzip', 'a gzip file', () => gzipSync(image)],
    ['xz', 'an xz file', () => execFileSync(requireTool('xz'), ['-c'], { input: image })],
    ['zstd', 'a Zstandard file', () => execFileSync(requireTool('zstd'), ['-qc'], { input: image })],
    ['bzip2', 'a bzip2 file', () => execFileSync(requireTool('bzip2'), ['-c'], { input: image })],
  ];
  for (const [name, said, make] of made) {
    testUnless(name === 'gzip' ? false : skipWithout(name))(name, async () => {
      const box = sandbox();
      writeFileSync(box.path('disk'), make());
      await refusedAs(box, 'disk', said);
    });
  }
});

test('a volume is not encrypted once more by mistake', async () => {
  const box = sandbox();
  await createVolume(box.path('disk'), { sizeBytes: MIB, kms: box.kms });
  await refusedAs(box, 'disk', 'a LUKS volume');
});

test('raw images with what looks alike at other offsets are raw, and so is one that is shorter than a magic', async () => {
  const box = sandbox();
  const image = Buffer.alloc(MIB);
  image.write('conectix', 4096, 'latin1');
  image.write('vhdxfile', 512, 'latin1');
  writeFileSync(box.path('disk'), image);
  await encryptImage(box.path('disk'), box.path('a.vol'), { kms: box.kms });
  writeFileSync(box.path('short'), 'QF');
  await encryptImage(box.path('short'), box.path('b.vol'), { kms: box.kms, pad: true });
});

describe('warnings', () => {
  async function warningsFor(box: Sandbox, source: string, sectorBytes: number): Promise<string[]> {
    const warnings: string[] = [];
    const options = { kms: box.kms, sectorBytes, force: true, onWarning: (warning: string) => warnings.push(warning) };
    await encryptImage(source, box.path('warned.vol'), options);
    return warnings;
  }

  /** A GPT as sgdisk-like tools lay it out: its header in the second sector. */
  function gpt(box: Sandbox, sectorBytes: number): string {
    const image = Buffer.alloc(MIB);
    image.write('EFI PART', sectorBytes, 'latin1');
    writeFileSync(box.path('gpt'), image);
    return box.path('gpt');
  }

  for (const [table, volume] of [
    [512, 4096],
    [4096, 512],
  ] as const) {
    test(`a GPT of ${table}-byte sectors in a volume of ${volume}-byte ones`, async () => {
      const box = sandbox();
      const [warning, ...others] = await warningsFor(box, gpt(box, table), volume);
      assert.match(warning!, new RegExp(`sectors of ${table} bytes, the volume has sectors of ${volume}`));
      assert.deepEqual(others, []);
      assert.deepEqual(await warningsFor(box, gpt(box, table), table), []);
    });
  }

  testUnless(skipWithout('sfdisk'))('an MBR that sfdisk wrote, and a boot sector that is none', async () => {
    const box = sandbox();
    writeFileSync(box.path('mbr'), '');
    truncateSync(box.path('mbr'), 4 * MIB);
    execFileSync(requireTool('sfdisk'), ['--quiet', '--label', 'dos', box.path('mbr')], { input: '2048,2048,83\n' });
    assert.equal((await warningsFor(box, box.path('mbr'), 4096)).length, 1);
    assert.deepEqual(await warningsFor(box, box.path('mbr'), 512), []);
    const boot = readFileSync(box.path('mbr')).subarray(0, MIB);
    boot.fill(0xe9, 446, 510);
    writeFileSync(box.path('boot'), boot);
    assert.deepEqual(await warningsFor(box, box.path('boot'), 4096), []);
  });

  testUnless(rootRefused() || skipWithout('mkfs.ext4', 'mount', 'losetup'))('a device that is mounted', async () => {
    const box = sandbox();
    const device = loopDevice(box.path('backing'), 8 * MIB);
    runTool('mkfs.ext4', ['-q', device]);
    assert.deepEqual(await warningsFor(box, device, 512), []);
    execFileSync('mkdir', [box.path('mounted')]);
    runTool('mount', ['-o', 'ro', device, box.path('mounted')]);
    onTestFinished(() => void runTool('umount', [box.path('mounted')]));
    const [warning, ...others] = await warningsFor(box, device, 512);
    assert.match(warning!, /is in use.*torn image.*snapshot/);
    assert.deepEqual(others, []);
  });
});
