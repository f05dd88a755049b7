/** Custody of both data keys while a volume is re-encrypted in place. */
import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { onTestFinished, test } from 'vitest';
import { encryptImage, verifyVolume } from '../../src/index.js';
import { built } from '../built.js';
import { testUnless } from '../requirements.js';
import { dataKeyOf, type Sandbox, sandbox } from '../volume/sandbox.js';
import { describeCopies, scanMemory } from './memory-scan.js';
import { requireTool, skipWithout } from './tools.js';

const MIB = 1024 * 1024;
const WITHOUT_SECRET_MEMORY = ['-f', '-qq', '-o', '/dev/null', '-e', 'trace=memfd_secret', '-e', 'inject=memfd_secret:error=ENOSYS'];

interface Paused {
  readonly box: Sandbox;
  readonly volume: string;
  /** Old and new. */
  readonly keys: readonly [Buffer, Buffer];
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  readonly lines: Interface;
}

/** A process in the middle of a new key in place. */
async function paused(): Promise<Paused> {
  const box = sandbox();
  box.image('disk.raw', 6 * MIB);
  const volume = box.path('disk.vol');
  await encryptImage(box.path('disk.raw'), volume, { kms: box.kms });
  const oldKey = await dataKeyOf(volume, box.kms);
  // Without a header of its own, which would know another key than the new one.
  writeFileSync(box.path('copy.vol'), readFileSync(volume).fill(0, 0, MIB));
  const { child, lines } = started([process.execPath, built('test/in-place/in-place-paused.ts'), volume, box.kms]);
  assert.deepEqual(await once(lines, 'line'), ['paused']);
  // The journal has the new header behind the old one.
  writeFileSync(box.path('new.header'), readFileSync(box.path('.disk.vol.in-place')).subarray(MIB, 2 * MIB));
  const newKey = await dataKeyOf(box.path('copy.vol'), box.kms, box.path('new.header'));
  return { box, volume, keys: [oldKey, newKey], child, lines };
}

function started([program, ...args]: readonly string[]) {
  const child = spawn(program!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  return { child, lines: createInterface({ input: child.stdout }) };
}

/** Nothing in ordinary memory. @returns which of the keys are in locked memory that can be read */
function custodyOf(pid: number, keys: readonly Buffer[]): number[] {
  const { outside, locked, scannedBytes } = scanMemory(pid, [...keys]);
  assert.equal(describeCopies(outside), '');
  assert.ok(scannedBytes > 20_000_000, `only ${scannedBytes} bytes were scanned`);
  return [...new Set(locked.map(({ keyIndex }) => keyIndex))].sort();
}

test('old and new key are nowhere in memory but in the vault', async () => {
  const { box, volume, keys, child, lines } = await paused();
  custodyOf(child.pid!, keys);
  child.stdin.write('\n');
  assert.deepEqual(await once(lines, 'line'), ['done']);
  await verifyVolume(volume, { kms: box.kms, against: box.path('disk.raw') });
  assert.ok((await dataKeyOf(volume, box.kms)).equals(keys[1]));
});

/** Reads and writes a volume in the middle, and detaches it. @param lockedKeys those that are seen while it does */
async function attachedInTheMiddle(wrapper: readonly string[], lockedKeys: readonly number[]): Promise<void> {
  const { box, volume, keys, child: job } = await paused();
  job.kill('SIGKILL');
  await once(job, 'close');
  const { child, lines } = started([...wrapper, process.execPath, built('test/interop/attached-process.ts'), volume, box.kms]);
  const [said] = (await once(lines, 'line')) as [string];
  const pid = Number(said);
  onTestFinished(() => {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended with its wrapper.
    }
  });
  for (let round = 0; round < 3; round++) assert.deepEqual(custodyOf(pid, keys), lockedKeys);
  child.stdin.write('detach\n');
  assert.deepEqual(await once(lines, 'line'), ['detached']);
  assert.deepEqual(custodyOf(pid, keys), []);
}

test('attached in the middle, old and new key are in the vault only, and gone after that', () => attachedInTheMiddle([], []));

testUnless(skipWithout('strace'))('the same without memfd_secret: both are in locked memory only', () =>
  attachedInTheMiddle([requireTool('strace'), ...WITHOUT_SECRET_MEMORY], [0, 1]),
);
