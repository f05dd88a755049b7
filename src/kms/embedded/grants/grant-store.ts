/**
 * The grants in the store: their records, and the indices that make each question cost the same with 1 grant on a key
 * and with 50,000.
 *
 * | record                               | value    | answers                                                     |
 * |--------------------------------------|----------|-------------------------------------------------------------|
 * | `grant/KEY/GRANT`                    | the grant| which grants are on a key                                   |
 * | `grant-count/KEY`                    | number   | how many                                                    |
 * | `grant-of/hash(KEY, GRANTEE)/GRANT`  | 1        | which of them a principal has                               |
 * | `grant-by/hash(RETIRING)/KEY/GRANT`  | 1        | which a principal may retire                                |
 * | `grant-as/hash(all members)`         | grant id | whether the same one, name included, was made before        |
 * | `grant-use/hash(KEY, GRANTEE, OPERATION, bucket)/GRANT` | 1 | which ones may permit an operation in a context |
 * | `grant-bucket/hash(KEY, GRANTEE, bucket)` | number | how full a bucket is                                       |
 *
 * A service receives the same grants from thousands of users; only their constraints differ. So each grant lies in a
 * bucket that a request can compute from its context: an unconstrained grant in a bucket for all of these; a grant with
 * `EncryptionContextEquals` in the bucket of the whole context; a grant with `EncryptionContextSubset` in the bucket of
 * one of its pairs, the one with the fewest grants so far. A request looks into the bucket of each of its pairs.
 */
import { createHash } from 'node:crypto';
import type { Records } from '../../../lmdb/records.js';
import { canonicalBytes, type EncryptionContext } from '../../shared/encryption-context.js';
import { type GrantConstraint, type GrantRecord, grantRecord } from '../store/records.js';

/**
 * Operations whose requests have no encryption context: a constraint does not apply to them. (KMS Developer Guide,
 * "Using grant constraints".)
 */
const WITHOUT_CONTEXT: ReadonlySet<string> = new Set(['DescribeKey', 'RetireGrant']);
const UNCONSTRAINED = 'any';

const hash = (...parts: readonly string[]): string =>
  createHash('sha256').update(JSON.stringify(parts)).digest().subarray(0, 16).toString('base64url');

/** Keys of constraints compare without case, so a bucket's name folds them. */
const pairBucket = (key: string, value: string): string => `pair ${hash(key.toLowerCase(), value)}`;
function wholeBucket(context: EncryptionContext): string {
  const folded = new Map<string, string>();
  const pairs = Object.entries(context).map(([key, value]) => [key.toLowerCase(), value] as const);
  for (const [key, value] of pairs.sort(([a, x], [b, y]) => (a < b || (a === b && x < y) ? -1 : 1))) {
    const known = folded.get(key);
    folded.set(key, known === undefined || known === value ? value : `${known}\0${value}`);
  }
  return `whole ${createHash('sha256')
    .update(canonicalBytes(Object.fromEntries(folded)))
    .digest('base64url')}`;
}

/** A constraint's pairs as a context. */
export const contextOf = ({ pairs }: GrantConstraint): EncryptionContext => Object.fromEntries(pairs);

export interface GrantStore {
  grant(keyId: string, grantId: string): GrantRecord | undefined;
  /** Adds a new grant. */
  addGrant(grant: Omit<GrantRecord, 'bucket'>): void;
  removeGrant(grant: GrantRecord): void;
  /**
   * Up to `limit` grants of a key in the order of their ids, from the one after `afterGrantId`; those of one grantee,
   * if it is named.
   */
  grants(keyId: string, limit: number, afterGrantId?: string, granteePrincipal?: string): GrantRecord[];
  grantCount(keyId: string): number;
  /**
   * Up to `limit` grants that name this retiring principal, ordered by key and grant, from the one after `after`,
   * "KEY/GRANT".
   */
  grantsRetirableBy(retiringPrincipal: string, limit: number, after?: string): GrantRecord[];
  /** The existing grant with the same name and the same other members; undefined for a request without a name. */
  grantSameAs(grant: GrantRequest): GrantRecord | undefined;
  /**
   * Grants of `granteePrincipal` that name `operation` and whose constraint may fit this context; the caller checks it.
   */
  grantsFor(keyId: string, granteePrincipal: string, operation: string, context: EncryptionContext): Iterable<GrantRecord>;
}

/** A requested grant: it has no id yet. */
export type GrantRequest = Omit<GrantRecord, 'grantId' | 'createdAtSeconds' | 'bucket'>;

/** The grants in `records`. Additions and removals must run inside the caller's transaction. */
export function grantStore(records: Records): GrantStore {
  const recordKey = (keyId: string, grantId: string): string => `grant/${keyId}/${grantId}`;
  const ofGrantee = (keyId: string, grantee: string): string => `grant-of/${hash(keyId, grantee)}/`;
  const byRetiring = (retiring: string): string => `grant-by/${hash(retiring)}/`;
  const sameAs = (grant: GrantRequest): string => `grant-as/${hash(...identityOf(grant))}`;
  const useOf = (keyId: string, grantee: string, operation: string, bucket: string): string =>
    `grant-use/${hash(keyId, grantee, operation, bucket)}/`;
  const fill = ({ keyId, granteePrincipal }: Pick<GrantRecord, 'keyId' | 'granteePrincipal'>, bucket: string): string =>
    `grant-bucket/${hash(keyId, granteePrincipal, bucket)}`;

  const grant = (keyId: string, grantId: string): GrantRecord | undefined => records.read(recordKey(keyId, grantId), grantRecord);
  const required = (keyId: string, grantId: string): GrantRecord => records.required(recordKey(keyId, grantId), grantRecord);
  const number = (key: string): number => (records.get(key) as number | undefined) ?? 0;
  const add = (key: string, change: number): void => {
    const sum = number(key) + change;
    if (sum === 0) records.remove(key);
    else records.put(key, sum);
  };
  const usesOf = (record: GrantRecord): string[] =>
    record.operations.map((operation) =>
      useOf(record.keyId, record.granteePrincipal, operation, WITHOUT_CONTEXT.has(operation) ? UNCONSTRAINED : record.bucket),
    );

  function bucketFor(request: Omit<GrantRecord, 'bucket'>): string {
    const { constraint } = request;
    if (constraint === undefined || constraint.pairs.length === 0) return constraint?.kind === 'equals' ? wholeBucket({}) : UNCONSTRAINED;
    if (constraint.kind === 'equals') return wholeBucket(contextOf(constraint));
    const buckets = constraint.pairs.map(([key, value]) => pairBucket(key, value));
    return buckets.reduce((best, bucket) => (number(fill(request, bucket)) < number(fill(request, best)) ? bucket : best));
  }

  return {
    grant,
    addGrant(request) {
      const record: GrantRecord = { ...request, bucket: bucketFor(request) };
      const { keyId, grantId, granteePrincipal, retiringPrincipal } = record;
      records.put(recordKey(keyId, grantId), record);
      add(`grant-count/${keyId}`, 1);
      add(fill(record, record.bucket), 1);
      records.put(ofGrantee(keyId, granteePrincipal) + grantId, 1);
      if (retiringPrincipal !== undefined) records.put(`${byRetiring(retiringPrincipal)}${keyId}/${grantId}`, 1);
      if (record.name !== undefined) records.put(sameAs(record), grantId);
      for (const use of usesOf(record)) records.put(use + grantId, 1);
    },
    removeGrant(record) {
      const { keyId, grantId, granteePrincipal, retiringPrincipal } = record;
      records.remove(recordKey(keyId, grantId));
      add(`grant-count/${keyId}`, -1);
      add(fill(record, record.bucket), -1);
      records.remove(ofGrantee(keyId, granteePrincipal) + grantId);
      if (retiringPrincipal !== undefined) records.remove(`${byRetiring(retiringPrincipal)}${keyId}/${grantId}`);
      if (record.name !== undefined) records.remove(sameAs(record));
      for (const use of usesOf(record)) records.remove(use + grantId);
    },
    grants(keyId, limit, afterGrantId = '', granteePrincipal) {
      if (granteePrincipal === undefined) {
        const prefix = recordKey(keyId, '');
        return records.range(prefix, afterGrantId, limit).map((key) => required(keyId, key.slice(prefix.length)));
      }
      const prefix = ofGrantee(keyId, granteePrincipal);
      return records.range(prefix, afterGrantId, limit).map((key) => required(keyId, key.slice(prefix.length)));
    },
    grantCount: (keyId) => number(`grant-count/${keyId}`),
    grantsRetirableBy(retiringPrincipal, limit, after = '') {
      const prefix = byRetiring(retiringPrincipal);
      return records.range(prefix, after, limit).map((key) => {
        const [keyId = '', grantId = ''] = key.slice(prefix.length).split('/');
        return required(keyId, grantId);
      });
    },
    grantSameAs(request) {
      if (request.name === undefined) return undefined;
      const grantId = records.get(sameAs(request));
      return typeof grantId === 'string' ? grant(request.keyId, grantId) : undefined;
    },
    *grantsFor(keyId, granteePrincipal, operation, context) {
      const buckets = new Set([UNCONSTRAINED]);
      if (!WITHOUT_CONTEXT.has(operation)) {
        buckets.add(wholeBucket(context));
        for (const [key, value] of Object.entries(context)) buckets.add(pairBucket(key, value));
      }
      for (const bucket of buckets) {
        const prefix = useOf(keyId, granteePrincipal, operation, bucket);
        // In pieces: usually the first grant fits, and reading a whole bucket to find it would cost what the buckets
        // avoid.
        for (let after = '', found: string[]; ; after = found.at(-1)!.slice(prefix.length)) {
          found = records.range(prefix, after, GRANTS_PER_READ);
          for (const key of found) yield required(keyId, key.slice(prefix.length));
          if (found.length < GRANTS_PER_READ) break;
        }
      }
    },
  };
}

const GRANTS_PER_READ = 16;

/** All members of a requested grant, as texts. */
function identityOf(grant: GrantRequest): string[] {
  const { keyId, name = '', granteePrincipal, retiringPrincipal = '', issuingPrincipal, operations, constraint, sourceArn } = grant;
  const context = constraint === undefined ? '' : canonicalBytes(contextOf(constraint)).toString('base64url');
  return [
    keyId,
    name,
    granteePrincipal,
    retiringPrincipal,
    issuingPrincipal,
    [...operations].sort().join(),
    constraint?.kind ?? '',
    context,
    // Absent in older records: their names must not change.
    ...(sourceArn === undefined ? [] : [sourceArn]),
  ];
}
