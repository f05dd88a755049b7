/** Detects that a source was changed while it was read: the result would be neither its old state nor its new one. */
import { VolsealError } from '../errors.js';
import type { NamedFile } from '../output/named-file.js';
import type { ImageSource } from '../stores/store.js';

/**
 * Which file the source is, and in which state. A block device does not tell when it was written to: its numbers are
 * "".
 */
export interface SourceIdentity {
  readonly kind: 'file' | 'device';
  /** Not the device's number: a shared file system has another one on each machine. */
  readonly ino: string;
  /** Numbers as text: nanoseconds exceed 2^53. */
  readonly sizeBytes: string;
  /**
   * When its contents were written. Not ctime: a new link, name, owner or mode changes that too, and the contents stay.
   */
  readonly mtimeNs: string;
}

/** @param sizeBytes of the file or device @throws {VolsealError} `ERR_IO` */
export async function identifySource(file: NamedFile, sizeBytes: number): Promise<SourceIdentity> {
  const found = await file.stat();
  if (!found.isFile()) return { kind: 'device', ino: '', sizeBytes: String(sizeBytes), mtimeNs: '' };
  const { ino, size, mtimeNs } = found;
  return { kind: 'file', ino: `${ino}`, sizeBytes: `${size}`, mtimeNs: `${mtimeNs}` };
}

/** The same of an object or a snapshot: a state that the store has a name for. */
export interface StoredIdentity {
  readonly kind: 'stored';
  readonly sizeBytes: number;
  readonly state: string;
}

/** What a later run must find again of a source. */
export type RecordedSource = SourceIdentity | StoredIdentity;

/** @param file undefined for what is in a store @throws {VolsealError} `ERR_IO` */
export async function recordedSource(
  file: NamedFile | undefined,
  { sizeBytes, state = '' }: Pick<ImageSource, 'sizeBytes' | 'state'>,
): Promise<RecordedSource> {
  return file === undefined ? { kind: 'stored', sizeBytes, state } : await identifySource(file, sizeBytes);
}

/** What has changed, in words; undefined where nothing has. */
export function sourceDifference(before: RecordedSource, now: RecordedSource): string | undefined {
  if (before.kind !== 'stored' && now.kind !== 'stored') return differenceOf(before, now);
  if (before.kind !== 'stored' || now.kind !== 'stored') return 'one is in a store, the other is not';
  if (before.sizeBytes !== now.sizeBytes) return `it had ${before.sizeBytes} bytes and has ${now.sizeBytes}`;
  return before.state === now.state ? undefined : 'it is another object, another version of it or another snapshot';
}

/** The same of files and devices. */
export function differenceOf(before: SourceIdentity, now: SourceIdentity): string | undefined {
  if (before.kind !== now.kind || before.ino !== now.ino) return 'it is another file';
  if (before.sizeBytes !== now.sizeBytes) return `it had ${before.sizeBytes} bytes and has ${now.sizeBytes}`;
  if (before.mtimeNs !== now.mtimeNs) return `it was written to (${timeOf(now.mtimeNs)})`;
  return undefined;
}

const timeOf = (ns: string): string => new Date(Number(BigInt(ns) / 1_000_000n)).toISOString();

/**
 * Runs `work`, which reads `file`. Where that is a regular file, it must be the same afterwards.
 * @param file undefined for what is in a store, whose requests name the state that they read
 * @param sizeBytes of the file, as `work` takes it to be
 * @throws {VolsealError} `ERR_SOURCE_CHANGED`, also instead of an `ERR_IO` of `work` that the change caused; whatever
 * else `work` throws; `ERR_IO`
 */
export async function whileUnchanged<T>(file: NamedFile | undefined, sizeBytes: number, work: () => Promise<T>): Promise<T> {
  if (file === undefined) return await work();
  const { path } = file;
  const before = { ...(await identifySource(file, sizeBytes)), sizeBytes: `${sizeBytes}` };
  const check = async (cause?: unknown): Promise<void> => {
    const difference = differenceOf(before, await identifySource(file, sizeBytes));
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
