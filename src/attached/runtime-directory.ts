/**
 * The directory in which a user's attached volumes have their sockets and records: it does not outlive the machine's
 * start.
 */
import { mkdirSync, type Stats, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { asVolsealError } from '../errors.js';
import { checkPrivateDirectory } from '../own-files.js';

/**
 * `volseal` in the user's runtime directory: in `xdgRuntimeDirectory` or `/run/user/UID`, where one of these is the
 * caller's own (XDG Base Directory Specification), else `/tmp/volseal-UID`. It is made (0700) where it does not exist.
 *
 * @param xdgRuntimeDirectory `$XDG_RUNTIME_DIR`
 * @throws {VolsealError} `ERR_IO`: it belongs to another user, or others may enter it
 */
export function runtimeDirectory(xdgRuntimeDirectory: string | undefined): string {
  const uid = process.geteuid?.() ?? 0;
  const parent = [xdgRuntimeDirectory, `/run/user/${uid}`].find((path) => path !== undefined && isAbsolute(path) && isOwn(path, uid));
  const path = parent === undefined ? `/tmp/volseal-${uid}` : join(parent, 'volseal');
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw asVolsealError(error, path);
  }
  // In /tmp, anybody may have been quicker.
  checkPrivateDirectory(path);
  return path;
}

/** After `sudo -E` the variable names the directory of another user, which must not be used. */
function isOwn(path: string, uid: number): boolean {
  let stats: Stats | undefined;
  try {
    stats = statSync(path, { throwIfNoEntry: false });
  } catch {
    return false; // a directory that the caller may not even enter
  }
  return stats?.isDirectory() === true && stats.uid === uid;
}
