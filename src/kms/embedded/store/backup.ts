/** A copy of the embedded KMS's store, to be restored later. */
import { constants } from 'node:fs';
import { copyFile, mkdtemp, open, rename, rm, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Directory, type DirectoryEntry, findEntry } from '../../../directory-entry.js';
import { namedAs, namingPath, VolsealError } from '../../../errors.js';
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
 * it. The copy appears complete and flushed, or not at all. Existing files are never touched. Target and copy are
 * reached through open directories: who exchanges names on the way there changes nothing.
 * @param withRootKey also copies the key file: whoever has the copy has every key in it then
 * @throws {VolsealError} `ERR_TARGET_EXISTS`, `ERR_KMS_STORE`, `ERR_IO`
 */
export async function backUp(store: KmsStore, directory: string, target: string, withRootKey: boolean): Promise<KmsBackup> {
  await using entry = await findEntry(target, 'write');
  refuseExisting(entry, target);
  const draftName = basename(await namingPath(target, () => mkdtemp(entry.directory.at(`.${entry.name}.partial-`))));
  await using draft = await openMade(entry.directory, draftName, target);
  try {
    await copyStore(store, draft.at('store.mdb'));
    const copies = await copied(directory, draft, ['root-key.json', ...(withRootKey ? ['root.key'] : [])]);
    for (const name of ['store.mdb', ...copies]) await flush(draft, name);
    await draft.sync();
    await publish(draft, draftName, entry, target);
    return { directory: target, rootKey: copies.includes('root.key') ? undefined : describeRootKey(directory) };
  } catch (error) {
    await removeDraft(draft, draftName, entry.directory);
    throw namedAs(error, target);
  }
}

/** The directory that this process has just made there: 0700, its own. */
async function openMade(parent: Directory, name: string, target: string): Promise<Directory> {
  const found = await parent.look(name);
  const { stats, handle } = found ?? {};
  if (handle !== undefined && stats?.isDirectory() && Number(stats.uid) === process.geteuid?.() && (stats.mode & 0o077n) === 0n)
    return Directory.of(handle);
  await handle?.close();
  throw exchanged(target);
}

/** Gives the copy its name, and makes sure that it is the copy which has it now. */
async function publish(draft: Directory, draftName: string, { directory, name }: DirectoryEntry, target: string): Promise<void> {
  const now = await findEntry(join(directory.path, name), 'none');
  await now.close();
  refuseExisting(now, target);
  await rename(directory.at(draftName), directory.at(name));
  await directory.sync();
  const made = await directory.look(name);
  await made?.handle.close();
  const [copy, found] = [await draft.stats(), made?.stats];
  if (found?.ino !== copy.ino || found.dev !== copy.dev) throw exchanged(target);
}

/** Its files by their directory, and the name only while it is empty: somebody else's directory is left alone. */
async function removeDraft(draft: Directory, name: string, parent: Directory): Promise<void> {
  for (const file of await draft.names().catch(() => [])) await rm(draft.at(file), { force: true }).catch(() => {});
  await rmdir(parent.at(name)).catch(() => {});
}

const exchanged = (target: string): VolsealError =>
  new VolsealError('ERR_IO', `${target}: another user has exchanged the copy while it was made; choose a directory of your own`, {
    details: { errno: 'EPERM', syscall: 'rename', path: target },
  });

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

function refuseExisting({ found }: DirectoryEntry, target: string): void {
  if (found !== undefined) throw new VolsealError('ERR_TARGET_EXISTS', `${target} exists`, { details: { path: target } });
}

/** Copies those of the files that are there, inside the kernel: the root key does not pass through here. */
async function copied(from: string, to: Directory, names: readonly string[]): Promise<string[]> {
  const done: string[] = [];
  for (const name of names) {
    try {
      await copyFile(join(from, name), to.at(name), constants.COPYFILE_EXCL);
      done.push(name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return done;
}

async function flush(directory: Directory, name: string): Promise<void> {
  await using file = await open(directory.at(name), constants.O_RDWR | constants.O_NOFOLLOW);
  await file.chmod(0o600);
  await file.sync();
}
