/**
 * The WorkSpaces of a home: one transactional store, and a lock for each user, so that two processes never work on one
 * WorkSpace.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { asVolsealError, VolsealError } from '../errors.js';
import { defaultHome } from '../kms/shared/environment.js';
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
  /** Runs `work` while nobody else works for this user. @throws {VolsealError} `ERR_STATE_BUSY` */
  alone<Result>(user: Pick<WorkspaceRecord, 'sid' | 'directoryId'>, work: () => Promise<Result>): Promise<Result>;
  close(): Promise<void>;
}

/**
 * Opens the store in the directory `workspaces` of `home`.
 * @param home default: `$VOLSEAL_HOME`, else the user's data directory
 * @param mode whether it is made where there is none
 * @returns undefined where there is none, and none is made
 * @throws {VolsealError} `ERR_WORKSPACE_STORE`, `ERR_IO`
 */
export function openWorkspaces(home: string | undefined, mode: 'existing'): WorkspaceStore | undefined;
export function openWorkspaces(home: string | undefined, mode: 'create'): WorkspaceStore;
export function openWorkspaces(home: string = defaultHome(), mode: 'create' | 'existing'): WorkspaceStore | undefined {
  checkOwnDirectory(resolve(home));
  const directory = join(resolve(home), 'workspaces');
  const path = join(directory, 'state.mdb');
  if (mode === 'existing' && !existsSync(path)) return undefined;
  const records = openRecords(path, {
    name: 'the store of WorkSpaces',
    code: 'ERR_WORKSPACE_STORE',
    bytesMax: WORKSPACE_STORE_BYTES_MAX,
  });
  return {
    get(workspaceId) {
      records.refresh();
      const record = records.read(PREFIX + workspaceId, workspaceRecord);
      if (record !== undefined) return record;
      throw noWorkspace(workspaceId, home);
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
      const fd = lockFile(join(directory, `${name}.lock`), user);
      try {
        return await work();
      } finally {
        closeSync(fd);
      }
    },
    close: () => records.close(),
  };
}

/** The error for a WorkSpace that the store of `home` does not have. */
export const noWorkspace = (workspaceId: string, home: string = defaultHome()): VolsealError =>
  new VolsealError('ERR_WORKSPACE_NOT_FOUND', `there is no WorkSpace ${JSON.stringify(workspaceId)} in ${resolve(home)}`, {
    details: { workspaceId },
  });

function lockFile(path: string, { sid, directoryId }: Pick<WorkspaceRecord, 'sid' | 'directoryId'>): number {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'a', 0o600);
    native.fileLock(fd, true);
    return fd;
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw asVolsealError(error, path);
    throw new VolsealError(
      'ERR_STATE_BUSY',
      `another process is working on the WorkSpace of ${sid} in ${directoryId}; wait until it is done`,
      { details: { path } },
    );
  }
}
