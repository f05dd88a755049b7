/** A copy of the embedded KMS's store, to be put back in its place. */
import { copyFile, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { syncDirectorySync } from '../../../directories.js';
import { asVolsealError, VolsealError } from '../../../errors.js';
import { describeRootKey } from './root-key-source.js';
import type { KmsStore } from './store.js';

export interface KmsBackup {
  /** The folder with the copy: what is in it belongs into the folder `kms` of a home. */
  readonly folder: string;
  /** What else is needed to use it; undefined where the copy has it. */
  readonly rootKey: string | undefined;
}

/**
 * Copies the store in `folder` to a new folder `target` (0700), as it is at one moment, while others go on using it. The copy appears
 * whole, flushed, or not at all.
 * @param withRootKey also the key file: then whoever has the copy has every key in it
 * @throws {VolsealError} `ERR_TARGET_EXISTS`, `ERR_KMS_STORE`, `ERR_IO`
 */
export async function backUp(store: KmsStore, folder: string, target: string, withRootKey: boolean): Promise<KmsBackup> {
  const draft = join(dirname(target), `.${basename(target)}.partial`);
  try {
    await refuseExisting(target);
    await rm(draft, { recursive: true, force: true });
    await mkdir(draft, { mode: 0o700 });
    await store.copyTo(join(draft, 'store.mdb'));
    const names = ['store.mdb', ...(await copied(folder, draft, ['root-key.json', ...(withRootKey ? ['root.key'] : [])]))];
    for (const name of names) await flush(join(draft, name));
    syncDirectorySync(draft);
    await rename(draft, target);
    syncDirectorySync(dirname(target));
    return { folder: target, rootKey: names.includes('root.key') ? undefined : describeRootKey(folder) };
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw asVolsealError(error, target);
  }
}

async function refuseExisting(target: string): Promise<void> {
  const found = await open(target, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  await found?.close();
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
