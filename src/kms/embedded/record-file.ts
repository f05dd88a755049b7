/** Records in an LMDB file: read with their schema, written, listed by prefix; every fault names the file. */
import type { RootDatabase } from 'lmdb';
import type { z } from 'zod';
import { VolsealError } from '../../errors.js';
import { KmsFault } from './faults.js';

/** Sorts after every character of a key. */
const LAST = '\u{10FFFF}';

export interface Records {
  /** As it was put, unchecked: for counts and marks. */
  get(key: string): unknown;
  put(key: string, value: unknown): void;
  remove(key: string): void;
  /** @throws {VolsealError} `ERR_KMS_STORE` where the record is not one of `schema` */
  read<Schema extends z.ZodType>(key: string, schema: Schema): z.infer<Schema> | undefined;
  /** As `read`, for a record that another one promises. @throws {VolsealError} `ERR_KMS_STORE` also where there is none */
  promised<Schema extends z.ZodType>(key: string, schema: Schema): z.infer<Schema>;
  /** Up to `limit` keys with this prefix in their order, from the one after `prefix + after`; all of them without a limit. */
  range(prefix: string, after?: string, limit?: number): string[];
  /** Runs `change` as one transaction, alone among all processes; what it throws undoes it. Durable when this returns. */
  transaction<Result>(change: () => Result): Result;
}

/** @param path Of the file, for messages. */
export function recordsOf(database: RootDatabase<unknown, string>, path: string): Records {
  function checked<Schema extends z.ZodType>(value: unknown, key: string, schema: Schema): z.infer<Schema> {
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const problems = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');
    throw new VolsealError(
      'ERR_KMS_STORE',
      `${path}: record ${JSON.stringify(key)} is damaged or of another version (${problems}); restore the store from a backup`,
    );
  }
  const get = (key: string): unknown => guarded(path, () => database.get(key));
  return {
    get,
    put: (key, value) => guarded(path, () => database.putSync(key, value)),
    remove: (key) => {
      guarded(path, () => database.removeSync(key));
    },
    read(key, schema) {
      const value = get(key);
      return value === undefined ? undefined : checked(value, key, schema);
    },
    promised: (key, schema) => checked(get(key), key, schema),
    range: (prefix, after = '', limit) =>
      guarded(path, () => [
        ...database.getKeys({
          start: prefix + after,
          end: prefix + LAST,
          exclusiveStart: true,
          snapshot: false,
          ...(limit === undefined ? {} : { limit }),
        }),
      ]),
    transaction: (change) => guarded(path, () => database.transactionSync(change)),
  };
}

/** Errors of LMDB and of its JSON decoding name the store; those that already say what they mean pass. */
export function guarded<Result>(path: string, run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    if (error instanceof VolsealError || error instanceof KmsFault) throw error;
    const { message, code } = error as { message?: string; code?: string | number };
    throw new VolsealError('ERR_KMS_STORE', `${path}: the store of the embedded KMS failed: ${message ?? String(error)}`, {
      cause: error,
      details: { path, errno: String(code ?? '') },
    });
  }
}
