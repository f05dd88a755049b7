/** Steps 3 to 7: the volumes of a WorkSpace, made, attached and deleted as EBS, with the rights of their grants. */

import { type FileHandle, open, rm } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { syncDirectory } from '../directories.js';
import { directoryOf } from '../directory-entry.js';
import { asVolsealError, namingPath, VolsealError, withPath } from '../errors.js';
import { createVolume, encryptImage, type NewVolumeOptions } from '../jobs/encrypt.js';
import { native } from '../native.js';
import { realPathOf } from '../output/resolve-target.js';
import { removeTemporaryFiles } from '../output/temporary-files.js';
import { type AttachOptions, attach } from '../volume/attach.js';
import { describeVolume } from '../volume/describe.js';
import type { Volume } from '../volume/volume.js';
import type { WorkspaceRecord, WorkspaceVolume } from './record.js';
import { tokensOf, userContext } from './services.js';

/**
 * Steps 3 and 4: makes the data key, under the user's and the volume's context, and the volume. Does nothing if the
 * volume exists.
 */
export async function makeVolume(
  record: WorkspaceRecord,
  volume: WorkspaceVolume,
  job: Pick<NewVolumeOptions, 'home' | 'signal' | 'onProgress'>,
): Promise<void> {
  await removePartials(volume);
  if (await isMade(volume)) return;
  const options: NewVolumeOptions = {
    ...job,
    kms: record.kms,
    key: record.keyArn,
    volumeId: volume.volumeId,
    encryptionContext: userContext(record),
    kmsAccess: accessOf(record, volume),
  };
  if (volume.image !== undefined) await encryptImage(volume.image, volume.path, { ...options, pad: true });
  else await createVolume(volume.path, { ...options, sizeBytes: volume.sizeBytes! });
}

/**
 * Whether the file is this very volume: an output file is published complete. Another file at its path is refused when
 * the volume is made.
 */
async function isMade({ path, volumeId }: WorkspaceVolume): Promise<boolean> {
  try {
    return (await describeVolume(path)).volumeId === volumeId;
  } catch (error) {
    if (error instanceof VolsealError) return false;
    throw error;
  }
}

/** Steps 5 to 7: KMS unwraps the data key into the vault, where it stays while the volume is attached. */
export function attachVolume(
  record: WorkspaceRecord,
  volume: WorkspaceVolume,
  options: Pick<AttachOptions, 'home' | 'readOnly' | 'signal'>,
): Promise<Volume> {
  const { kms } = record;
  const expected = { ...userContext(record), [VOLUME_ID_CONTEXT_KEY]: volume.volumeId };
  return attach(volume.path, { ...options, kms, encryptionContext: expected, kmsAccess: accessOf(record, volume) });
}

/**
 * Locks the files of `volumes` that exist while `work` runs.
 * @throws {VolsealError} `ERR_STATE_BUSY`: one is attached, and `work` did not run; `ERR_IO`
 */
export async function whileDetached<Result>(volumes: readonly WorkspaceVolume[], work: () => Promise<Result>): Promise<Result> {
  const held: FileHandle[] = [];
  try {
    for (const { path } of volumes) {
      const file = await open(path, 'r+').catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw asVolsealError(error, path);
      });
      if (file === undefined) continue;
      held.push(file);
      holdAlone(file, path);
    }
    return await work();
  } finally {
    for (const file of held) await file.close();
  }
}

function holdAlone(file: FileHandle, path: string): void {
  try {
    native.fileLock(file.fd, true);
  } catch (error) {
    if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw withPath(error, path);
    throw new VolsealError('ERR_STATE_BUSY', `${path}: is attached; detach the WorkSpace first`, { cause: error, details: { path } });
  }
}

/**
 * Deletes a volume's file, and the temporary files of a killed process. The file name contains the volume's id, so it
 * is nobody else's. @throws {VolsealError} `ERR_IO`
 */
export async function deleteVolume({ path }: WorkspaceVolume): Promise<void> {
  try {
    await removePartials({ path });
    await namingPath(path, () => rm(path, { force: true }));
    await syncDirectory(dirname(path));
  } catch (error) {
    // The directory does not exist any more.
    if (!(error instanceof VolsealError) || error.details.errno !== 'ENOENT') throw error;
  }
}

/**
 * Removes stale temporary files. The caller holds the WorkSpace's lock. One of them may be the volume itself under a
 * second name.
 */
async function removePartials({ path }: Pick<WorkspaceVolume, 'path'>): Promise<void> {
  const realPath = await realPathOf(path);
  await using directory = await directoryOf(realPath);
  await removeTemporaryFiles(directory, basename(realPath));
}

const accessOf = ({ services }: WorkspaceRecord, { grant }: WorkspaceVolume) => ({ principal: services.ebs, grantTokens: tokensOf(grant) });
