/** Names of temporary and backup files in the directory of a target, and removing those that killed runs have left. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { rm, unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Directory } from '../directory-entry.js';
import { namingPath } from '../errors.js';
import { NamedFile } from './named-file.js';
import { isPartialName } from './partial-file.js';

const randomPart = (): string => randomBytes(6).toString('hex');

/** A new name beside the file `name`. */
export const temporaryName = (name: string): string => `.${name}.${randomPart()}.partial`;

/**
 * The name of a replaced file while its replacement may still be rolled back. @param temporary the name or path of its
 * replacement until then
 */
export const backupPath = (temporary: string): string => `${temporary}.old`;

/**
 * Whether `name` is one that a file for `realPath` may have before it is published: random, or that of a job that can
 * be resumed.
 */
export function isTemporaryName(name: string, realPath: string): boolean {
  return isPartialName(name, basename(realPath)) || isRandomName(name, basename(realPath));
}

const isRandomName = (name: string, target: string): boolean =>
  name.startsWith(`.${target}.`) && /^[0-9a-f]{12}\.partial$/.test(name.slice(target.length + 2));

/**
 * The names of temporary files that earlier runs for the target `name` may have left when they were killed. @throws
 * {VolsealError} `ERR_IO`
 */
async function staleFilesOf(directory: Directory, target: string): Promise<string[]> {
  return (await directory.names()).filter((name) => isRandomName(name, target));
}

/** A younger file may have been made a moment ago and not be locked yet. */
const STALE_AFTER_MS = 60_000;

/** Removes temporary files of the target `name` that are old and that nobody holds. @throws {VolsealError} `ERR_IO` */
export async function removeStaleFiles(directory: Directory, target: string): Promise<void> {
  for (const name of await staleFilesOf(directory, target)) {
    try {
      await using file = await NamedFile.openIn(directory, name, constants.O_RDONLY);
      const found = await file.stat();
      if (!found.isFile() || Date.now() - Number(found.mtimeMs) < STALE_AFTER_MS) continue;
      file.lock('exclusive');
      await unlink(directory.at(name));
    } catch {
      // In use, removed already, or another user's: it takes room and does no harm.
    }
  }
}

/**
 * Removes all temporary files of the target `name`: for a caller who knows that no other run is at work on it.
 * @returns whether there were any @throws {VolsealError} `ERR_IO`
 */
export async function removeTemporaryFiles(directory: Directory, target: string): Promise<boolean> {
  const names = await staleFilesOf(directory, target);
  for (const name of names) await namingPath(join(directory.path, name), () => rm(directory.at(name), { force: true }));
  return names.length > 0;
}
