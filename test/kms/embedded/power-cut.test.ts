/**
 * What a power cut can leave of the embedded KMS: any state of the store that was committed, with any length of the log
 * from what was flushed by then to all that was written, and zeros where the file system has lengthened the log and not
 * yet written it. No order of writing is assumed. (test/faults/power-cut-kms.test.ts cuts the power of a real file
 * system.)
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { verifyAudit } from '../../../src/audit/verify.js';
import { VolsealError } from '../../../src/errors.js';
import { administerKms } from '../../../src/kms/embedded/administration.js';
import { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { ask, done, temporaryHome } from '../harness.js';

const STORE = 'kms/store.mdb';
const LOG = 'audit/embedded/audit.jsonl';

interface Moment {
  readonly store: Buffer;
  /** What was answered until then. */
  readonly keyIds: readonly string[];
}

/** Changes and uses of a KMS, and what lay in its store after each. */
async function history(): Promise<{ home: string; moments: Moment[]; log: Buffer }> {
  const home = temporaryHome();
  const kms = EmbeddedKms.open(home);
  const keyIds: string[] = [];
  const moments: Moment[] = [];
  const steps = [
    () => keyIds.push(done(kms, 'CreateKey').KeyMetadata.KeyId),
    () => done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId: keyIds[0], NumberOfBytes: 64 }),
    () => done(kms, 'DescribeKey', { KeyId: keyIds[0] }),
    () => keyIds.push(done(kms, 'CreateKey').KeyMetadata.KeyId),
    () => keyIds.push(done(kms, 'CreateKey').KeyMetadata.KeyId),
    () => assert.equal(ask(kms, 'DescribeKey', { KeyId: 'alias/none' }).status, 400),
  ];
  for (const step of steps) {
    step();
    moments.push({ store: readFileSync(join(home, STORE)), keyIds: [...keyIds] });
  }
  const log = readFileSync(join(home, LOG));
  await kms.close();
  moments.push({ store: readFileSync(join(home, STORE)), keyIds });
  return { home, moments, log };
}

/** A home with these files, as the next start finds it. */
function homeAfterCut(rootKey: string, store: Buffer, log: Buffer | undefined): string {
  const home = temporaryHome();
  for (const directory of ['kms', 'audit', 'audit/embedded']) mkdirSync(join(home, directory), { mode: 0o700 });
  copyFileSync(rootKey, join(home, 'kms/root.key'));
  writeFileSync(join(home, STORE), store, { mode: 0o600 });
  if (log !== undefined) writeFileSync(join(home, LOG), log, { mode: 0o600 });
  return home;
}

/** The shortest log that the store in `home` can have left. */
async function durableBytes(home: string): Promise<number> {
  const administration = administerKms(home);
  const { bytes = 0, line } = administration.auditOwner.state.read() ?? {};
  await administration.close();
  return line === undefined ? bytes : bytes - Buffer.byteLength(line) - 1;
}

async function proved(home: string): Promise<string | undefined> {
  const administration = administerKms(home);
  try {
    return (await verifyAudit(join(home, 'audit/embedded'), administration.auditOwner)).broken?.problem;
  } finally {
    await administration.close();
  }
}

describe('after a power cut', () => {
  test('the KMS opens with all that was answered, and its log is whole; a log cut further is refused', async () => {
    const { home, moments, log } = await history();
    const rootKey = join(home, 'kms/root.key');
    const ends = [...log.toString('latin1').matchAll(/\n/g)].map(({ index }) => index + 1);
    let cuts = 0;
    for (const [index, { store, keyIds }] of moments.entries()) {
      const least = await durableBytes(homeAfterCut(rootKey, store, log));
      // In the middle of the first record that may be lost, and after each.
      const lengths = [least, least + 700, ...ends].filter((bytes) => bytes >= least && bytes <= log.length);
      for (const bytes of new Set(lengths)) {
        for (const zeros of ends.includes(bytes) ? [0] : [0, 4096]) {
          const after = homeAfterCut(rootKey, store, Buffer.concat([log.subarray(0, bytes), Buffer.alloc(zeros)]));
          const said = `moment ${index}, ${bytes} of ${log.length} bytes, ${zeros} zeros`;
          assert.equal(await proved(after), undefined, said);
          const kms = EmbeddedKms.open(after);
          for (const KeyId of keyIds) assert.equal(ask(kms, 'DescribeKey', { KeyId }).status, 200, said);
          done(kms, 'CreateKey');
          await kms.close();
          assert.equal(await proved(after), undefined, said);
          const kept = readFileSync(join(after, LOG), 'utf8');
          for (const keyId of keyIds) assert.ok(kept.includes(`"keyId":"${keyId}"`), `${said}: the record of ${keyId} is lost`);
          cuts += 1;
        }
      }
      if (least === 0) continue;
      for (const bytes of [least - 1, 0, undefined]) {
        const cut = homeAfterCut(rootKey, store, bytes === undefined ? undefined : log.subarray(0, bytes));
        assert.match((await proved(cut)) ?? '', /missing/);
        const kms = EmbeddedKms.open(cut);
        assert.throws(
          () => ask(kms, 'CreateKey'),
          (error) => error instanceof VolsealError && error.code === 'ERR_AUDIT',
        );
        await kms.close();
      }
    }
    assert.ok(cuts > 30, `only ${cuts} cuts`);
  });

  test('a changed record is noticed, also in the last one that was flushed', async () => {
    const { home, moments, log } = await history();
    const { store } = moments.at(-1)!;
    for (const at of [100, log.length - 100]) {
      const changed = Buffer.from(log);
      changed[at]! ^= 1;
      assert.notEqual(await proved(homeAfterCut(join(home, 'kms/root.key'), store, changed)), undefined);
    }
  });
});
