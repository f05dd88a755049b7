/**
 * `volseal workspace`: the root and the user volume of a user's desktop, and the grants between administrator,
 * WorkSpaces and EBS.
 */
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import type { WorkspaceInfo } from '../../workspaces/lifecycle.js';
import type { VolumeOrigin } from '../../workspaces/plan.js';
import { type Session, sizeArgument, withJson, withKms, withProgress } from '../options.js';
import { alignedRows, withExamples } from '../terminal/output.js';
import { reportProgress } from '../terminal/progress.js';
import {
  attachmentsOfWorkspace,
  attachWorkspaceCommand,
  detachBoth,
  detachWorkspaceCommand,
  rebootWorkspaceCommand,
} from './workspace-attach.js';

interface CreateFlags {
  sid: string;
  directory: string;
  folder: string;
  rootImage?: string;
  rootSize?: number;
  userImage?: string;
  userSize?: number;
  key?: string;
  kms?: string;
  administrator?: string;
  workspacesRole?: string;
  ebsRole?: string;
  progress?: boolean;
}

const WORKSPACE = 'its id, ws-...';

/** The command with its subcommands; `session` is what they run with. */
export function workspaceCommand(session: Session): Command {
  const command = new Command('workspace').description(
    "desktops of users: a root and a user volume each, under a key that is granted for the user's volumes alone",
  );
  const subcommands = [
    createCommand,
    listCommand,
    infoCommand,
    checkCommand,
    attachWorkspaceCommand,
    detachWorkspaceCommand,
    rebootWorkspaceCommand,
    rebuildCommand,
    terminateCommand,
  ];
  for (const make of subcommands) command.addCommand(make(session));
  return withExamples(command, ['volseal workspace list']);
}

function createCommand({ output, signal }: Session): Command {
  const command = new Command('create')
    .description('make a WorkSpace: grants, data keys, volumes; what an interrupted run has begun is finished')
    .requiredOption('--sid <sid>', "the user's security identifier, S-1-5-21-...")
    .requiredOption('--directory <id>', 'the directory that knows the user, d- and 10 hexadecimal digits')
    .requiredOption('--folder <folder>', 'where the volumes go')
    .option('--root-image <file>', 'raw image of the root volume')
    .option('--root-size <size>', 'or the size of an empty one', sizeArgument)
    .option('--user-image <file>', 'raw image of the user volume')
    .option('--user-size <size>', 'or the size of an empty one', sizeArgument)
    .option('--key <key>', 'KMS key id, ARN or alias (default: alias/aws/workspaces)')
    .option('--administrator <arn>', 'who makes the first grant, if not root or the credentials in use')
    .option('--workspaces-role <arn>', 'AWS: the role of the WorkSpaces service')
    .option('--ebs-role <arn>', 'AWS: the role of the volume service');
  withJson(withProgress(withKms(command, 'embedded')));
  withExamples(command, [
    'volseal workspace create --sid S-1-5-21-1-2-3-1001 --directory d-9067000000 --folder desks --root-image disk.raw --user-size 64M',
  ]);
  return command.action(async ({ sid, directory, folder, progress: wanted, ...flags }: CreateFlags) => {
    const { createWorkspace } = await import('../../workspaces/lifecycle.js');
    const progress = reportProgress(output, wanted === true, signal);
    const options = {
      sid,
      directoryId: directory,
      folder,
      root: originOf('root', flags.rootImage, flags.rootSize),
      user: originOf('user', flags.userImage, flags.userSize),
      key: flags.key,
      kms: flags.kms,
      administrator: flags.administrator,
      workspacesPrincipal: flags.workspacesRole,
      ebsPrincipal: flags.ebsRole,
      signal,
      onProgress: progress.onProgress,
    };
    const made = await createWorkspace(options).finally(progress.end);
    output.result(made, [`${made.workspaceId} is ready`, ...linesOf(made)]);
  });
}

function listCommand({ output }: Session): Command {
  const command = new Command('list').description('list the WorkSpaces of this home');
  withExamples(withJson(command), ['volseal workspace list']);
  return command.action(async () => {
    const { listWorkspaces } = await import('../../workspaces/lifecycle.js');
    const workspaces = await listWorkspaces();
    if (workspaces.length === 0) output.warning('there is no WorkSpace yet: volseal workspace create makes one');
    const rows = workspaces.map(({ workspaceId, state, sid, directoryId }) => [workspaceId, `${state}  ${sid} in ${directoryId}`] as const);
    output.result({ workspaces }, alignedRows(rows));
  });
}

function infoCommand({ output }: Session): Command {
  const command = new Command('info').description('show a WorkSpace: its user, key, volumes and grants').argument('<workspace>', WORKSPACE);
  withExamples(withJson(command), ['volseal workspace info ws-abcdefghi']);
  return command.action(async (workspaceId: string) => {
    const { describeWorkspace } = await import('../../workspaces/lifecycle.js');
    const info = await describeWorkspace(workspaceId);
    output.result(info, [`${info.workspaceId} is ${info.state}`, ...linesOf(info)]);
  });
}

function checkCommand({ output, signal }: Session): Command {
  const command = new Command('check')
    .description('attach both volumes, read a sector of each and detach them again: proves key, grants, context and headers')
    .argument('<workspace>', WORKSPACE);
  withExamples(withJson(command), ['volseal workspace check ws-abcdefghi']);
  return command.action(async (workspaceId: string) => {
    const { attachWorkspace } = await import('../../workspaces/lifecycle.js');
    const attached = await attachWorkspace(workspaceId, { readOnly: true, signal });
    try {
      for (const volume of [attached.root, attached.user]) await volume.read(0, volume.sectorBytes);
    } finally {
      await attached.detach();
    }
    output.result({ workspaceId, attachable: true }, [`${workspaceId}: both volumes attach and read`]);
  });
}

function rebuildCommand({ output, signal }: Session): Command {
  const command = new Command('rebuild')
    .description('make a fresh root volume from its image; the user volume stays')
    .argument('<workspace>', WORKSPACE);
  withExamples(withJson(withProgress(command)), ['volseal workspace rebuild ws-abcdefghi']);
  return command.action(async (workspaceId: string, flags: { progress?: boolean }) => {
    const { rebuildWorkspace } = await import('../../workspaces/lifecycle.js');
    const progress = reportProgress(output, flags.progress === true, signal);
    const options = { signal, onProgress: progress.onProgress };
    const info = await rebuildWorkspace(workspaceId, options).finally(progress.end);
    output.result(info, [`${workspaceId} has a fresh root volume`, ...linesOf(info)]);
  });
}

function terminateCommand({ output, signal }: Session): Command {
  const command = new Command('terminate')
    .description('end a WorkSpace: its volumes are deleted and its grants retired')
    .argument('<workspace>', WORKSPACE)
    .option('--yes', 'really: nothing brings the volumes back')
    .option('--force', 'also while it is attached: detach it first');
  withExamples(withJson(command), ['volseal workspace terminate ws-abcdefghi --yes']);
  return command.action(async (workspaceId: string, { yes = false, force = false }: { yes?: boolean; force?: boolean }) => {
    if (!yes)
      throw new VolsealError('ERR_ARGUMENT', `${workspaceId} and everything on its volumes would be gone for good; if you mean it: --yes`);
    const attached = await attachmentsOfWorkspace(workspaceId);
    if (attached.length > 0 && !force) {
      throw new VolsealError('ERR_STATE_BUSY', `${workspaceId} is attached; nothing was done`, { details: { workspaceId } });
    }
    await detachBoth(workspaceId, attached, force);
    const { terminateWorkspace } = await import('../../workspaces/lifecycle.js');
    await terminateWorkspace(workspaceId, { signal });
    output.result({ workspaceId, terminated: true }, [`${workspaceId} is gone: its volumes are deleted, its grants retired`]);
  });
}

function originOf(name: string, image: string | undefined, sizeBytes: number | undefined): VolumeOrigin {
  if (image !== undefined && sizeBytes === undefined) return { image };
  if (sizeBytes !== undefined && image === undefined) return { sizeBytes };
  throw new VolsealError('ERR_ARGUMENT', `the ${name} volume needs --${name}-image or --${name}-size, and not both`);
}

const linesOf = ({ sid, directoryId, keyArn, rootVolume, userVolume, grantIds }: WorkspaceInfo): string[] =>
  alignedRows([
    ['user', `${sid} in ${directoryId}`],
    ['kms key', keyArn],
    ['root volume', `${rootVolume.volumeId}  ${rootVolume.path}`],
    ['user volume', `${userVolume.volumeId}  ${userVolume.path}`],
    ...grantIds.map((grantId, index) => [index === 0 ? 'grants' : '', grantId] as const),
  ]);
