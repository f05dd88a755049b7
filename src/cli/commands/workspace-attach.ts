/**
 * `volseal workspace attach`, `detach` and `reboot`: both volumes of a WorkSpace, served by a process each. Steps 5 to
 * 8.
 */
import { Command } from 'commander';
import type { Attachment } from '../../attached/attachments.js';
import type { LaunchedVolume } from '../../attached/launch.js';
import type { AttachmentRecord } from '../../attached/record.js';
import { VolsealError } from '../../errors.js';
import { type Session, withJson } from '../options.js';
import { ownRuntimeDirectory } from '../runtime.js';
import { alignedRows, withExamples } from '../terminal/output.js';
import { programFile } from './attach.js';

const WORKSPACE = 'its id, ws-...';
const VOLUMES = ['root', 'user'] as const;

/** `workspace attach`; `session` is what it runs with. */
export function attachWorkspaceCommand({ output, signal }: Session): Command {
  const command = new Command('attach')
    .description('attach both volumes, each served over NBD by a process of its own, until workspace detach')
    .argument('<workspace>', WORKSPACE)
    .option('--read-only', 'clients may only read');
  withExamples(withJson(command), ['volseal workspace attach ws-abcdefghi']);
  return command.action(async (workspaceId: string, { readOnly = false }: { readOnly?: boolean }) => {
    const attached = await attachBoth(workspaceId, { readOnly, signal });
    output.result({ workspaceId, ...attached }, linesOf(attached));
  });
}

/** `workspace detach`; `session` is what it runs with. */
export function detachWorkspaceCommand({ output }: Session): Command {
  const command = new Command('detach')
    .description('detach both volumes: flush them and wipe their keys; refused while clients are connected')
    .argument('<workspace>', WORKSPACE)
    .option('--force', 'also while clients are connected: their requests get 5 s, then they are cut off');
  withExamples(withJson(command), ['volseal workspace detach ws-abcdefghi']);
  return command.action(async (workspaceId: string, { force = false }: { force?: boolean }) => {
    await detachBoth(workspaceId, await requireAttached(workspaceId), force);
    output.result({ workspaceId, detached: true }, [`${workspaceId}: both volumes are detached`]);
  });
}

/** `workspace reboot`; `session` is what it runs with. */
export function rebootWorkspaceCommand({ output, signal }: Session): Command {
  const command = new Command('reboot')
    .description('detach both volumes and attach them again from the stored data keys, as a reboot of the desktop does')
    .argument('<workspace>', WORKSPACE)
    .option('--force', 'also while clients are connected');
  withExamples(withJson(command), ['volseal workspace reboot ws-abcdefghi']);
  return command.action(async (workspaceId: string, { force = false }: { force?: boolean }) => {
    const before = await requireAttached(workspaceId);
    await detachBoth(workspaceId, before, force);
    const attached = await attachBoth(workspaceId, { readOnly: before.every(({ readOnly }) => readOnly), signal });
    output.result({ workspaceId, rebooted: true, ...attached }, linesOf(attached));
  });
}

/**
 * The attached volumes of a WorkSpace, with what their clients do. @throws {VolsealError} `ERR_WORKSPACE_*`, `ERR_IO`
 */
export async function attachmentsOfWorkspace(workspaceId: string): Promise<Attachment[]> {
  const [{ describeWorkspace }, { listAttachments, realPathOf }] = await Promise.all([
    import('../../workspaces/lifecycle.js'),
    import('../../attached/attachments.js'),
  ]);
  const { rootVolume, userVolume } = await describeWorkspace(workspaceId);
  const paths = [realPathOf(rootVolume.path), realPathOf(userVolume.path)];
  return (await listAttachments(ownRuntimeDirectory())).filter(({ path }) => paths.includes(path));
}

/**
 * Detaches the volumes of a WorkSpace; if any has clients and this is not forced, none.
 * @throws {VolsealError} `ERR_STATE_BUSY`, and as `detachVolume`
 */
export async function detachBoth(workspaceId: string, attached: readonly Attachment[], force: boolean): Promise<void> {
  const inUse = attached.filter(({ status }) => status !== null && status.clients > 0);
  if (inUse.length > 0 && !force) {
    throw new VolsealError('ERR_STATE_BUSY', `${workspaceId}: clients are connected to ${inUse.map(({ path }) => path).join(' and ')}`, {
      details: { workspaceId, clients: inUse.reduce((sum, { status }) => sum + (status?.clients ?? 0), 0) },
    });
  }
  const { detachVolume } = await import('../../attached/attachments.js');
  const outcomes = await Promise.allSettled(attached.map(({ uri }) => detachVolume(ownRuntimeDirectory(), uri, force)));
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

async function requireAttached(workspaceId: string): Promise<Attachment[]> {
  const attached = await attachmentsOfWorkspace(workspaceId);
  if (attached.length > 0) return attached;
  throw new VolsealError('ERR_STATE_DETACHED', `${workspaceId} is not attached`, { details: { workspaceId } });
}

interface AttachedBoth {
  rootVolume: AttachmentRecord;
  userVolume: AttachmentRecord;
}

/** Both or none. @throws {VolsealError} as `attachWorkspaceVolume` and `launchServing` */
async function attachBoth(workspaceId: string, { readOnly, signal }: { readOnly: boolean; signal: AbortSignal }): Promise<AttachedBoth> {
  const { launchServing } = await import('../../attached/launch.js');
  const directory = ownRuntimeDirectory();
  const launched = await Promise.allSettled(
    VOLUMES.map((which) =>
      launchServing(
        programFile(),
        ['attach-process', `${workspaceId} ${which}`],
        { directory, volume: { kind: 'workspace', workspaceId, which }, readOnly },
        signal,
      ),
    ),
  );
  const ready = launched.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  const failure = launched.find((outcome) => outcome.status === 'rejected');
  if (failure !== undefined) {
    await Promise.all(ready.map((volume) => volume.end()));
    throw failure.reason;
  }
  const [root, user] = ready as [LaunchedVolume, LaunchedVolume];
  await Promise.all([root.keep(), user.keep()]);
  return { rootVolume: root.record, userVolume: user.record };
}

const linesOf = ({ rootVolume, userVolume }: AttachedBoth): string[] =>
  alignedRows([
    ['root volume', rootVolume.uri],
    ['user volume', userVolume.uri],
  ]);
