/** Where WorkSpaces are kept: one transactional store in a home, and a lock for each WorkSpace's user, so that two processes never work on one. */
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { asVolsealError, VolsealError } from '../errors.js';
import { defaultHome } from '../kms/shared/endpoint.js';
import { WORKSPACE_STORE_BYTES_MAX } from '../limits.js';
import { openRecords } from '../lmdb/records.js';
import { native } from '../native.js';
import { checkOwnDirectory } from '../own-files.js';
import { type WorkspaceRecord, workspaceRecord } from './record.js';

const PREFIX = 'workspace/';

export interface WorkspaceStore {
  /** @throws {VolsealError} `ERR_WORKSPACE_NOT_FOUND` */
  get(workspaceId: string): WorkspaceRecord;
  all(): WorkspaceRecord[];
  /** Durable when this returns. */
  put(record: WorkspaceRecord): void;
  remove(workspaceId: string): void;
  /** Runs `work` as the only one that works for this user. @throws {VolsealError} `ERR_STATE_BUSY` */
  alone<Result>(user: Pick<WorkspaceRecord, 'sid' | 'directoryId'>, work: () => Promise<Result>): Promise<Result>;
  close(): Promise<void>;
}

/**
 * Opens the store in the folder `workspaces` of `home`, and makes it where there is none.
 * @param home Default: the user's data folder.
 * @throws {VolsealError} `ERR_WORKSPACE_STORE`, `ERR_IO`
 */
export function openWorkspaces(home: string = defaultHome()): WorkspaceStore {
  checkOwnDirectory(resolve(home));
  const folder = join(resolve(home), 'workspaces');
  const records = openRecords(join(folder, 'state.mdb'), {
    name: 'the store of WorkSpaces',
    code: 'ERR_WORKSPACE_STORE',
    bytesMax: WORKSPACE_STORE_BYTES_MAX,
  });
  return {
    get(workspaceId) {
      records.refresh();
      const record = records.read(PREFIX + workspaceId, workspaceRecord);
      if (record !== undefined) return record;
      throw new VolsealError('ERR_WORKSPACE_NOT_FOUND', `there is no WorkSpace ${JSON.stringify(workspaceId)} in ${folder}`, {
        details: { workspaceId },
      });
    },
    all() {
      records.refresh();
      return records.range(PREFIX).map((key) => records.required(key, workspaceRecord));
    },
    put: (record) => records.put(PREFIX + record.workspaceId, record),
    remove: (workspaceId) => records.remove(PREFIX + workspaceId),
    async alone(user, work) {
      const name = createHash('sha256')
        .update(JSON.stringify([user.sid, user.directoryId]))
        .digest('hex')
        .slice(0, 32);
      const fd = lockFile(join(folder, `${name}.lock`), user);
      try {
        return await work();
      } finally {
        closeSync(fd);
      }
    },
    close: () => records.close(),
  };
}

function lockFile(path: string, { sid, directoryId }: Pick<WorkspaceRecord, 'sid' | 'directoryId'>): number {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'a', 0o600);
    native.fileLock(fd, true);
    return fd;
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw asVolsealError(error, path);
    throw new VolsealError('ERR_STATE_BUSY', `another process works on the WorkSpace of ${sid} in ${directoryId}`, { details: { path } });
  }
}
