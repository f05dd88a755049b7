/**
 * A volume and its detached header are two files, and a run that replaces both can be killed in between: then the new header stands beside
 * the old volume, and would decrypt it to noise without a word.
 */
import type { FileHandle } from 'node:fs/promises';
import { realpath, stat } from 'node:fs/promises';
import { VolsealError } from '../errors.js';
import { type ReplacedPair, replacedPairs } from './leftovers.js';
import { ifThere } from './target-place.js';

/** @throws {VolsealError} `ERR_STATE_INTERRUPTED` with `details.backup`, the old header, and `details.successor`, the new volume */
export async function refuseHalfReplaced(
  { header, data }: { header: FileHandle; data: FileHandle },
  { headerPath, path }: { headerPath: string; path: string },
): Promise<void> {
  for (const pair of await pairsOf(headerPath, path)) {
    // A second name of what is in its place: the run was killed before it replaced the one, or after it had replaced the other.
    if (!(await isAnotherFile(pair.backup, header)) || !(await isAnotherFile(pair.successor, data))) continue;
    throw new VolsealError(
      'ERR_STATE_INTERRUPTED',
      `${headerPath}: a run that was to replace this header and ${path} was killed when it had replaced the header alone: the volume's own is ${pair.backup}`,
      { details: { path, header: headerPath, ...pair } },
    );
  }
}

async function pairsOf(headerPath: string, path: string): Promise<ReplacedPair[]> {
  try {
    return await replacedPairs(await realpath(headerPath), await realpath(path));
  } catch {
    return []; // who may not list the folder cannot have replaced anything in it either
  }
}

async function isAnotherFile(path: string, file: FileHandle): Promise<boolean> {
  const [there, own] = [await ifThere(path, () => stat(path)), await file.stat()];
  return there !== undefined && (there.ino !== own.ino || there.dev !== own.dev);
}
