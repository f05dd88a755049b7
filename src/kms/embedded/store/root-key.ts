/**
 * The root key of an embedded KMS: a file of 32 bytes. Every master key in the store is sealed under it.
 *
 * Whoever can read this file and the store can unwrap every data key. It is next to the store, with mode 0600. If it is
 * lost, so is every volume whose data key this KMS wrapped.
 */
import { closeSync, constants, fstatSync, linkSync, openSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { syncDirectorySync } from '../../../directories.js';
import { asVolsealError, VolsealError } from '../../../errors.js';
import { type KeyHandle, native } from '../../../native.js';
import { openOwnFile } from '../../../own-files.js';

const ROOT_KEY_BYTES = 32;

/**
 * The root key in `path`, in the vault; the caller wipes it.
 * @returns undefined where there is no such file
 * @throws {VolsealError} `ERR_KMS_STORE` where others may read the file or it is not 32 bytes long; `ERR_IO`,
 * `ERR_MEMORY_LOCK`
 */
export function readRootKey(path: string): KeyHandle | undefined {
  let fd: number;
  try {
    fd = openOwnFile(path, constants.O_RDONLY);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw asVolsealError(error, path);
  }
  try {
    const { mode, size } = fstatSync(fd);
    if ((mode & 0o077) !== 0) {
      throw new VolsealError(
        'ERR_KMS_STORE',
        `${path}: others may read the root key (mode ${(mode & 0o777).toString(8)}); if they must not have, run: chmod 600 ${path}`,
      );
    }
    if (size !== ROOT_KEY_BYTES)
      throw new VolsealError(
        'ERR_KMS_STORE',
        `${path}: the root key has ${size} bytes instead of ${ROOT_KEY_BYTES}; restore the file from a backup`,
      );
    return native.keyReadFile(fd, ROOT_KEY_BYTES);
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes a new root key in `path`, durable when this returns. The file appears whole or not at all, and an existing one
 * is never replaced. Only one process may do this at a time: the store calls it in a write transaction.
 * @throws {VolsealError} `ERR_IO`, `ERR_MEMORY_LOCK`
 */
export function createRootKey(path: string): KeyHandle {
  const draft = `${path}.new`;
  const key = native.keyGenerate(ROOT_KEY_BYTES);
  try {
    // What a killed process left here was never used as a root key, or is a second name of the real one.
    rmSync(draft, { force: true });
    const fd = openSync(draft, 'wx+', 0o600);
    try {
      native.keyWriteFile(fd, key);
    } finally {
      closeSync(fd);
    }
    linkSync(draft, path);
    rmSync(draft);
    syncDirectorySync(dirname(path));
    return key;
  } catch (error) {
    native.keyWipe(key);
    throw asVolsealError(error, path);
  }
}
