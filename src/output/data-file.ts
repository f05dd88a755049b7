/** The files that hold images and volumes: regular files and block devices. Anything else is refused by its name. */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { namingPath, VolsealError, withPath } from '../errors.js';
import { native } from '../native.js';

/**
 * Opens an image or a volume. A pipe that nobody writes to does not hang the caller: it is refused.
 *
 * @param flags as for open(2)
 * @returns the open file, the caller's to close
 * @throws {VolsealError} `ERR_IO`; `ERR_ARGUMENT` with `details.kind` where it is a folder, a pipe ...
 */
export async function openDataFile(path: string, flags: number): Promise<FileHandle> {
  const file = await namingPath(path, () => open(path, flags | constants.O_NONBLOCK));
  try {
    const found = await namingPath(path, () => file.stat());
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

/** Bytes of an open image or volume. @throws {VolsealError} `ERR_IO` */
export function dataFileBytes(file: FileHandle, path: string): number {
  try {
    return native.fileSize(file.fd);
  } catch (error) {
    throw withPath(error, path);
  }
}

/** What stands at a path, in words, with its article. */
export function describeKind(found: Stats): string {
  if (found.isFile()) return 'a regular file';
  if (found.isDirectory()) return 'a folder';
  if (found.isBlockDevice()) return 'a block device';
  if (found.isCharacterDevice()) return 'a character device';
  if (found.isFIFO()) return 'a pipe';
  return found.isSocket() ? 'a socket' : 'no regular file';
}
