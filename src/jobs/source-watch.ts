/** A source that somebody changes while it is read: what came of it would be neither its old state nor its new one. */
import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { namingPath, VolsealError } from '../errors.js';

/** Which file it is, and in which state. A block device tells nothing of when it was written to. */
export interface SourceIdentity {
  readonly kind: 'file' | 'device';
  /** Numbers as text: inode numbers and nanoseconds are too large for JSON's. Those of a device are "". */
  readonly dev: string;
  readonly ino: string;
  readonly sizeBytes: string;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
}

/** @param sizeBytes of the file or device @throws {VolsealError} `ERR_IO` */
export async function identifySource(file: FileHandle, path: string, sizeBytes: number): Promise<SourceIdentity> {
  const found = await namingPath(path, () => file.stat({ bigint: true }));
  return found.isFile() ? identityOf(found) : { kind: 'device', dev: '', ino: '', sizeBytes: String(sizeBytes), mtimeNs: '', ctimeNs: '' };
}

function identityOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): SourceIdentity {
  return { kind: 'file', dev: `${dev}`, ino: `${ino}`, sizeBytes: `${size}`, mtimeNs: `${mtimeNs}`, ctimeNs: `${ctimeNs}` };
}

/** In words, what is not as it was; undefined where all is. */
export function differenceOf(before: SourceIdentity, now: SourceIdentity): string | undefined {
  if (before.kind !== now.kind || before.dev !== now.dev || before.ino !== now.ino) return 'it is another file';
  if (before.sizeBytes !== now.sizeBytes) return `it had ${before.sizeBytes} bytes and has ${now.sizeBytes}`;
  if (before.mtimeNs !== now.mtimeNs) return `it was written to (${timeOf(now.mtimeNs)})`;
  if (before.ctimeNs !== now.ctimeNs) return `it was written to, or its name, owner or mode was changed (${timeOf(now.ctimeNs)})`;
  return undefined;
}

const timeOf = (ns: string): string => new Date(Number(BigInt(ns) / 1_000_000n)).toISOString();

/**
 * Runs `work`, which reads `file`. Where that is a regular file, it must be the same afterwards.
 * @param sizeBytes of the file, as `work` takes it to be
 * @throws {VolsealError} `ERR_SOURCE_CHANGED`, also in place of what `work` throws because of it; whatever else `work` throws; `ERR_IO`
 */
export async function whileUnchanged<T>(file: FileHandle, path: string, sizeBytes: number, work: () => Promise<T>): Promise<T> {
  const before = { ...(await identifySource(file, path, sizeBytes)), sizeBytes: `${sizeBytes}` };
  const check = async (cause?: unknown): Promise<void> => {
    const difference = differenceOf(before, await identifySource(file, path, sizeBytes));
    if (difference === undefined) return;
    throw new VolsealError('ERR_SOURCE_CHANGED', `${path}: was changed while it was read: ${difference}`, { cause, details: { path } });
  };
  await check();
  const result = await work().catch(async (error) => {
    if (error instanceof VolsealError && error.code === 'ERR_IO') await check(error);
    throw error;
  });
  await check();
  return result;
}
