/** The embedded KMS on a disk that is full or fails: no call ends the process, and the audit log says what happened. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'vitest';
import { readAudit } from '../../src/audit/read.js';
import { verifyAudit } from '../../src/audit/verify.js';
import { administerKms } from '../../src/kms/embedded/administration.js';
import { built } from '../built.js';
import { failureOf, lab } from '../cli/program.js';
import { done, openEmbedded, temporaryHome } from '../kms/harness.js';
import { skipWithoutMount, smallDisk } from '../mount.js';
import { describeUnless, testUnless } from '../requirements.js';
import { runInjected, skipInjection } from './injected.js';
import { LossyDisk, skipPowerCut } from './lossy-disk.js';

const MIB = 1024 * 1024;

/** The keys that the log says were made are those that there are. */
async function checkLog(home: string): Promise<void> {
  const directory = join(home, 'audit/embedded');
  const administration = administerKms(home);
  assert.equal((await verifyAudit(directory, administration.auditOwner)).broken, undefined);
  await administration.close();
  const kms = openEmbedded(home);
  const keyIds = new Set<string>(done(kms, 'ListKeys', { Limit: 1000 }).Keys.map(({ KeyId }: { KeyId: string }) => KeyId));
  const recorded = new Set<string>();
  for await (const { eventName, errorCode, responseElements } of readAudit([directory], {})) {
    if (eventName !== 'CreateKey' || errorCode !== undefined) continue;
    recorded.add((responseElements as { keyMetadata: { keyId: string } }).keyMetadata.keyId);
  }
  assert.deepEqual(recorded, keyIds);
}

describeUnless(skipPowerCut())('a disk of 4 MB that is full', () => {
  test('is an error that says so, each time, until there is room', async () => {
    for (let round = 0; round < 4; round++) {
      const disk = new LossyDisk(4 * 1024 * 1024);
      const home = join(disk.path, 'home');
      const filler = join(disk.path, 'filler');
      writeFileSync(filler, Buffer.alloc(round * 300_000));
      const { status, signal, stdout, stderr } = spawnSync(process.execPath, [built('test/faults/kms-fill.ts'), home], {
        encoding: 'utf8',
      });
      assert.deepEqual([status, signal], [0, null], stderr);
      for (const line of stdout.trim().split('\n')) assert.match(line, /^ERR_(IO|AUDIT) ENOSPC$/);
      rmSync(filler);
      // Enough for a few records, even where the filler was empty.
      rmSync(join(disk.path, 'lost+found'), { recursive: true });
      await checkLog(home).catch((error: { code?: string; details?: { errno?: string } }) => {
        if (round > 0 || error.details?.errno !== 'ENOSPC') throw error;
      });
    }
  });
});

testUnless(skipInjection())('EIO at each flush of the store: the log shows the keys that were made, and no other', async () => {
  for (let when = 3; when < 12; when += 2) {
    const home = temporaryHome();
    const store = join(home, 'kms/store.mdb');
    runInjected(`fdatasync,fsync:error=EIO:when=${when}`, built('test/faults/kms-steps.ts'), [home], store);
    await checkLog(home);
  }
});

testUnless(skipWithoutMount())('a backup into a disk that is full: the target is named, and nothing is left there', () => {
  const at = lab();
  at.ok(['kms', 'create-key']);
  const small = at.path('small');
  smallDisk(small, 4 * MIB);
  const filler = join(small, 'filler');
  // What fails is the directory, LMDB's copy, the file of its lock, and the room in the copy.
  const codes = [0, 12, 40, 120, 300].map((kib) => {
    writeFileSync(filler, Buffer.alloc(0));
    assert.throws(() => writeFileSync(filler, Buffer.alloc(5 * MIB)), /ENOSPC/);
    truncateSync(filler, statSync(filler).size - kib * 1024);
    const { code, message, details, hint } = failureOf(at.run(['kms', 'backup', 'small/copy', '--json']));
    assert.deepEqual([code, details.errno, details.path], ['ERR_IO', 'ENOSPC', join(small, 'copy')], message);
    assert.ok(message.startsWith(`${join(small, 'copy')}: `), message);
    assert.ok(!message.includes('/proc/'), message);
    assert.match(hint ?? '', /^Free some space/);
    assert.deepEqual(readdirSync(small).sort(), ['filler']);
    return message;
  });
  assert.match(codes.join('\n'), /copying the store of the embedded KMS failed: No space left on device/);
  rmSync(filler);
  at.ok(['kms', 'backup', 'small/copy']);
});

test('a backup whose draft has too long a name: the target is named, not the number of its directory', () => {
  const at = lab();
  at.ok(['kms', 'create-key']);
  const { message, details } = failureOf(at.run(['kms', 'backup', 'n'.repeat(250), '--json']));
  assert.deepEqual([details.errno, details.path], ['ENAMETOOLONG', at.path('n'.repeat(250))]);
  assert.ok(!message.includes('/proc/'), message);
});
