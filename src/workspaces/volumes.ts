/** The volumes of a WorkSpace: made, opened and deleted as EBS, with the rights of their grants. Steps 3 to 7. */

import { type FileHandle, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { syncDirectory } from '../directories.js';
import { asVolsealError, namingPath, VolsealError, withPath } from '../errors.js';
import { createVolume, encryptImage, type NewVolumeOptions } from '../jobs/encrypt.js';
import { native } from '../native.js';
import { staleFilesOf } from '../output/temporary-files.js';
import { type AttachOptions, attach } from '../volume/attach.js';
import { describeVolume } from '../volume/info.js';
import type { Volume } from '../volume/volume.js';
import type { WorkspaceRecord, WorkspaceVolume } from './record.js';
import { tokensOf, userContext } from './services.js';

/** Steps 3 and 4: a data key under the user's and the volume's context, and the volume under it. Does nothing where that was done before. */
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

/** Whether the file is this very volume: a target appears whole or not at all. What else lies there, the making of the volume refuses. */
async function isMade({ path, volumeId }: WorkspaceVolume): Promise<boolean> {
  try {
    return (await describeVolume(path)).volumeId === volumeId;
  } catch (error) {
    if (error instanceof VolsealError) return false;
    throw error;
  }
}

/** Steps 5 to 7: the data key is unwrapped into the vault, for as long as the volume is attached. */
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
 * Holds the files of `volumes`, as far as they are there, against everybody else while `work` runs.
 * @throws {VolsealError} `ERR_STATE_BUSY`: one is attached, and nothing was done; `ERR_IO`
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

/** Deletes a volume's file, and what a killed process has left of its making. The name holds the volume's id: it is nobody else's. @throws {VolsealError} `ERR_IO` */
export async function deleteVolume({ path }: WorkspaceVolume): Promise<void> {
  try {
    await removePartials({ path });
    await namingPath(path, () => rm(path, { force: true }));
    await syncDirectory(dirname(path));
  } catch (error) {
    // A folder that is gone has nothing in it.
    if (!(error instanceof VolsealError) || error.details.errno !== 'ENOENT') throw error;
  }
}

/** Whoever works on a WorkSpace is alone with it. One of these may be the volume itself by another name, for a moment of its making. */
async function removePartials({ path }: Pick<WorkspaceVolume, 'path'>): Promise<void> {
  for (const name of await staleFilesOf(path)) await namingPath(name, () => rm(name, { force: true }));
}

const accessOf = ({ services }: WorkspaceRecord, { grant }: WorkspaceVolume) => ({ principal: services.ebs, grantTokens: tokensOf(grant) });
