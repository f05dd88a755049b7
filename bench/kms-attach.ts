/**
 * Where the time of an attach goes: its parts one by one, and a whole one in a pool that runs and in one that starts.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { attach, createVolume } from '../src/index.js';
import { openKms } from '../src/kms/client/calls.js';
import { verifyHeader } from '../src/luks2/header-mac.js';
import { readHeader } from '../src/luks2/store.js';
import { findToken } from '../src/luks2/token.js';
import { native } from '../src/native.js';
import { leasePool } from '../src/workers/pool.js';
import type { KmsPlan } from './kms-operations.js';
import { type PartMeasurement, spreadOf } from './kms-report.js';

/** @param directory for a volume and its KMS */
export async function measureAttach(directory: string, { attachRounds }: KmsPlan): Promise<PartMeasurement[]> {
  const home = join(directory, 'home');
  const path = join(directory, 'a.vol');
  const kms = `embedded:${home}`;
  await createVolume(path, { sizeBytes: 1024 * 1024, kms });
  const samples = new Map<string, number[]>();
  const timed = async <Result>(part: string, work: () => Promise<Result> | Result): Promise<Result> => {
    const start = process.hrtime.bigint();
    const result = await work();
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    samples.set(part, [...(samples.get(part) ?? []), seconds]);
    return result;
  };
  for (let round = 0; round < attachRounds; round++) {
    await timed('whole, the pool starts with it (its thread loads the AWS SDK)', async () => (await attach(path, { kms })).detach());
    const pool = leasePool();
    await (await attach(path, { kms })).detach();
    await timed('whole, in a pool that runs', async () => (await attach(path, { kms })).detach());
    await pool.release();
    const file = await open(path, 'r');
    const found = await timed('header: read and check', () => readHeader(file, path));
    await file.close();
    const { keyId: keyArn, encryptedDataKey, encryptionContext: context } = findToken(found.header.metadata, path);
    const client = openKms({ kind: 'embedded', home, create: true });
    await timed('KMS: open the store and the client', () => client.describeKey({ keyId: keyArn }));
    const key = await timed('KMS: Decrypt, recorded in the audit log', () => client.unwrapKey({ keyArn, encryptedDataKey, context }));
    await timed('key: digest and header MAC', () => verifyHeader(key, found.header, path));
    await timed('key: round keys', () => native.xtsPrepare(key));
    native.keyWipe(key);
    client.close();
  }
  return [...samples].map(([part, seconds]) => ({ part, seconds: spreadOf(seconds) }));
}
