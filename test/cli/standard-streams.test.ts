/**
 * What cannot be written to standard output is a failure, whatever kind of thing that is; so is an input that holds no
 * bytes.
 */
import assert from 'node:assert/strict';
import { mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { skipWithoutMount, smallDisk } from '../mount.js';
import { loopDevice, skipWithoutLoop } from '../output/loop-device.js';
import { testUnless } from '../requirements.js';
import { type Lab, lab, type Outcome, parsed } from './program.js';

const MIB = 1024 * 1024;

/** A lab with a.vol, made of a.raw. */
function labWithVolume(bytes: number): { at: Lab; image: Buffer } {
  const at = lab();
  const image = at.image('a.raw', bytes);
  at.ok(['encrypt', 'a.raw', 'a.vol']);
  return { at, image };
}

function saysThatOutputIsFull({ status, stderr }: Outcome): void {
  assert.equal(status, 4, stderr);
  assert.match(
    stderr,
    /^volseal: standard output: write failed: ENOSPC.*\nhint: Only the output could not be written: .* stays done\. Free some space .*\n$/,
  );
}

describe('standard output', () => {
  test('that takes nothing: status 4, from every kind of output', () => {
    const { at } = labWithVolume(64 * 1024);
    for (const command of [
      'info a.vol',
      'info a.vol --json 2>json',
      'read a.vol',
      'write a.vol < a.raw',
      'kms create-key',
      'kms serve --listen 127.0.0.1:0',
      'kernels',
      '--help',
      'kms --help',
      '--version',
    ]) {
      const outcome = at.shell(`volseal ${command} > /dev/full`);
      if (!command.includes('--json')) saysThatOutputIsFull(outcome);
      else assert.equal(outcome.status, 4);
    }
    const { error } = parsed(at.contents('json').toString()) as { error: { code: string; details: object } };
    assert.equal(error.code, 'ERR_IO');
    assert.deepEqual(error.details, { errno: 'ENOSPC', syscall: 'write', path: 'standard output' });
  });

  test('that takes nothing: read of any length, and no summary that claims it', () => {
    const { at } = labWithVolume(64 * 1024);
    // A stream holds back up to 16 KiB: whatever ends within them fails only once everything was handed over.
    for (const length of [1, 700, 4096, 16_383, 16_384, 16_385]) {
      saysThatOutputIsFull(at.shell(`volseal read a.vol --length ${length} > /dev/full`));
      const { status, stderr } = at.shell(`volseal read a.vol --length ${length} --json > /dev/full`);
      assert.equal(status, 4, stderr);
      const { error, ...rest } = parsed(stderr) as { error: { code: string } };
      assert.equal(error.code, 'ERR_IO');
      assert.deepEqual(rest, {});
    }
  });

  test('what was done stays done where its result cannot be printed', () => {
    const { at, image } = labWithVolume(4096);
    saysThatOutputIsFull(at.shell('volseal encrypt a.raw b.vol > /dev/full'));
    assert.deepEqual(at.ok(['read', 'b.vol']).stdout, image);
  });

  test('that becomes the target: the volume is made, and what the shell had opened gets the result', () => {
    const { at, image } = labWithVolume(4096);
    const { status, stderr } = at.shell('volseal encrypt a.raw /proc/self/fd/1 --force > junk');
    assert.equal(status, 0, stderr);
    assert.deepEqual(at.ok(['read', 'junk']).stdout, image);
  });

  testUnless(skipWithoutMount())('a file on a disk that fills up in the middle of a write: status 4, not a short file and status 0', () => {
    const { at } = labWithVolume(4 * MIB);
    smallDisk(at.path('small'), 3 * MIB);
    saysThatOutputIsFull(at.shell('volseal read a.vol > small/whole.raw'));
    assert.equal(statSync(at.path('small/whole.raw')).size, 3 * MIB);
    assert.equal(at.shell('rm small/whole.raw; volseal read a.vol --length 3M > small/part.raw').status, 0);
  });

  testUnless(skipWithoutMount())('a file on a disk that fills up with the last piece, however short that is', () => {
    const { at } = labWithVolume(5 * MIB);
    smallDisk(at.path('small'), 4 * MIB);
    for (const beyond of [1, 700, 4096, 16_383, 16_385]) {
      saysThatOutputIsFull(at.shell(`volseal read a.vol --length ${4 * MIB + beyond} > small/whole.raw`));
      assert.equal(statSync(at.path('small/whole.raw')).size, 4 * MIB);
    }
  });

  testUnless(skipWithoutLoop())('a block device gets what is read, and one that is too small says so', () => {
    const { at, image } = labWithVolume(2 * MIB);
    assert.equal(at.shell(`volseal read a.vol > ${loopDevice(at.path('disk'), 2 * MIB, 7)}`).status, 0);
    assert.ok(at.contents('disk').equals(image));
    saysThatOutputIsFull(at.shell(`volseal read a.vol > ${loopDevice(at.path('small-disk'), MIB, 7)}`));
  });

  test('a file that is appended to', () => {
    const { at, image } = labWithVolume(64 * 1024);
    const outcome = at.shell('volseal read a.vol --length 700 >> out && volseal read a.vol --offset 700 >> out');
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.ok(at.contents('out').equals(image));
  });

  test('a failure that cannot be printed keeps its status', () => {
    const { at } = labWithVolume(4096);
    assert.equal(at.shell('volseal info nowhere.vol 2> /dev/full').status, 4);
    assert.equal(at.shell('volseal info --colour 2> /dev/full').status, 1);
  });

  test('progress that cannot be written does not stop the job: its reader has ended, or its disk is full', () => {
    const { at } = labWithVolume(4096);
    writeFileSync(at.path('large.raw'), '');
    truncateSync(at.path('large.raw'), 256 * MIB);
    const job = 'volseal encrypt large.raw b.vol --force --progress --json';
    for (const line of [
      // The first line is read, so that more lines follow after the reader has ended.
      `{ ${job} 2>&1 >out; echo $? >status; } | head -1`,
      `${job} 2>/dev/full >out; echo $? >status`,
    ]) {
      at.shell(line);
      assert.equal(at.contents('status').toString(), '0\n', line);
      const { volumeId } = parsed(at.contents('out').toString());
      assert.equal(parsed(at.ok(['info', 'b.vol', '--json']).text).volumeId, volumeId);
    }
    assert.deepEqual(at.names(), ['a.raw', 'a.vol', 'b.vol', 'large.raw', 'out', 'status']);
  });
});

describe('standard input', () => {
  test('a directory: status 1, and the volume is as it was', () => {
    const { at, image } = labWithVolume(64 * 1024);
    const before = at.contents('a.vol');
    mkdirSync(at.path('directory'));
    const outcome = at.shell('volseal write a.vol < directory');
    assert.equal(outcome.status, 1);
    assert.equal(outcome.text, '');
    assert.match(outcome.stderr, /^volseal: standard input is a directory: .*\nhint: .*volseal write VOLUME < FILE\n$/);
    assert.ok(at.contents('a.vol').equals(before));
    assert.deepEqual(at.ok(['read', 'a.vol']).stdout, image);
  });

  testUnless(skipWithoutLoop())('a block device is read whole', () => {
    const { at } = labWithVolume(2 * MIB);
    const device = loopDevice(at.path('disk'), 2 * MIB, 7);
    assert.match(at.shell(`volseal write a.vol < ${device}`).text, /^wrote 2097152 bytes/);
    assert.ok(at.ok(['read', 'a.vol']).stdout.equals(at.contents('disk')));
  });

  test('nothing at all, and a file', () => {
    const { at, image } = labWithVolume(64 * 1024);
    assert.match(at.shell('volseal write a.vol < /dev/null').text, /^wrote 0 bytes/);
    assert.match(at.shell('volseal write a.vol < a.raw').text, /^wrote 65536 bytes/);
    assert.deepEqual(at.ok(['read', 'a.vol']).stdout, image);
  });
});
