/**
 * The file that a resumable job writes to: `.NAME.resume` beside its target, and its checkpoint `.NAME.resume.json`. Whoever holds its lock
 * owns both.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { namingPath, VolsealError, withPath } from '../errors.js';
import { native } from '../native.js';

/** @param place of the target, free of symbolic links */
export const partialPath = (place: string): string => join(dirname(place), `.${basename(place)}.resume`);

/** @param place of the target, free of symbolic links */
export const checkpointPath = (place: string): string => `${partialPath(place)}.json`;

/**
 * Opens and locks what an interrupted run has left, or makes it.
 * @throws {VolsealError} `ERR_STATE_BUSY` another run is at work on it; `ERR_RESUME` it is not ours alone; `ERR_IO`
 */
export function openPartial(path: string): Promise<FileHandle> {
  return holdOwnFile(path, constants.O_CREAT, (why) => cannotResume(path, why));
}

/**
 * Opens and locks a file of this user alone, for reading and writing.
 * @param create `constants.O_CREAT` where it is made if it is not there, 0 where that is an `ERR_IO` @param notOurs what to throw where others can write to it
 * @throws {VolsealError} `ERR_STATE_BUSY` another run holds it; what `notOurs` gives; `ERR_IO`
 */
export async function holdOwnFile(path: string, create: number, notOurs: (why: string) => VolsealError): Promise<FileHandle> {
  const flags = constants.O_RDWR | create | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await namingPath(path, () => open(path, flags, 0o600));
  try {
    native.fileLock(file.fd, true);
    const found = await file.stat();
    // In a folder that others may write to, somebody may have laid it there, to read or to change what comes into it.
    if (!found.isFile() || found.uid !== process.geteuid!() || (found.mode & 0o077) !== 0 || found.nlink > 1) {
      throw notOurs('it is no file of this user alone (owner, mode 0600, a single name)');
    }
    // The run that held it may have put it in its place, or removed it, in the meantime.
    const there = await stat(path).catch(() => undefined);
    if (there?.ino !== found.ino || there.dev !== found.dev) throw atWork(path);
    return file;
  } catch (error) {
    await file.close();
    if (error instanceof VolsealError && error.code === 'ERR_STATE_BUSY') throw atWork(path, error);
    throw withPath(error, path);
  }
}

const atWork = (path: string, cause?: unknown): VolsealError =>
  new VolsealError('ERR_STATE_BUSY', `${path}: another run is at work on this job`, { cause, details: { path } });

/** @param partial the file that an interrupted run has left @param why what does not fit, and what was expected */
export function cannotResume(partial: string, why: string): VolsealError {
  return new VolsealError(
    'ERR_RESUME',
    `${partial}: the interrupted job cannot go on: ${why}; remove this file and ${partial}.json, or run without --resume`,
    { details: { path: partial } },
  );
}
