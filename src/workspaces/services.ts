/**
 * The three principals that call KMS for a WorkSpace, and the grants between them: steps 1, 2 and 9 of "How Amazon
 * WorkSpaces Uses AWS KMS" (Amazon WorkSpaces Administration Guide).
 *
 * The administrator owns the key. WorkSpaces works for one user: its grant holds for contexts with that user's pair.
 * EBS works for one volume of that user: its grant is a child of the other one, and holds for contexts that name the
 * volume too.
 */
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { VolsealError } from '../errors.js';
import type { Kms } from '../kms/client/calls.js';
import type { GrantEntry, NewGrant } from '../kms/client/grant-calls.js';
import type { KeyCalls } from '../kms/client/key-calls.js';
import { workspaceContext } from '../kms/shared/encryption-context.js';
import { asCaller, chooseKms, forNewKeys, type KmsCaller, type KmsChoice, type KmsEndpoint } from '../kms/shared/endpoint.js';
import { VIA_WORKSPACES } from '../kms/shared/service-principals.js';
import type { KmsCallTask, PlainCall } from '../workers/key-tasks.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import type { WorkspaceGrant, WorkspaceRecord, WorkspaceVolume } from './record.js';

/** What the WorkSpaces service may do for a user: make grants for volumes, and retire its own. */
const WORKSPACES_OPERATIONS = ['CreateGrant', 'GenerateDataKeyWithoutPlaintext', 'Decrypt', 'RetireGrant', 'DescribeKey'] as const;
/** What EBS needs for one volume: a new data key when it is made, that data key when it is attached. */
const EBS_OPERATIONS = ['GenerateDataKeyWithoutPlaintext', 'Decrypt'] as const;

/** A KMS that a worker thread has open. */
export interface KmsOfWorkspace {
  readonly pool: PoolLease;
  readonly endpoint: KmsEndpoint;
}

/** Calls to KMS as one of the principals. */
export type As = (who: 'administrator' | 'workspaces') => WorkspaceKms;

/** The calls to KMS that WorkSpaces make, in a worker thread. */
type WorkspaceKms = Pick<Kms, WorkspaceCall>;
type WorkspaceCall = Exclude<PlainCall, Exclude<keyof KeyCalls, 'describeKey'>>;

/**
 * Runs `work` with a KMS that a worker thread has open meanwhile: every call of `work` goes there, and so do those for
 * the data keys of its volumes. Opening the embedded KMS can take seconds: it happens once, and not in the main thread.
 *
 * @param choice the KMS as a WorkSpace records it, and the home; `create` makes the store of the embedded KMS where
 * there is none
 * @throws {VolsealError} `ERR_ARGUMENT` for a KMS at a URL; what `work` throws
 */
export async function withKms<Result>(
  { create = false, ...choice }: { kms: string; home: string | undefined; create?: boolean },
  work: (session: KmsOfWorkspace) => Promise<Result>,
): Promise<Result> {
  const known = endpointFor(choice);
  const endpoint = create ? forNewKeys(known) : known;
  const pool = leasePool();
  try {
    return await pool.withOpenKms(endpoint, () => work({ pool, endpoint }));
  } finally {
    await pool.release();
  }
}

/** How to ask KMS for a WorkSpace. @param signal ends calls with `ERR_ABORTED` */
export function askerFor({ pool, endpoint }: KmsOfWorkspace, { services }: Pick<WorkspaceRecord, 'services'>, signal?: AbortSignal): As {
  return (who) => {
    const principal = services[who];
    const caller: KmsCaller = {
      ...(principal === undefined ? {} : { principal }),
      ...(who === 'administrator' && endpoint.kind === 'embedded' ? { viaService: VIA_WORKSPACES } : {}),
    };
    const asked = asCaller(endpoint, caller);
    const ask =
      <Call extends WorkspaceCall>(call: Call) =>
      (request: Parameters<Kms[Call]>[0]) =>
        pool.run<KmsCallTask<Call>>({ kind: 'kmsCall', kms: asked, call, request }, signal);
    return {
      createGrant: ask('createGrant'),
      describeKey: ask('describeKey'),
      listGrants: ask('listGrants'),
      listRetirableGrants: ask('listRetirableGrants'),
      retireGrant: ask('retireGrant'),
    };
  };
}

function endpointFor(choice: KmsChoice): KmsEndpoint {
  const endpoint = chooseKms(choice);
  if (endpoint.kind !== 'url') return endpoint;
  throw new VolsealError(
    'ERR_ARGUMENT',
    `${endpoint.url}: WorkSpaces calls KMS as three principals, and a server knows one by its signature; use the embedded KMS or AWS`,
  );
}

/** The pair of the encryption context that names the user: grants are bound to it. */
export const userContext = ({ sid, directoryId }: Pick<WorkspaceRecord, 'sid' | 'directoryId'>) => workspaceContext({ sid, directoryId });

/** Step 1: the administrator lets WorkSpaces use the key for this user. */
export function grantToWorkspaces(as: As, record: WorkspaceRecord): Promise<NewGrant> {
  return as('administrator').createGrant({
    keyId: record.keyArn,
    granteePrincipal: record.services.workspaces,
    operations: WORKSPACES_OPERATIONS,
    contextSubset: userContext(record),
    name: record.grant.name,
  });
}

/** Step 2: WorkSpaces lets EBS use the key for one volume of this user. */
export function grantToEbs(as: As, record: WorkspaceRecord, volume: WorkspaceVolume): Promise<NewGrant> {
  return as('workspaces').createGrant({
    keyId: record.keyArn,
    granteePrincipal: record.services.ebs,
    retiringPrincipal: record.services.workspaces,
    operations: EBS_OPERATIONS,
    contextSubset: { ...userContext(record), [VOLUME_ID_CONTEXT_KEY]: volume.volumeId },
    name: volume.grant.name,
    grantTokens: tokensOf(record.grant),
  });
}

/** Step 9, for one volume: WorkSpaces retires the grant of EBS. A grant that does not exist any more is no error. */
export async function retireEbsGrant(as: As, record: WorkspaceRecord, { grant }: WorkspaceVolume): Promise<void> {
  const kms = as('workspaces');
  await retire(kms, record, grant, () => kms.listRetirableGrants({ retiringPrincipal: record.services.workspaces }));
}

/** Step 9, for the user: WorkSpaces retires its own grant. */
export async function retireWorkspacesGrant(as: As, record: WorkspaceRecord): Promise<void> {
  const { grant, services } = record;
  const find = () => as('administrator').listGrants({ keyId: record.keyArn, granteePrincipal: services.workspaces });
  await retire(as('workspaces'), record, grant, find);
}

async function retire(
  kms: WorkspaceKms,
  { keyArn }: WorkspaceRecord,
  grant: WorkspaceGrant,
  find: () => Promise<GrantEntry[]>,
): Promise<void> {
  try {
    // A process that was killed before it could record the grant's id recorded its name: the grant is found by that.
    const grantId = grant.grantId ?? (await find()).find(({ name, keyArn: key }) => name === grant.name && key === keyArn)?.grantId;
    if (grantId !== undefined) await kms.retireGrant({ keyArn, grantId });
  } catch (error) {
    // The key may be deleted too, and with it every grant on it.
    if (!(error instanceof VolsealError) || error.code !== 'ERR_KMS_NOT_FOUND') throw error;
  }
}

/** The token of a grant, if it has one. */
export const tokensOf = ({ grantToken }: WorkspaceGrant): string[] => (grantToken === undefined ? [] : [grantToken]);
