/** Names that files have beside their place until they are whole, or until their successor is; and what killed runs leave under such names. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readdir, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { namingPath } from '../errors.js';
import { native } from '../native.js';
import { partialPath } from './partial-file.js';

/** A new name beside `place`, which is free of symbolic links. */
export const temporaryPath = (place: string): string => join(dirname(place), `${prefixOf(place)}${randomBytes(6).toString('hex')}.partial`);

/** What stood in a place, while it is not sure yet that its successor stays. @param temporary the successor's name until then */
export const backupPath = (temporary: string): string => `${temporary}.old`;

/** Whether `name` is one that a file for `place` may have beside it: of `temporaryPath`, or of a job that is to be resumed. */
export function isTemporaryName(name: string, place: string): boolean {
  return name === basename(partialPath(place)) || isRandomName(name, place);
}

/** The temporary files beside `place` that earlier runs for this target may have left when they were killed: their paths. @throws {VolsealError} `ERR_IO` */
export async function leftoversOf(place: string): Promise<string[]> {
  const names = await namingPath(place, () => readdir(dirname(place)));
  return names.filter((name) => isRandomName(name, place)).map((name) => join(dirname(place), name));
}

const prefixOf = (place: string): string => `.${basename(place)}.`;

const isRandomName = (name: string, place: string): boolean =>
  name.startsWith(prefixOf(place)) && /^[0-9a-f]{12}\.partial$/.test(name.slice(prefixOf(place).length));

/** A younger one may have been made a moment ago and not be locked yet. */
const LEFTOVER_AGE_MS = 60_000;

/** Removes temporary files that are old and that nobody holds. @throws {VolsealError} `ERR_IO` */
export async function removeLeftovers(place: string): Promise<void> {
  for (const leftover of await leftoversOf(place)) {
    try {
      await using file = await open(leftover, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      const found = await file.stat();
      if (!found.isFile() || Date.now() - found.mtimeMs < LEFTOVER_AGE_MS) continue;
      native.fileLock(file.fd, true);
      await unlink(leftover);
    } catch {
      // In use, gone already, or not ours to remove: it costs room, not this run.
    }
  }
}
