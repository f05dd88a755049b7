/**
 * Records in an LMDB file: read with their schema, written, listed by prefix, changed in transactions; every fault names the file.
 *
 * Several processes and threads may have the file open at once: LMDB lets one of them write at a time, readers see whole transactions,
 * and a process that is killed leaves the last whole transaction behind.
 */
import { open } from 'lmdb';
import type * as z from 'zod';
import { type ErrorCode, messageOf, VolsealError } from '../errors.js';
import { prepareStoreFile, restrictStoreFiles } from './store-file.js';

/** Sorts after every character of a key. */
const LAST = '\u{10FFFF}';

export interface Records {
  /** As it was put, unchecked: for counts and marks. */
  get(key: string): unknown;
  put(key: string, value: unknown): void;
  remove(key: string): void;
  /** @throws {VolsealError} where the record is not one of `schema` */
  read<Schema extends z.ZodType>(key: string, schema: Schema): z.infer<Schema> | undefined;
  /** As `read`, for a record that another one promises. @throws {VolsealError} also where there is none */
  promised<Schema extends z.ZodType>(key: string, schema: Schema): z.infer<Schema>;
  /** Up to `limit` keys with this prefix in their order, from the one after `prefix + after`; all of them without a limit. */
  range(prefix: string, after?: string, limit?: number): string[];
  /**
   * Runs `change` as one transaction, alone among all processes; what it throws undoes it. Durable when this returns. A transaction within
   * a transaction is part of it.
   */
  transaction<Result>(change: () => Result): Result;
  /** Makes later reads see what other threads and processes have committed by now. */
  refresh(): void;
  /** Writes a copy of all records, as they are at one moment, to a file that is not there yet; others go on writing meanwhile. */
  copyTo(path: string): Promise<void>;
  /** Once, and nothing after it: LMDB frees its memory. */
  close(): Promise<void>;
}

/** What a file of records is, for messages, and the code of its faults. */
export interface RecordsOf {
  readonly name: string;
  readonly code: ErrorCode;
  /** Address space; the file grows as records come. */
  readonly bytesMax: number;
}

/**
 * Opens the records in the file `path` and makes it where there is none, with its folder, for its user alone.
 * @throws {VolsealError} the code of `what`, here and in every method: a damaged file, a fault of LMDB or the disk; `ERR_IO`
 */
export function openRecords(path: string, what: RecordsOf): Records {
  const fault = (problem: string, cause?: unknown): VolsealError =>
    new VolsealError(what.code, `${path}: ${problem}`, {
      cause,
      details: { path, errno: String((cause as { code?: unknown })?.code ?? '') },
    });
  const guarded = <Result>(run: () => Result): Result => {
    try {
      return run();
    } catch (error) {
      throw fault(`${what.name} failed: ${messageOf(error)}`, error);
    }
  };
  prepareStoreFile(path, what);
  const database = guarded(() =>
    // Without `overlappingSync` a commit is LMDB's own: data synced, then the page that makes it valid, before it returns.
    open<unknown, string>({ path, noSubdir: true, encoding: 'json', overlappingSync: false, mapSize: what.bytesMax, maxDbs: 1 }),
  );
  try {
    restrictStoreFiles(path);
  } catch (error) {
    void database.close();
    throw error;
  }

  function checked<Schema extends z.ZodType>(value: unknown, key: string, schema: Schema): z.infer<Schema> {
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const problems = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');
    throw fault(`record ${JSON.stringify(key)} is damaged or of another version (${problems}); restore the store from a backup`);
  }
  const get = (key: string): unknown => guarded(() => database.get(key));
  return {
    get,
    put: (key, value) => guarded(() => database.putSync(key, value)),
    remove: (key) => {
      guarded(() => database.removeSync(key));
    },
    read(key, schema) {
      const value = get(key);
      return value === undefined ? undefined : checked(value, key, schema);
    },
    promised: (key, schema) => checked(get(key), key, schema),
    range: (prefix, after = '', limit) =>
      guarded(() => [
        ...database.getKeys({
          start: prefix + after,
          end: prefix + LAST,
          exclusiveStart: true,
          snapshot: false,
          ...(limit === undefined ? {} : { limit }),
        }),
      ]),
    transaction(change) {
      let thrown: { readonly error: unknown } | undefined;
      try {
        return database.transactionSync(() => {
          try {
            return change();
          } catch (error) {
            thrown = { error };
            throw error;
          }
        });
      } catch (error) {
        if (thrown !== undefined) throw thrown.error;
        throw fault(`${what.name} failed: ${(error as Error).message}`, error);
      }
    },
    refresh: () => database.resetReadTxn(),
    async copyTo(target) {
      try {
        await database.backup(target, true);
      } catch (error) {
        throw fault(`copying to ${target} failed: ${(error as Error).message}`, error);
      }
    },
    close: () => database.close(),
  };
}
