/**
 * Custody of what a recovery key touches: data key, slot keys and the texts themselves, searched in the memory of a
 * process that uses them.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { pbkdf2Sync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { onTestFinished, test } from 'vitest';
import { addRecoveryKey, createVolume, readHeaderText } from '../../src/index.js';
import { built } from '../built.js';
import { testUnless } from '../requirements.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { describeCopies, scanMemory } from './memory-scan.js';
import { requireTool, skipWithout } from './tools.js';

const PROCESS = built('test/interop/recovery-process.ts');
const WITHOUT_SECRET_MEMORY = ['-f', '-qq', '-o', '/dev/null', '-e', 'trace=memfd_secret', '-e', 'inject=memfd_secret:error=ENOSYS'];

interface Kdf {
  iterations: number;
  salt: string;
}

/** The keys of the areas, as PBKDF2 makes them of the texts. */
async function slotKeys(volume: string, texts: readonly Buffer[]): Promise<Buffer[]> {
  const { keyslots } = (await readHeaderText(volume)).metadata as { keyslots: Record<string, { kdf: Kdf }> };
  return texts.map((text, index) => {
    const { salt, iterations } = keyslots[String(index)]!.kdf;
    return pbkdf2Sync(text, Buffer.from(salt, 'base64'), iterations, 64, 'sha512');
  });
}

async function checkCustody(wrapper: readonly string[], isReadable: boolean): Promise<void> {
  const box = sandbox();
  const [volume, first, second] = [box.path('a.vol'), box.path('first.key'), box.path('second.key')];
  await createVolume(volume, { sizeBytes: 8 * 1024 * 1024, kms: box.kms });
  await addRecoveryKey(volume, first, { kms: box.kms });
  const [program, ...args] = [...wrapper, process.execPath, PROCESS, volume, first, second];
  const child = spawn(program!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout });
  const [said] = (await once(lines, 'line')) as [string];
  const pid = Number(said);
  assert.ok(pid > 1, said);
  onTestFinished(() => {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended with its wrapper.
    }
  });
  const texts = [first, second].map((path) => readFileSync(path));
  // Of a text the first 64 bytes are searched: the length of a key.
  const keys = [await dataKeyOf(volume, box.kms), ...(await slotKeys(volume, texts)), ...texts.map((text) => text.subarray(0, 64))];
  const attached = scanMemory(pid, keys);
  assert.equal(describeCopies(attached.outside), '');
  assert.ok(attached.scannedBytes > 20_000_000, `only ${attached.scannedBytes} bytes were scanned`);
  // The data key is in use; slot keys and texts are not any more.
  if (isReadable) assert.deepEqual([...new Set(attached.locked.map(({ keyIndex }) => keyIndex))], [0]);
  child.stdin.write('detach\n');
  assert.equal(((await once(lines, 'line')) as [string])[0], 'detached');
  const detached = scanMemory(pid, keys);
  assert.equal(describeCopies([...detached.outside, ...detached.locked]), '');
}

test('a recovery key is used: no copy of data key, slot keys and texts', () => checkCustody([], false));

testUnless(skipWithout('strace'))('the same without memfd_secret: the data key is in locked memory only', () =>
  checkCustody([requireTool('strace'), ...WITHOUT_SECRET_MEMORY], true),
);
