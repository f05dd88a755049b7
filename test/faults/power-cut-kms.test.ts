/**
 * The power is cut at every flush of the embedded KMS, before it. The store and the log are then combined as the disk
 * may have written them: each as it was flushed last, or as it was written last.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'vitest';
import { verifyAudit } from '../../src/audit/verify.js';
import { administerKms } from '../../src/kms/embedded/administration.js';
import { EmbeddedKms } from '../../src/kms/embedded/service.js';
import { built } from '../built.js';
import { ask, done, temporaryHome } from '../kms/harness.js';
import { describeUnless } from '../requirements.js';
import { runInjected } from './injected.js';
import { LossyDisk, skipPowerCut } from './lossy-disk.js';

const PARTS = ['kms/store.mdb', 'audit/embedded/audit.jsonl'];

interface Answer {
  readonly KeyId: string;
  readonly CiphertextBlob?: string;
}

async function checkHome(home: string, answers: readonly Answer[], said: string): Promise<void> {
  const kms = EmbeddedKms.open(home);
  for (const { KeyId, CiphertextBlob } of answers) {
    assert.equal(ask(kms, 'DescribeKey', { KeyId }).status, 200, said);
    if (CiphertextBlob !== undefined) done(kms, 'Decrypt', { KeyId, CiphertextBlob });
  }
  done(kms, 'CreateKey');
  await kms.close();
  const administration = administerKms(home);
  const directory = join(home, 'audit/embedded');
  const { broken } = await verifyAudit(directory, administration.auditOwner);
  await administration.close();
  assert.equal(broken, undefined, said);
  const log = readFileSync(join(directory, 'audit.jsonl'), 'utf8');
  for (const { KeyId, CiphertextBlob } of answers) {
    if (CiphertextBlob === undefined) assert.ok(log.includes(KeyId), `${said}: the record of ${KeyId} is lost`);
  }
}

describeUnless(skipPowerCut())('a power cut', () => {
  for (const flush of ['fsync', 'fdatasync']) {
    test(`at every ${flush} of the embedded KMS loses nothing that was answered`, async () => {
      const disk = new LossyDisk(24 * 1024 * 1024);
      let cuts = 0;
      for (let when = 1, killed = true; killed; when++) {
        const live = join(disk.path, `home-${when}`);
        const run = runInjected(`${flush}:signal=KILL:when=${when}`, built('test/faults/kms-steps.ts'), [live]);
        killed = run.signal === 'SIGKILL';
        const lines = run.stdout.split('\n').filter((line) => line !== '');
        const answers = lines.map((line) => JSON.parse(line) as Answer);
        await disk.afterPowerCut(async (path) => {
          for (let mask = 0; mask < 2 ** PARTS.length; mask++) {
            const home = combined(join(path, `home-${when}`), live, mask);
            await checkHome(home, answers, `${flush} ${when}, combination ${mask}`);
          }
        });
        rmSync(live, { recursive: true, force: true });
        cuts += killed ? 1 : 0;
      }
      assert.ok(cuts > 5, `only ${cuts} cuts`);
    });
  }
});

/** A home as it was flushed, but with those parts that `mask` names as they were written last. */
function combined(durable: string, live: string, mask: number): string {
  const home = temporaryHome();
  if (existsSync(durable)) cpSync(durable, home, { recursive: true });
  for (const [index, part] of PARTS.entries()) {
    // A name in a directory is there once what was flushed before it is.
    const isPossible = existsSync(join(live, part)) && existsSync(join(home, 'kms/root.key'));
    if ((mask & (1 << index)) !== 0 && isPossible) cpSync(join(live, part), join(home, part));
  }
  rmSync(join(home, 'kms/store.mdb-lock'), { force: true });
  return home;
}
