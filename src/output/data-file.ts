/**
 * The files that hold images and volumes: regular files and block devices. Anything else is refused, and the message
 * says what it is.
 */
import { type BigIntStats, constants } from 'node:fs';
import { findEntry, pathOfDescriptor } from '../directory-entry.js';
import { VolsealError } from '../errors.js';
import { refuseInPlace } from './in-place-mark.js';
import { NamedFile } from './named-file.js';

/**
 * Opens an image or a volume. For writing, a symbolic link of another user than the caller and root is refused; for
 * reading, only in a directory where anybody may make links. A device that is written to is opened for this process
 * alone.
 *
 * @param flags as for open(2) @param inPlace for the job that is in the middle of it
 * @returns the open file, the caller's to close
 * @throws {VolsealError} `ERR_IO`; `ERR_STATE_INTERRUPTED` a job in place is in the middle of it; `ERR_STATE_BUSY` a
 * device that is mounted or mapped; `ERR_ARGUMENT` with `details.kind` where it is a directory, a pipe ...
 */
export async function openDataFile(path: string, flags: number, { inPlace = false } = {}): Promise<NamedFile> {
  const writes = (flags & (constants.O_WRONLY | constants.O_RDWR)) !== 0;
  await using entry = await findEntry(path, writes ? 'write' : 'read');
  const { found } = entry;
  if (found === undefined) {
    const message = `${path}: open failed: ENOENT: no such file or directory, open '${entry.name}'`;
    throw new VolsealError('ERR_IO', message, { details: { errno: 'ENOENT', syscall: 'open', path } });
  }
  const isDevice = found.stats.isBlockDevice();
  if (!found.stats.isFile() && !isDevice) {
    const kind = describeKind(found.stats);
    throw new VolsealError('ERR_ARGUMENT', `${path}: is ${kind}; images and volumes are regular files or block devices`, {
      details: { path, kind },
    });
  }
  if (!inPlace && !isDevice) await refuseInPlace(entry.directory, entry.name, path, found.stats.uid);
  // The very file that was looked at.
  const opened = pathOfDescriptor(found.handle.fd);
  return await NamedFile.open(opened, flags | (isDevice && writes ? constants.O_EXCL : 0), { name: path }).catch((error: unknown) => {
    if (!(error instanceof VolsealError) || error.details.errno !== 'EBUSY') throw error;
    throw new VolsealError('ERR_STATE_BUSY', `${path}: is mounted, mapped, or another program holds it; volseal did not write to it`, {
      cause: error,
      details: { path },
    });
  });
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
