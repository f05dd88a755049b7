/** A small file beside a partial file, in which a run tells a later one what it has done: replaced as a whole. */
import { constants } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Directory } from '../directory-entry.js';
import { namingPath, VolsealError } from '../errors.js';
import { NamedFile } from './named-file.js';
import { chooseRecordName } from './partial-file.js';
import { temporaryName } from './temporary-files.js';

/**
 * In a directory that others may write to, somebody may take a name between the choice and the rename: so often another
 * one is chosen.
 */
const NAME_TRIES = 3;
const IS_TAKEN = new Set(['EPERM', 'EACCES', 'EISDIR', 'ENOTEMPTY', 'EEXIST']);

/**
 * Replaces the record `stem.json`, which stays until then; it lasts once this has returned.
 * @throws {VolsealError} `ERR_IO`
 */
export async function replaceRecord(directory: Directory, stem: string, text: string): Promise<void> {
  for (let triesLeft = NAME_TRIES; ; triesLeft--) {
    try {
      return await replaceOnce(directory, stem, text);
    } catch (error) {
      const isTaken = error instanceof VolsealError && error.details.syscall === 'rename' && IS_TAKEN.has(String(error.details.errno));
      if (!isTaken || triesLeft === 1) throw error;
    }
  }
}

async function replaceOnce(directory: Directory, stem: string, text: string): Promise<void> {
  const name = await chooseRecordName(directory, stem);
  const temporary = temporaryName(name);
  try {
    await using file = await NamedFile.openIn(directory, temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
    await file.writeText(text);
    await file.sync();
    await namingPath(join(directory.path, name), () => rename(directory.at(temporary), directory.at(name)));
  } catch (error) {
    await rm(directory.at(temporary), { force: true }).catch(() => {});
    throw error;
  }
  await directory.sync();
}
