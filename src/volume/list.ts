/** The volumes of a directory, by their headers. Needs no key and asks no KMS. */
import { opendir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { namingPath, VolsealError } from '../errors.js';
import { describeVolumeFile, type VolumeInfo } from './info.js';

/** A file of the directory that has a LUKS2 header: described, or with the reason why that cannot be done. */
export type ListedVolume =
  | { readonly path: string; readonly info: VolumeInfo; readonly error: undefined }
  | {
      readonly path: string;
      readonly info: undefined;
      /** A damaged header, one that is not volseal's, a detached one whose data is elsewhere, an unreadable file. */
      readonly error: VolsealError;
    };

/**
 * Lists the volumes among the regular files of `directory`, by name; directories in it are not entered. Files without
 * a LUKS2 header are left out.
 *
 * @throws {VolsealError} `ERR_IO` where the directory cannot be read; `ERR_ABORTED`
 */
export async function listVolumes(directory: string, options: { signal?: AbortSignal | undefined } = {}): Promise<ListedVolume[]> {
  const names = await namingPath(directory, async () => {
    const found: string[] = [];
    for await (const entry of await opendir(directory)) found.push(entry.name);
    return found.sort();
  });
  const listed: ListedVolume[] = [];
  for (const name of names) {
    if (options.signal?.aborted) throw new VolsealError('ERR_ABORTED', `${directory}: stopped; nothing was changed`);
    const volume = await listedFile(join(directory, name));
    if (volume !== undefined) listed.push(volume);
  }
  return listed;
}

/** Undefined for what is no volume. */
async function listedFile(path: string): Promise<ListedVolume | undefined> {
  // A link that leads nowhere and a file that is gone by now are no volumes.
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) return undefined;
  try {
    return { path, info: await describeVolumeFile(path), error: undefined };
  } catch (error) {
    if (!(error instanceof VolsealError)) throw error;
    return error.code === 'ERR_NOT_A_VOLUME' ? undefined : { path, info: undefined, error };
  }
}
