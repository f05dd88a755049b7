/**
 * The embedded KMS's store: keys and aliases in an LMDB file, every change a transaction that is on the disk before it returns.
 *
 * Several processes and threads may have it open at once: LMDB lets one of them write at a time, readers see whole transactions,
 * and a process that is killed leaves the last whole transaction behind. Records are JSON; master keys in them are sealed under
 * the root key. What is read is checked as strictly as what a stranger sends.
 */
import { join } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { z } from 'zod';
import { VolsealError } from '../../errors.js';
import { KMS_STORE_BYTES_MAX } from '../../limits.js';
import { type KeyHandle, native } from '../../native.js';
import { KmsFault } from './faults.js';
import { createRootKey, readRootKey } from './root-key.js';
import { prepareStoreFile, restrictStoreFiles } from './store-file.js';

/** Material of a key: AES-256, sealed under the root key. */
const materialRecord = z.object({
  /** 64 lower-case hex digits, random. */
  materialId: z.string().regex(/^[0-9a-f]{64}$/),
  /** Base64 of 12-byte IV, 32 bytes of ciphertext, 16-byte tag. */
  sealed: z.base64(),
});

const keyRecord = z.object({
  keyId: z.uuid(),
  state: z.enum(['Enabled', 'Disabled']),
  manager: z.enum(['AWS', 'CUSTOMER']),
  description: z.string(),
  /** Seconds since 1970, with milliseconds. */
  createdAtSeconds: z.number(),
  /** All material the key has had; the last one seals. */
  materials: z.array(materialRecord).min(1),
});

const aliasRecord = z.object({
  aliasName: z.string().startsWith('alias/'),
  keyId: z.uuid(),
  createdAtSeconds: z.number(),
  updatedAtSeconds: z.number(),
});

const storeRecord = z.object({
  format: z.literal(1),
  /** HMAC of a fixed text under the root key, hex: tells a foreign root key from a damaged store. */
  rootKeyCheck: z.string(),
});

export type KeyRecord = z.infer<typeof keyRecord>;
export type MaterialRecord = z.infer<typeof materialRecord>;
export type AliasRecord = z.infer<typeof aliasRecord>;

const STORE_KEY = 'store';
const KEY_PREFIX = 'key/';
const ALIAS_PREFIX = 'alias/';
/** Sorts after every character of a name. */
const LAST = '\u{10FFFF}';

export interface KmsStore {
  /** Seals master keys. The store's own: wiped by `close`. */
  readonly rootKey: KeyHandle;
  key(keyId: string): KeyRecord | undefined;
  putKey(record: KeyRecord): void;
  /** @param aliasName With its prefix, `alias/`. */
  alias(aliasName: string): AliasRecord | undefined;
  putAlias(record: AliasRecord): void;
  removeAlias(aliasName: string): void;
  /** Up to `limit` keys in the order of their ids, from the one after `afterKeyId`. */
  keys(limit: number, afterKeyId?: string): KeyRecord[];
  /** All aliases in the order of their names. */
  aliases(): AliasRecord[];
  /**
   * Runs `change` as one transaction, alone among all processes; what it throws undoes it. Durable when this returns.
   * A transaction within a transaction is part of it.
   */
  transaction<Result>(change: () => Result): Result;
  /** Makes later reads see what other threads and processes have committed by now. */
  refresh(): void;
  /** Once, and nothing after it: LMDB frees its memory. */
  close(): Promise<void>;
}

/**
 * Opens the store of `home`, in the folder `kms` there; makes it, with its root key, where there is none.
 *
 * @throws {VolsealError} `ERR_KMS_STORE` where the store is damaged or of another version, where its root key is missing, is not the
 * one of this store or may be read by others; `ERR_IO`, `ERR_MEMORY_LOCK`
 */
export function openStore(home: string): KmsStore {
  const folder = join(home, 'kms');
  const path = join(folder, 'store.mdb');
  prepareStoreFile(path);
  const database = guarded(path, () =>
    // Without `overlappingSync` a commit is LMDB's own: data synced, then the page that makes it valid, before it returns.
    open<unknown, string>({ path, noSubdir: true, encoding: 'json', overlappingSync: false, mapSize: KMS_STORE_BYTES_MAX, maxDbs: 1 }),
  );
  try {
    restrictStoreFiles(path);
    return storeOver(database, path, loadRootKey(database, path, join(folder, 'root.key')));
  } catch (error) {
    void database.close();
    throw error;
  }
}

/** Reads the root key, or makes it with a new store; the transaction is what two processes that start at once queue at. */
function loadRootKey(database: RootDatabase<unknown, string>, path: string, rootKeyPath: string): KeyHandle {
  return guarded(path, () =>
    database.transactionSync(() => {
      const known = readRecord(database, STORE_KEY, storeRecord, path);
      if (known === undefined) {
        // A root key without a store record: the process that made it was killed before it could write the record.
        const rootKey = readRootKey(rootKeyPath) ?? createRootKey(rootKeyPath);
        try {
          database.putSync(STORE_KEY, { format: 1, rootKeyCheck: checkOf(rootKey) });
          return rootKey;
        } catch (error) {
          native.keyWipe(rootKey);
          throw error;
        }
      }
      const rootKey = readRootKey(rootKeyPath);
      if (rootKey === undefined) {
        throw new VolsealError(
          'ERR_KMS_STORE',
          `${rootKeyPath} is missing: the keys in ${path} cannot be opened without it; restore it from a backup`,
        );
      }
      if (checkOf(rootKey) !== known.rootKeyCheck) {
        native.keyWipe(rootKey);
        throw new VolsealError(
          'ERR_KMS_STORE',
          `${rootKeyPath} is not the root key that ${path} was made with; restore both from the same backup`,
        );
      }
      return rootKey;
    }),
  );
}

const checkOf = (rootKey: KeyHandle): string => native.keyHmac(rootKey, Buffer.from('volseal kms root key check')).toString('hex');

function storeOver(database: RootDatabase<unknown, string>, path: string, rootKey: KeyHandle): KmsStore {
  return {
    rootKey,
    key: (keyId) => readRecord(database, KEY_PREFIX + keyId, keyRecord, path),
    putKey: (record) => guarded(path, () => database.putSync(KEY_PREFIX + record.keyId, record)),
    alias: (aliasName) => readRecord(database, aliasName, aliasRecord, path),
    putAlias: (record) => guarded(path, () => database.putSync(record.aliasName, record)),
    removeAlias: (aliasName) => {
      guarded(path, () => database.removeSync(aliasName));
    },
    keys: (limit, afterKeyId = '') =>
      guarded(path, () => {
        const range = database.getRange({
          start: KEY_PREFIX + afterKeyId,
          end: KEY_PREFIX + LAST,
          exclusiveStart: true,
          limit,
          snapshot: false,
        });
        return [...range].map(({ key, value }) => checked(value, key, keyRecord, path));
      }),
    aliases: () =>
      guarded(path, () => {
        const range = database.getRange({ start: ALIAS_PREFIX, end: ALIAS_PREFIX + LAST, snapshot: false });
        return [...range].map(({ key, value }) => checked(value, key, aliasRecord, path));
      }),
    transaction: (change) => guarded(path, () => database.transactionSync(change)),
    refresh: () => database.resetReadTxn(),
    async close() {
      native.keyWipe(rootKey);
      await database.close();
    },
  };
}

function readRecord<Schema extends z.ZodType>(
  database: RootDatabase<unknown, string>,
  key: string,
  schema: Schema,
  path: string,
): z.infer<Schema> | undefined {
  const value = guarded(path, () => database.get(key));
  return value === undefined ? undefined : checked(value, key, schema, path);
}

function checked<Schema extends z.ZodType>(value: unknown, key: string, schema: Schema, path: string): z.infer<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');
  throw new VolsealError(
    'ERR_KMS_STORE',
    `${path}: record ${JSON.stringify(key)} is damaged or of another version (${problems}); restore the store from a backup`,
  );
}

/** Errors of LMDB and of its JSON decoding name the store; those that already say what they mean pass. */
function guarded<Result>(path: string, run: () => Result): Result {
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
