/** A copy of the embedded KMS's store, to be restored later. */
import { copyFile, mkdtemp, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { syncDirectorySync } from '../../../directories.js';
import { asVolsealError, VolsealError } from '../../../errors.js';
import { openRecords } from '../../../lmdb/records.js';
import { describeRootKey } from './root-key-source.js';
import { AUDIT_KEY, type KmsStore, STORE_FILE } from './store.js';

export interface KmsBackup {
  /** The directory with the copy: its files belong into the directory `kms` of a home. */
  readonly directory: string;
  /** What else is needed to use it; undefined where the copy has it. */
  readonly rootKey: string | undefined;
}

/**
 * Copies the store in `directory` to a new directory `target` (0700), as it is at one moment, while others go on using
 * it. The copy appears complete and flushed, or not at all. Existing files are never touched.
 * @param withRootKey also copies the key file: whoever has the copy has every key in it then
 * @throws {VolsealError} `ERR_TARGET_EXISTS`, `ERR_KMS_STORE`, `ERR_IO`
 */
export async function backUp(store: KmsStore, directory: string, target: string, withRootKey: boolean): Promise<KmsBackup> {
  let draft: string | undefined;
  try {
    await refuseExisting(target);
    draft = await mkdtemp(join(dirname(target), `.${basename(target)}.partial-`));
    await copyStore(store, join(draft, 'store.mdb'));
    const names = ['store.mdb', ...(await copied(directory, draft, ['root-key.json', ...(withRootKey ? ['root.key'] : [])]))];
    for (const name of names) await flush(join(draft, name));
    syncDirectorySync(draft);
    await refuseExisting(target);
    await rename(draft, target);
    syncDirectorySync(dirname(target));
    return { directory: target, rootKey: names.includes('root.key') ? undefined : describeRootKey(directory) };
  } catch (error) {
    if (draft !== undefined) await rm(draft, { recursive: true, force: true });
    throw asVolsealError(error, target);
  }
}

/** The audit log is not in the copy, so what the store knows of it is not either: a restored store must not miss it. */
async function copyStore(store: KmsStore, path: string): Promise<void> {
  await store.copyTo(path);
  const copy = openRecords(path, STORE_FILE);
  try {
    copy.remove(AUDIT_KEY);
  } finally {
    await copy.close();
    await rm(`${path}-lock`);
  }
}

async function refuseExisting(target: string): Promise<void> {
  const found = await stat(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (found !== undefined) throw new VolsealError('ERR_TARGET_EXISTS', `${target} exists`, { details: { path: target } });
}

async function copied(from: string, to: string, names: readonly string[]): Promise<string[]> {
  const done: string[] = [];
  for (const name of names) {
    try {
      await copyFile(join(from, name), join(to, name));
      done.push(name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return done;
}

async function flush(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.chmod(0o600);
    await file.sync();
  } finally {
    await file.close();
  }
}
