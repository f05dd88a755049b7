/** Names of temporary and backup files in the directory of a target, and removing those that killed runs have left. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { readdir, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { namingPath } from '../errors.js';
import { NamedFile } from './named-file.js';
import { partialPath } from './partial-file.js';

/** A new name in the directory of `realPath`, which is free of symbolic links. */
export const temporaryPath = (realPath: string): string =>
  join(dirname(realPath), `${prefixOf(realPath)}${randomBytes(6).toString('hex')}.partial`);

/**
 * The name of a replaced file while its replacement may still be rolled back. @param temporary the name of its
 * replacement until then
 */
export const backupPath = (temporary: string): string => `${temporary}.old`;

/**
 * Whether `name` is one that a file for `realPath` may have before it is published: random, or that of a job that can
 * be resumed.
 */
export function isTemporaryName(name: string, realPath: string): boolean {
  return name === basename(partialPath(realPath)) || isRandomName(name, realPath);
}

/**
 * The paths of temporary files that earlier runs for this target may have left when they were killed. @throws
 * {VolsealError} `ERR_IO`
 */
export async function staleFilesOf(realPath: string): Promise<string[]> {
  const names = await namingPath(realPath, () => readdir(dirname(realPath)));
  return names.filter((name) => isRandomName(name, realPath)).map((name) => join(dirname(realPath), name));
}

const prefixOf = (realPath: string): string => `.${basename(realPath)}.`;

const isRandomName = (name: string, realPath: string): boolean =>
  name.startsWith(prefixOf(realPath)) && /^[0-9a-f]{12}\.partial$/.test(name.slice(prefixOf(realPath).length));

/** A younger file may have been made a moment ago and not be locked yet. */
const STALE_AFTER_MS = 60_000;

/** Removes temporary files that are old and that nobody holds. @throws {VolsealError} `ERR_IO` */
export async function removeStaleFiles(realPath: string): Promise<void> {
  for (const path of await staleFilesOf(realPath)) {
    try {
      await using file = await NamedFile.open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      const found = await file.stat();
      if (!found.isFile() || Date.now() - Number(found.mtimeMs) < STALE_AFTER_MS) continue;
      file.lock('exclusive');
      await unlink(path);
    } catch {
      // In use, removed already, or another user's: it takes room and does no harm.
    }
  }
}
