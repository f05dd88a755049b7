/**
 * The file that a resumable job writes to: `.NAME.resume` in the directory of its target, and its checkpoint
 * `.NAME.resume.json`. The run that holds its lock owns both.
 */
import { constants } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { VolsealError } from '../errors.js';
import { NamedFile } from './named-file.js';

/** @param realPath of the target, free of symbolic links */
export const partialPath = (realPath: string): string => join(dirname(realPath), `.${basename(realPath)}.resume`);

/** @param realPath of the target, free of symbolic links */
export const checkpointPath = (realPath: string): string => `${partialPath(realPath)}.json`;

/**
 * Opens and locks what an interrupted run has left, or makes it.
 * @throws {VolsealError} `ERR_STATE_BUSY` another run works on it; `ERR_RESUME` other users may write to it; `ERR_IO`
 */
export function openPartial(path: string): Promise<NamedFile> {
  return openOwnFile(path, constants.O_CREAT, (why) => cannotResume(path, why));
}

/**
 * Opens and locks, for reading and writing, a file that only this user can change.
 * @param create `constants.O_CREAT` to make a missing file; 0: a missing file is an `ERR_IO`
 * @param notOwn makes the error for a file that others can write to
 * @throws {VolsealError} `ERR_STATE_BUSY` another run holds it; what `notOwn` makes; `ERR_IO`
 */
export async function openOwnFile(path: string, create: number, notOwn: (why: string) => VolsealError): Promise<NamedFile> {
  const file = await NamedFile.open(path, constants.O_RDWR | create | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    file.lock('exclusive');
    const found = await file.stat();
    // In a directory that others may write to, somebody may have made the file, to read or to change what is written to
    // it.
    if (!found.isFile() || found.uid !== BigInt(process.geteuid!()) || (found.mode & 0o077n) !== 0n || found.nlink > 1n) {
      throw notOwn('it is not a file of this user alone (owner, mode 0600, a single name)');
    }
    // The run that held it may have published or removed it in the meantime.
    if (!(await file.isAt(path))) throw inUse(path);
    return file;
  } catch (error) {
    await file.close();
    if (error instanceof VolsealError && error.code === 'ERR_STATE_BUSY') throw inUse(path, error);
    throw error;
  }
}

const inUse = (path: string, cause?: unknown): VolsealError =>
  new VolsealError('ERR_STATE_BUSY', `${path}: another run is at work on this job`, { cause, details: { path } });

/** @param partial the file that an interrupted run has left @param why what does not fit, and what was expected */
export function cannotResume(partial: string, why: string): VolsealError {
  return new VolsealError(
    'ERR_RESUME',
    `${partial}: the interrupted job cannot be resumed: ${why}; remove this file and ${partial}.json, or run without --resume`,
    { details: { path: partial } },
  );
}
