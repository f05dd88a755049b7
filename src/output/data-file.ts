/**
 * The files that hold images and volumes: regular files and block devices. Anything else is refused, and the message
 * says what it is.
 */
import { type BigIntStats, constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import { NamedFile } from './named-file.js';

/**
 * Opens an image or a volume. O_NONBLOCK: a pipe that nobody writes to is refused and does not hang the caller.
 *
 * @param flags as for open(2)
 * @returns the open file, the caller's to close
 * @throws {VolsealError} `ERR_IO`; `ERR_ARGUMENT` with `details.kind` where it is a directory, a pipe ...
 */
export async function openDataFile(path: string, flags: number): Promise<NamedFile> {
  const file = await NamedFile.open(path, flags | constants.O_NONBLOCK);
  try {
    const found = await file.stat();
    if (found.isFile() || found.isBlockDevice()) return file;
    const kind = describeKind(found);
    throw new VolsealError('ERR_ARGUMENT', `${path}: is ${kind}; images and volumes are regular files or block devices`, {
      details: { path, kind },
    });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** What kind of file it is, in words, with its article. */
export function describeKind(found: BigIntStats): string {
  if (found.isFile()) return 'a regular file';
  if (found.isDirectory()) return 'a directory';
  if (found.isBlockDevice()) return 'a block device';
  if (found.isCharacterDevice()) return 'a character device';
  if (found.isFIFO()) return 'a pipe';
  return found.isSocket() ? 'a socket' : 'not a regular file';
}
