/**
 * The three who ask KMS for a WorkSpace, and the grants between them: steps 1, 2 and 9 of "How Amazon WorkSpaces Uses AWS KMS" (Amazon
 * WorkSpaces Administration Guide).
 *
 * The administrator owns the key. WorkSpaces works for one user: its grant holds for contexts with that user's pair. EBS works for one
 * volume of that user: its grant is a child of the other one, and holds for contexts that name the volume too.
 */
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { VolsealError } from '../errors.js';
import { type Kms, openKms } from '../kms/client/calls.js';
import type { GrantEntry, NewGrant } from '../kms/client/grant-calls.js';
import { workspaceContext } from '../kms/shared/encryption-context.js';
import { asCaller, type KmsCaller, type KmsEndpoint, parseKmsUri } from '../kms/shared/endpoint.js';
import { VIA_WORKSPACES } from '../kms/shared/service-principals.js';
import type { WorkspaceGrant, WorkspaceRecord, WorkspaceVolume } from './record.js';

/** What the WorkSpaces service may do for a user: make grants for volumes, and give its own back. */
const WORKSPACES_OPERATIONS = ['CreateGrant', 'GenerateDataKeyWithoutPlaintext', 'Decrypt', 'RetireGrant', 'DescribeKey'] as const;
/** What EBS needs for one volume: a data key when it is made, the data key when it is attached. */
const EBS_OPERATIONS = ['GenerateDataKeyWithoutPlaintext', 'Decrypt'] as const;

/** Calls to KMS, in the name of one of the three. */
export type As = <Result>(who: 'administrator' | 'workspaces', work: (kms: Kms) => Promise<Result>) => Promise<Result>;

/** How to ask for a WorkSpace. @param signal ends calls with `ERR_ABORTED` */
export function askerFor({ kms, services }: Pick<WorkspaceRecord, 'kms' | 'services'>, signal?: AbortSignal): As {
  return async (who, work) => {
    const principal = services[who];
    const client = openKms(endpointFor(kms, who === 'administrator', principal), signal);
    try {
      return await work(client);
    } finally {
      client.close();
    }
  };
}

function endpointFor(kms: string, isAdministrator: boolean, principal: string | undefined): KmsEndpoint {
  const endpoint = parseKmsUri(kms);
  if (endpoint.kind === 'url') {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${endpoint.url}: WorkSpaces asks KMS as three principals, and a server knows one by its signature; use the embedded KMS or AWS`,
    );
  }
  const caller: KmsCaller = {
    ...(principal === undefined ? {} : { principal }),
    ...(isAdministrator && endpoint.kind === 'embedded' ? { viaService: VIA_WORKSPACES } : {}),
  };
  return asCaller(endpoint, caller);
}

/** The pair of the user alone, and with the volume's: what grants are bound to. */
export const userContext = ({ sid, directoryId }: Pick<WorkspaceRecord, 'sid' | 'directoryId'>) => workspaceContext({ sid, directoryId });

/** Step 1: the administrator lets WorkSpaces use the key for this user. */
export function grantToWorkspaces(as: As, record: WorkspaceRecord): Promise<NewGrant> {
  return as('administrator', (kms) =>
    kms.createGrant({
      keyId: record.keyArn,
      granteePrincipal: record.services.workspaces,
      operations: WORKSPACES_OPERATIONS,
      contextSubset: userContext(record),
      name: record.grant.name,
    }),
  );
}

/** Step 2: WorkSpaces lets EBS use the key for one volume of this user. */
export function grantToEbs(as: As, record: WorkspaceRecord, volume: WorkspaceVolume): Promise<NewGrant> {
  return as('workspaces', (kms) =>
    kms.createGrant({
      keyId: record.keyArn,
      granteePrincipal: record.services.ebs,
      retiringPrincipal: record.services.workspaces,
      operations: EBS_OPERATIONS,
      contextSubset: { ...userContext(record), [VOLUME_ID_CONTEXT_KEY]: volume.volumeId },
      name: volume.grant.name,
      grantTokens: tokensOf(record.grant),
    }),
  );
}

/** Step 9, for one volume: WorkSpaces ends what EBS was allowed. A grant that is gone already is as good. */
export async function retireEbsGrant(as: As, record: WorkspaceRecord, { grant }: WorkspaceVolume): Promise<void> {
  await as('workspaces', async (kms) => {
    const find = () => kms.listRetirableGrants({ retiringPrincipal: record.services.workspaces });
    await retire(kms, record, grant, find);
  });
}

/** Step 9, for the user: WorkSpaces gives its own grant back. */
export async function retireWorkspacesGrant(as: As, record: WorkspaceRecord): Promise<void> {
  const { grant, services } = record;
  const find = () => as('administrator', (kms) => kms.listGrants({ keyId: record.keyArn, granteePrincipal: services.workspaces }));
  await as('workspaces', (kms) => retire(kms, record, grant, find));
}

async function retire(kms: Kms, { keyArn }: WorkspaceRecord, grant: WorkspaceGrant, find: () => Promise<GrantEntry[]>): Promise<void> {
  try {
    // Whoever was killed between asking for a grant and noting its id finds it by the name that was noted before.
    const grantId = grant.grantId ?? (await find()).find(({ name, keyArn: key }) => name === grant.name && key === keyArn)?.grantId;
    if (grantId !== undefined) await kms.retireGrant({ keyArn, grantId });
  } catch (error) {
    // Its key may be gone as well: then so is every grant on it.
    if (!(error instanceof VolsealError) || error.code !== 'ERR_KMS_NOT_FOUND') throw error;
  }
}

/** The tokens of a grant, as far as there is one. */
export const tokensOf = ({ grantToken }: WorkspaceGrant): string[] => (grantToken === undefined ? [] : [grantToken]);
