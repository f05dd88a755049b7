/**
 * Records in an LMDB file: read with their schema, written, listed by prefix, changed in transactions; every fault
 * names the file.
 *
 * Several processes and threads may have the file open at once: LMDB lets one of them write at a time, readers see
 * whole transactions, and a process that is killed, or a power cut, leaves the last whole transaction behind.
 */
import { getSystemErrorName } from 'node:util';
import { open, type RootDatabase, type RootDatabaseOptionsWithPath } from 'lmdb';
import type * as z from 'zod';
import { asVolsealError, type ErrorCode, type ErrorDetails, messageOf, VolsealError, withPath } from '../errors.js';
import { STORE_READERS_MAX, STORE_ROOM_BYTES } from '../limits.js';
import { native } from '../native.js';
import { makeRoom } from './room.js';
import { prepareStoreFile } from './store-file.js';

/** Sorts after every character of a key. */
const LAST = '\u{10FFFF}';

export interface Records {
  /** As it was put, unchecked: for counts and marks. */
  get(key: string): unknown;
  put(key: string, value: unknown): void;
  remove(key: string): void;
  /** @throws {VolsealError} where the record is not one of `schema` */
  read<Schema extends z.ZodType>(key: string, schema: Schema): z.infer<Schema> | undefined;
  /** As `read`, for a record that another one refers to. @throws {VolsealError} also where there is none */
  required<Schema extends z.ZodType>(key: string, schema: Schema): z.infer<Schema>;
  /**
   * Up to `limit` keys with this prefix in their order, from the one after `prefix + after`; all of them without a
   * limit.
   */
  range(prefix: string, after?: string, limit?: number): string[];
  /**
   * Runs `change` as one transaction while no other thread or process writes; what it throws undoes it. Durable when
   * this returns. A transaction within a transaction is part of it.
   * @throws {VolsealError} `ERR_IO` with errno `ENOSPC` where the disk is full: nothing was changed; with
   * `outcome: 'unknown'` in its details where the transaction failed while it was written: it may have taken place
   */
  transaction<Result>(change: () => Result): Result;
  /** Makes later reads see what other threads and processes have committed by now. */
  refresh(): void;
  /**
   * Writes a copy of all records, as they are at one moment, to a file that is not there yet; others go on writing
   * meanwhile.
   */
  copyTo(path: string): Promise<void>;
  /** Once, and nothing after it: LMDB frees its memory. */
  close(): Promise<void>;
}

/** How messages name a file of records, and the code of its faults. */
export interface RecordsOf {
  readonly name: string;
  readonly code: ErrorCode;
  /** Address space; the file grows as records come. */
  readonly bytesMax: number;
}

/**
 * Opens the records in the file `path` and makes it where there is none, with its directory, for its user alone.
 * @throws {VolsealError} here and in every method: the code of `what` for a damaged file or a fault of LMDB, `ERR_IO`
 * for one of the disk
 */
export function openRecords(path: string, what: RecordsOf): Records {
  const fault = (problem: string, cause?: unknown): VolsealError =>
    new VolsealError(what.code, `${path}: ${problem}`, { cause, details: { path } });
  /** What LMDB threw: its own codes are negative, those of system calls are positive. */
  const failure = (cause: unknown, details: ErrorDetails = {}): VolsealError => {
    if (cause instanceof VolsealError) return cause;
    const { code } = cause as { code?: unknown };
    const problem = `${path}: ${what.name} failed: ${messageOf(cause)}`;
    const isSystem = typeof code === 'number' && code > 0;
    const errno = isSystem ? getSystemErrorName(-code) : String(code ?? '');
    return new VolsealError(isSystem ? 'ERR_IO' : what.code, problem, { cause, details: { ...details, path, errno } });
  };
  const guarded = <Result>(run: () => Result): Result => {
    try {
      return run();
    } catch (error) {
      throw failure(error);
    }
  };
  prepareStoreFile(path, what);
  const { database, storeId } = guarded(() => openDatabase(path, what.bytesMax));

  function checked<Schema extends z.ZodType>(value: unknown, key: string, schema: Schema): z.infer<Schema> {
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const problems = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');
    throw fault(`record ${JSON.stringify(key)} is damaged or of another version (${problems}); restore the store from a backup`);
  }
  const get = (key: string): unknown => guarded(() => database.get(key));
  let isWriting = false;
  function transaction<Result>(change: () => Result): Result {
    if (isWriting) return change();
    let thrown: { readonly error: unknown } | undefined;
    try {
      return database.transactionSync(() => {
        isWriting = true;
        try {
          makeRoom(path, STORE_ROOM_BYTES);
          return change();
        } catch (error) {
          thrown = { error };
          throw error;
        } finally {
          isWriting = false;
        }
      });
    } catch (error) {
      throw thrown === undefined ? failure(error, { outcome: 'unknown' }) : asVolsealError(thrown.error, path);
    }
  }
  return {
    get,
    put: (key, value) => {
      transaction(() => guarded(() => database.putSync(key, value)));
    },
    remove: (key) => {
      transaction(() => guarded(() => database.removeSync(key)));
    },
    read(key, schema) {
      const value = get(key);
      return value === undefined ? undefined : checked(value, key, schema);
    },
    required: (key, schema) => checked(get(key), key, schema),
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
    transaction,
    refresh: () => database.resetReadTxn(),
    async copyTo(target) {
      try {
        await database.backup(target, true);
      } catch (error) {
        throw copyFailure(target, what, error) ?? fault(`copying to ${target} failed: ${messageOf(error)}`, error);
      }
    },
    async close() {
      await database.close();
      native.storeClosed(storeId);
    },
  };
}

/** A fault of the target's disk: of such, LMDB's copying gives no number, only what strerror(3) says. */
function copyFailure(target: string, what: RecordsOf, cause: unknown): VolsealError | undefined {
  const problem = messageOf(cause);
  const errno = COPY_ERRNOS[problem];
  if (errno === undefined) return undefined;
  const details = { errno, syscall: 'write', path: target };
  return new VolsealError('ERR_IO', `${target}: copying ${what.name} failed: ${problem}`, { cause, details });
}

const COPY_ERRNOS: Readonly<Record<string, string>> = {
  'Disk quota exceeded': 'EDQUOT',
  'File too large': 'EFBIG',
  'Input/output error': 'EIO',
  'No space left on device': 'ENOSPC',
  'Read-only file system': 'EROFS',
};

/** Other threads and processes open and close it at the same time. */
function openDatabase(path: string, bytesMax: number): { database: RootDatabase<unknown, string>; storeId: number } {
  let database: RootDatabase<unknown, string> | undefined;
  try {
    const storeId = native.openStore(`${path}-lock`, () => {
      database = open({
        path,
        noSubdir: true,
        encoding: 'json',
        // A commit is LMDB's own then: data synced, then the page that makes it valid, before it returns.
        overlappingSync: false,
        mapSize: bytesMax,
        maxDbs: 1,
        maxReaders: STORE_READERS_MAX,
        permissionsMode: 0o600,
      } as RootDatabaseOptionsWithPath);
    });
    return { database: database!, storeId };
  } catch (error) {
    void database?.close();
    throw error instanceof VolsealError ? withPath(error, `${path}-lock`) : error;
  }
}
