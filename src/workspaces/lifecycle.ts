/**
 * The life of a WorkSpace, step by step. Each step is recorded before it runs, with the names that it will use, and
 * after it, with its result: whatever ends the process between two steps, the same call resumes there, and
 * `terminateWorkspace` undoes them.
 */
import { messageOf, VolsealError } from '../errors.js';
import type { JobOptions } from '../transfer/transform.js';
import type { Volume } from '../volume/volume.js';
import { newVolumeId } from '../volume/volume-id.js';
import { type CreateWorkspaceOptions, checkUser, kmsOf, planned, resumable, type WorkspaceHome } from './plan.js';
import type { WorkspaceRecord, WorkspaceVolume } from './record.js';
import {
  type As,
  askerFor,
  grantToEbs,
  grantToWorkspaces,
  type KmsOfWorkspace,
  retireEbsGrant,
  retireWorkspacesGrant,
  withKms,
} from './services.js';
import { noWorkspace, openWorkspaces, type WorkspaceStore } from './state.js';
import { attachVolume, deleteVolume, makeVolume, whileDetached } from './volumes.js';

type WorkspaceJob = WorkspaceHome & JobOptions;

/** The description of a WorkSpace. It never contains a grant token. */
export interface WorkspaceInfo {
  /** `ws-` and 9 characters. */
  workspaceId: string;
  /** How far the life of the WorkSpace has come. */
  state: WorkspaceRecord['state'];
  /** The user's security identifier. */
  sid: string;
  /** The directory that knows the user. */
  directoryId: string;
  /** ARN of the KMS key. */
  keyArn: string;
  /** The volume with the operating system. */
  rootVolume: { volumeId: string; path: string };
  /** The volume with the user's data. */
  userVolume: { volumeId: string; path: string };
  /** Grants that exist now. */
  grantIds: string[];
  /** ISO 8601, UTC. */
  created: string;
}

/** Both volumes of a WorkSpace, attached; the caller detaches them. */
export interface AttachedWorkspace {
  /** The root volume. */
  readonly root: Volume;
  /** The user volume. */
  readonly user: Volume;
  /** Detaches both volumes. @throws {VolsealError} as `Volume.detach` */
  detach(): Promise<void>;
}

/**
 * Makes a WorkSpace: steps 1 to 4. A user has at most one in a directory. If an earlier call began one with the same
 * options, it is finished.
 *
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_WORKSPACE_STATE` (the user has one), `ERR_STATE_BUSY`, `ERR_KMS_*`, and
 * as `encryptImage`; after an error no grant and no volume is left
 */
export async function createWorkspace(options: CreateWorkspaceOptions): Promise<WorkspaceInfo> {
  checkUser(options);
  const store = openWorkspaces(options.home, 'create');
  return closing(store, () =>
    store.alone(options, async () => {
      const known = store.all().find(({ sid, directoryId }) => sid === options.sid && directoryId === options.directoryId);
      const kms = known?.kms ?? kmsOf(options);
      return withKms({ kms, home: options.home, create: true }, async (session) => {
        const record = known === undefined ? await planned(options, kms, session) : resumable(known, options);
        if (known === undefined) store.put(record);
        try {
          return infoOf(await finishCreating(store, record, askerFor(session, record, options.signal), options));
        } catch (error) {
          await undo(store, record.workspaceId, error, session);
          throw error;
        }
      });
    }),
  );
}

/** All WorkSpaces of a home. @throws {VolsealError} `ERR_WORKSPACE_STORE` */
export const listWorkspaces = (options: WorkspaceHome = {}): Promise<WorkspaceInfo[]> =>
  inStore(
    options,
    async (store) => store.all().map(infoOf),
    () => [],
  );

/** One WorkSpace. @throws {VolsealError} `ERR_WORKSPACE_NOT_FOUND`, `ERR_WORKSPACE_STORE` */
export const describeWorkspace = (workspaceId: string, options: WorkspaceHome = {}): Promise<WorkspaceInfo> =>
  inStore(
    options,
    async (store) => infoOf(store.get(workspaceId)),
    () => missing(workspaceId, options),
  );

/**
 * Attaches both volumes: steps 5 to 7.
 * @throws {VolsealError} `ERR_WORKSPACE_*`, and as `attach`; after an error neither volume is attached
 */
export async function attachWorkspace(
  workspaceId: string,
  options: WorkspaceHome & { readOnly?: boolean | undefined; signal?: AbortSignal | undefined } = {},
): Promise<AttachedWorkspace> {
  const record = await inStore(
    options,
    async (store) => readyOne(store, workspaceId),
    () => missing(workspaceId, options),
  );
  const { home, readOnly, signal } = options;
  return withKms({ kms: record.kms, home }, async () => {
    const root = await attachVolume(record, record.root, { home, readOnly, signal });
    try {
      const user = await attachVolume(record, record.user, { home, readOnly, signal });
      const detach = async (): Promise<void> => {
        // Both, even if the first one fails.
        const outcomes = await Promise.allSettled([root.detach(), user.detach()]);
        for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
      };
      return { root, user, detach };
    } catch (error) {
      await root.detach();
      throw error;
    }
  });
}

/**
 * Attaches one of the two volumes: steps 5 to 7 for a process that serves it alone.
 * @returns the volume, the caller's to detach, and the path of its file
 * @throws {VolsealError} as `attachWorkspace`
 */
export async function attachWorkspaceVolume(
  workspaceId: string,
  which: 'root' | 'user',
  options: WorkspaceHome & { readOnly?: boolean | undefined; signal?: AbortSignal | undefined } = {},
): Promise<{ volume: Volume; path: string }> {
  const record = await inStore(
    options,
    async (store) => readyOne(store, workspaceId),
    () => missing(workspaceId, options),
  );
  return { volume: await attachVolume(record, record[which], options), path: record[which].path };
}

/**
 * Step 8: detaches and attaches again, from the encrypted data keys in the volumes' headers. @throws {VolsealError} as
 * `attachWorkspace`
 */
export async function rebootWorkspace(
  workspaceId: string,
  attached: AttachedWorkspace,
  options: WorkspaceHome & { signal?: AbortSignal | undefined } = {},
): Promise<AttachedWorkspace> {
  await attached.detach();
  return attachWorkspace(workspaceId, options);
}

/**
 * Makes a new root volume from its image, with a data key and a grant of its own; the user volume stays. The old root
 * volume is kept until the new one is complete. A rebuild that an earlier call began is finished.
 *
 * @throws {VolsealError} `ERR_WORKSPACE_*`, `ERR_STATE_BUSY` (a volume is attached), `ERR_KMS_*`, and as
 * `encryptImage`; before the new volume is complete, the old one stays
 */
export async function rebuildWorkspace(workspaceId: string, options: WorkspaceJob = {}): Promise<WorkspaceInfo> {
  const work = (store: WorkspaceStore) =>
    store.alone(store.get(workspaceId), async () => {
      const record = rebuildable(store, workspaceId);
      await whileDetached([record.root, record.user], async () => {});
      return withKms({ kms: record.kms, home: options.home }, async (session) => {
        const as = askerFor(session, record, options.signal);
        const begun =
          record.newRoot === undefined && record.oldRoot === undefined ? { ...record, newRoot: successorOf(record.root) } : record;
        let current: WorkspaceRecord = { ...begun, state: 'rebuilding' };
        store.put(current);
        try {
          current = await buildNewRoot(store, as, current, options);
        } catch (error) {
          // Without the caller's signal: it may be what ended the work.
          await undoNewRoot(store, askerFor(session, record), current);
          throw error;
        }
        return infoOf(await removeOldRoot(store, as, current));
      });
    });
  return inStore(options, work, () => missing(workspaceId, options));
}

/**
 * Ends a WorkSpace in any state: deletes its volumes and retires its grants (step 9). After an interruption, the same
 * call finishes it.
 * @throws {VolsealError} `ERR_WORKSPACE_NOT_FOUND`, `ERR_STATE_BUSY` (a volume is attached: nothing was done),
 * `ERR_KMS_*`, `ERR_IO`
 */
export async function terminateWorkspace(
  workspaceId: string,
  options: WorkspaceHome & { signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const { home, signal } = options;
  const work = (store: WorkspaceStore) =>
    store.alone(store.get(workspaceId), async () => {
      const record = store.get(workspaceId);
      await withKms({ kms: record.kms, home }, (session) => remove(store, record, askerFor(session, record, signal)));
    });
  await inStore(options, work, () => missing(workspaceId, options));
}

/** Runs `work` with the store, or `otherwise` where there is none. */
async function inStore<Result>(
  { home }: WorkspaceHome,
  work: (store: WorkspaceStore) => Promise<Result>,
  otherwise: () => Result,
): Promise<Result> {
  const store = openWorkspaces(home, 'existing');
  return store === undefined ? otherwise() : closing(store, () => work(store));
}

async function closing<Result>(store: WorkspaceStore, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } finally {
    await store.close();
  }
}

function missing(workspaceId: string, { home }: WorkspaceHome): never {
  throw noWorkspace(workspaceId, home);
}

/** Does what is left of steps 1 to 4. */
async function finishCreating(store: WorkspaceStore, begun: WorkspaceRecord, as: As, job: WorkspaceJob): Promise<WorkspaceRecord> {
  let record = begun;
  const update = (changes: Partial<WorkspaceRecord>): void => {
    record = { ...record, ...changes };
    store.put(record);
  };
  if (record.grant.grantId === undefined) update({ grant: { ...record.grant, ...(await grantToWorkspaces(as, record)) } });
  for (const name of ['root', 'user'] as const) {
    const volume = record[name];
    if (volume.grant.grantId === undefined) {
      update({ [name]: { ...volume, grant: { ...volume.grant, ...(await grantToEbs(as, record, volume)) } } });
    }
  }
  for (const name of ['root', 'user'] as const) await makeVolume(record, record[name], job);
  update({ state: 'ready' });
  return record;
}

/** Undoes a creation that failed. If that fails too, the record stays, and `terminateWorkspace` finishes it. */
async function undo(store: WorkspaceStore, workspaceId: string, cause: unknown, session: KmsOfWorkspace): Promise<void> {
  const record = store.get(workspaceId);
  try {
    // Without the caller's signal: it may be what ended the work.
    await remove(store, record, askerFor(session, record));
  } catch (error) {
    const said = messageOf(cause);
    throw new VolsealError(
      'ERR_WORKSPACE_STATE',
      `${said}; and ${workspaceId} could not be undone: ${(error as Error).message}; volseal workspace terminate ${workspaceId} --yes finishes that`,
      { cause: error, details: { workspaceId, state: 'terminating' } },
    );
  }
}

/** Step 9. Volumes first: a forgotten grant does less harm than a forgotten volume. */
async function remove(store: WorkspaceStore, record: WorkspaceRecord, as: As): Promise<void> {
  const volumes = [record.root, record.user, record.newRoot, record.oldRoot].filter((volume) => volume !== undefined);
  await whileDetached(volumes, async () => {
    store.put({ ...record, state: 'terminating' });
    for (const volume of volumes) await deleteVolume(volume);
  });
  for (const volume of volumes) await retireEbsGrant(as, record, volume);
  await retireWorkspacesGrant(as, record);
  store.remove(record.workspaceId);
}

function readyOne(store: WorkspaceStore, workspaceId: string): WorkspaceRecord {
  const record = store.get(workspaceId);
  if (record.state !== 'ready') throw unfinished(record);
  return record;
}

function rebuildable(store: WorkspaceStore, workspaceId: string): WorkspaceRecord {
  const record = store.get(workspaceId);
  if (record.state !== 'ready' && record.state !== 'rebuilding') throw unfinished(record);
  return record;
}

const unfinished = ({ workspaceId, state }: WorkspaceRecord): VolsealError =>
  new VolsealError('ERR_WORKSPACE_STATE', `${workspaceId} is ${state}: an earlier command did not finish`, {
    details: { workspaceId, state },
  });

function successorOf({ path, volumeId, image, sizeBytes, grant }: WorkspaceVolume): WorkspaceVolume {
  const nextId = newVolumeId();
  const origin = { ...(image === undefined ? {} : { image }), ...(sizeBytes === undefined ? {} : { sizeBytes }) };
  return { volumeId: nextId, path: path.replace(volumeId, nextId), ...origin, grant: { name: grant.name.replace(volumeId, nextId) } };
}

/** Makes the new root volume. @returns the record that names it as the root volume */
async function buildNewRoot(store: WorkspaceStore, as: As, begun: WorkspaceRecord, job: WorkspaceJob): Promise<WorkspaceRecord> {
  const { newRoot, ...record } = begun;
  if (newRoot === undefined) return begun;
  const granted =
    newRoot.grant.grantId !== undefined ? newRoot : { ...newRoot, grant: { ...newRoot.grant, ...(await grantToEbs(as, begun, newRoot)) } };
  store.put({ ...record, newRoot: granted });
  await makeVolume(record, granted, job);
  const next = { ...record, root: granted, oldRoot: record.root };
  store.put(next);
  return next;
}

async function undoNewRoot(store: WorkspaceStore, as: As, { workspaceId }: WorkspaceRecord): Promise<void> {
  const { newRoot, ...record } = store.get(workspaceId);
  if (newRoot === undefined) return;
  await deleteVolume(newRoot);
  await retireEbsGrant(as, record, newRoot);
  store.put({ ...record, state: 'ready' });
}

async function removeOldRoot(store: WorkspaceStore, as: As, rebuilt: WorkspaceRecord): Promise<WorkspaceRecord> {
  const { oldRoot, ...record } = rebuilt;
  if (oldRoot !== undefined) {
    await whileDetached([oldRoot], () => deleteVolume(oldRoot));
    await retireEbsGrant(as, record, oldRoot);
  }
  const ready: WorkspaceRecord = { ...record, state: 'ready' };
  store.put(ready);
  return ready;
}

function infoOf({ workspaceId, state, sid, directoryId, keyArn, root, user, grant, created }: WorkspaceRecord): WorkspaceInfo {
  const volume = ({ volumeId, path }: WorkspaceVolume) => ({ volumeId, path });
  const grantIds = [grant, root.grant, user.grant].flatMap(({ grantId }) => grantId ?? []);
  return { workspaceId, state, sid, directoryId, keyArn, rootVolume: volume(root), userVolume: volume(user), grantIds, created };
}
