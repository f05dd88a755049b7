/**
 * The KMS encryption context: what a wrapped data key is bound to.
 *
 * KMS authenticates the context together with the key, so the same pairs must be given to unwrap as were given to wrap.
 * Order does not matter, case does. (AWS KMS Developer Guide, "Encryption context".)
 */
import { WORKSPACE_USER_CONTEXT_KEY } from '../../context-keys.js';
import { VolsealError } from '../../errors.js';
import { ENCRYPTION_CONTEXT_BYTES_MAX } from '../../limits.js';

/** Pairs of an encryption context. They are not secret: KMS logs them. */
export type EncryptionContext = Readonly<Record<string, string>>;

/** The pair that names the user of a WorkSpace, as WorkSpaces writes it. Every volume has `aws:ebs:id` as well. */
export function workspaceContext(user: { sid: string; directoryId: string }): EncryptionContext {
  return { [WORKSPACE_USER_CONTEXT_KEY]: `[${user.sid}]@[${user.directoryId}]` };
}

/**
 * Checks that `value` is an encryption context: an object of string pairs, no key empty, all of it encodable as UTF-8
 * (a lone surrogate would read as U+FFFD, and two contexts would be one), at most `bytesMax` bytes together.
 *
 * @param keys `distinct` also refuses two keys that differ only in case: policies and grant constraints compare keys
 * without case, so such a context is nearly always a mistake. KMS itself takes it (`case-sensitive`).
 * @throws {VolsealError} `ERR_ARGUMENT` that names the pair.
 */
export function checkContext(
  value: unknown,
  bytesMax: number = ENCRYPTION_CONTEXT_BYTES_MAX,
  keys: 'distinct' | 'case-sensitive' = 'distinct',
): EncryptionContext {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new VolsealError('ERR_ARGUMENT', 'an encryption context is an object of string pairs');
  }
  const pairs = Object.entries(value as Record<string, unknown>);
  // First, because the checks below cost more than the count.
  const byteCount = pairs.reduce(
    (sum, [key, text]) => sum + Buffer.byteLength(key) + (typeof text === 'string' ? Buffer.byteLength(text) : 0),
    0,
  );
  if (byteCount > bytesMax) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `the encryption context has ${byteCount} bytes in its keys and values; at most ${bytesMax} are allowed`,
    );
  }
  const seen = new Set<string>();
  for (const [key, text] of pairs) {
    const named = `encryption context key ${JSON.stringify(key)}`;
    const folded = keys === 'distinct' ? key.toLowerCase() : key;
    if (key === '' || seen.has(folded)) throw new VolsealError('ERR_ARGUMENT', `${named} is empty or repeats another in other case`);
    if (typeof text !== 'string') throw new VolsealError('ERR_ARGUMENT', `${named} has a value that is not a string`);
    if (LONE_SURROGATE.test(key) || LONE_SURROGATE.test(text))
      throw new VolsealError('ERR_ARGUMENT', `${named}: the pair is not well-formed Unicode`);
    seen.add(folded);
  }
  return value as EncryptionContext;
}

/**
 * With the u flag a surrogate that belongs to a pair is part of a character, so this matches only those that stand
 * alone.
 */
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * The context as bytes, for use as additional authenticated data.
 *
 * Pairs are sorted by key (as UTF-8), and every string carries its length, so that two different contexts never share
 * an encoding: {"a":"bc"} and {"ab":"c"} differ.
 *
 * @returns 4 bytes of pair count, then for each pair: 4-byte length, key, 4-byte length, value; big-endian.
 * @throws {VolsealError} `ERR_ARGUMENT` as `checkContext`, whatever the size.
 */
export function canonicalBytes(context: EncryptionContext): Buffer {
  const pairs = Object.entries(checkContext(context, Number.POSITIVE_INFINITY, 'case-sensitive'))
    .map(([key, value]) => [Buffer.from(key), Buffer.from(value)] as const)
    .sort(([a], [b]) => Buffer.compare(a, b));
  return Buffer.concat([lengthOf(pairs.length), ...pairs.flatMap(([key, value]) => [framed(key), framed(value)])]);
}

/** The context as messages show it: JSON, pairs in the order of their keys. */
export function describeContext(context: EncryptionContext): string {
  const pairs = Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`;
}

const framed = (bytes: Buffer): Buffer => Buffer.concat([lengthOf(bytes.length), bytes]);

function lengthOf(count: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(count);
  return bytes;
}
