/**
 * The options for a new WorkSpace, checked, and every name in it chosen: a step that runs twice must use the same
 * names.
 */
import { mkdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { namingPath, VolsealError } from '../errors.js';
import { chooseKms, kmsUri } from '../kms/shared/endpoint.js';
import { SERVICE_PRINCIPALS } from '../kms/shared/service-principals.js';
import { SECTOR_SIZES } from '../limits.js';
import type { JobOptions } from '../transfer/transform.js';
import { newVolumeId } from '../volume/volume-id.js';
import { sizeProblem } from '../volume/volume-size.js';
import { isDirectoryId, isSid, newWorkspaceId, type WorkspaceRecord, type WorkspaceVolume } from './record.js';
import { askerFor, type KmsOfWorkspace } from './services.js';

/** The AWS managed key that WorkSpaces uses by default. */
const DEFAULT_KEY = 'alias/aws/workspaces';

/** Where WorkSpaces keeps its records. */
export interface WorkspaceHome {
  /**
   * Where volseal keeps WorkSpaces, the embedded KMS and the audit log. Default: `$VOLSEAL_HOME`, else the user's data
   * directory.
   */
  home?: string | undefined;
}

/** A raw image, or the size of an empty volume. */
export type VolumeOrigin = { readonly image: string } | { readonly sizeBytes: number };

/** Options of `createWorkspace`. */
export interface CreateWorkspaceOptions extends WorkspaceHome, JobOptions {
  /** The user's security identifier, `S-1-5-21-...`. */
  sid: string;
  /** The directory service of the user, `d-` and 10 hexadecimal digits. */
  directoryId: string;
  /** The directory for the volumes; made if it is missing. */
  folder: string;
  /** What the root volume is made from. */
  root: VolumeOrigin;
  /** What the user volume is made from. */
  user: VolumeOrigin;
  /** KMS key id, ARN or alias. Default: `alias/aws/workspaces`. */
  key?: string | undefined;
  /** `embedded`, `embedded:/HOME`, `aws`, `aws:REGION`. Default: `$VOLSEAL_KMS`, else `embedded`. */
  kms?: string | undefined;
  /**
   * The principals. AWS: ARNs of the roles of the two services, both needed. Embedded: by default root and the
   * services' own names.
   */
  administrator?: string | undefined;
  /** Principal of the WorkSpaces service. */
  workspacesPrincipal?: string | undefined;
  /** Principal of the EBS service. */
  ebsPrincipal?: string | undefined;
}

/**
 * The record of a new WorkSpace, with every name chosen, and everything checked that can be before something is made.
 *
 * @param kms as `kmsOf` gives it @param session asks it
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IMAGE_SIZE`, `ERR_IO`, `ERR_KMS_*`
 */
export async function planned(options: CreateWorkspaceOptions, kms: string, session: KmsOfWorkspace): Promise<WorkspaceRecord> {
  const services = {
    ...(options.administrator === undefined ? {} : { administrator: options.administrator }),
    workspaces: options.workspacesPrincipal ?? serviceOf('workspaces', kms),
    ebs: options.ebsPrincipal ?? serviceOf('ebs', kms),
  };
  const workspaceId = newWorkspaceId();
  const folder = resolve(options.folder);
  const volume = async (name: 'root' | 'user', origin: VolumeOrigin): Promise<WorkspaceVolume> => {
    const volumeId = newVolumeId();
    const path = join(folder, `${workspaceId}-${name}-${volumeId}.vol`);
    return { volumeId, path, ...(await checkedOrigin(origin, name)), grant: { name: `${workspaceId}-${volumeId}` } };
  };
  const [root, user] = [await volume('root', options.root), await volume('user', options.user)];
  await namingPath(folder, () => mkdir(folder, { recursive: true }));
  // Proves that the key exists and that the administrator may see it. Grants need a key's ARN, not an alias.
  const as = askerFor(session, { services }, options.signal);
  const { keyArn } = await as('administrator').describeKey({ keyId: options.key ?? DEFAULT_KEY });
  const { sid, directoryId } = options;
  const grant = { name: `${workspaceId}-workspaces` };
  return { workspaceId, state: 'creating', sid, directoryId, kms, keyArn, services, grant, root, user, created: new Date().toISOString() };
}

/** @throws {VolsealError} `ERR_ARGUMENT` */
export function checkUser({ sid, directoryId }: Pick<CreateWorkspaceOptions, 'sid' | 'directoryId'>): void {
  if (!isSid(sid)) throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(sid)} is not a security identifier; expected S-1-5-21-...`);
  if (!isDirectoryId(directoryId)) {
    throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(directoryId)} is not a directory id; expected d- and 10 hexadecimal digits`);
  }
}

async function checkedOrigin(origin: VolumeOrigin, name: string): Promise<Pick<WorkspaceVolume, 'image' | 'sizeBytes'>> {
  if ('sizeBytes' in origin) {
    const { sizeBytes } = origin;
    const problem = sizeProblem(sizeBytes, SECTOR_SIZES[0]);
    if (problem === undefined) return { sizeBytes };
    throw new VolsealError('ERR_IMAGE_SIZE', `the ${name} volume: ${problem}`);
  }
  const image = resolve(origin.image);
  await namingPath(image, () => stat(image));
  return { image };
}

/** The KMS as a WorkSpace records it: the embedded one with its home. @throws {VolsealError} `ERR_ARGUMENT` */
export function kmsOf(options: Pick<CreateWorkspaceOptions, 'kms' | 'home'>): string {
  const endpoint = chooseKms(options);
  return endpoint.kind === 'embedded' ? `embedded:${endpoint.home}` : kmsUri(endpoint);
}

function serviceOf(name: keyof typeof SERVICE_PRINCIPALS, kms: string): string {
  if (kms.startsWith('embedded:')) return SERVICE_PRINCIPALS[name];
  throw new VolsealError('ERR_ARGUMENT', `with ${kms} the ${name} service needs a role: name its ARN`);
}

/** `known`, an unfinished WorkSpace, if the options are the same. @throws {VolsealError} `ERR_WORKSPACE_STATE` */
export function resumable(known: WorkspaceRecord, options: CreateWorkspaceOptions): WorkspaceRecord {
  const { workspaceId, state, sid, directoryId } = known;
  const folder = resolve(options.folder);
  const same = ([have, want]: readonly [WorkspaceVolume, VolumeOrigin]): boolean =>
    have.path.startsWith(join(folder, workspaceId)) &&
    ('image' in want ? have.image === resolve(want.image) : have.sizeBytes === want.sizeBytes);
  if (state === 'creating' && same([known.root, options.root]) && same([known.user, options.user])) return known;
  const what = state === 'creating' ? 'unfinished, with other options' : state;
  throw new VolsealError('ERR_WORKSPACE_STATE', `the user ${sid} in ${directoryId} has the WorkSpace ${workspaceId}, which is ${what}`, {
    details: { workspaceId, state },
  });
}
