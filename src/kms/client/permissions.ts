/** Whether a principal could do what volumes need, asked before it is done: with DryRun where KMS has it, so that nothing is made. */
import { VOLUME_ID_CONTEXT_KEY } from '../../context-keys.js';
import { isError, VolsealError } from '../../errors.js';
import { looksLikeArn } from '../shared/arn.js';
import type { EncryptionContext } from '../shared/encryption-context.js';
import { asCaller, type KmsEndpoint } from '../shared/endpoint.js';
import { SERVICE_PRINCIPALS, VIA_WORKSPACES } from '../shared/service-principals.js';
import { type Kms, openKms } from './calls.js';
import type { WrappedKey } from './data-key-calls.js';

export interface PermissionCheck {
  /** What it is needed for. */
  readonly purpose: 'create' | 'attach' | 'terminate' | 'workspace';
  /** Without "kms:". */
  readonly action: string;
  /** Undefined where it could not be tried; `reason` says why. */
  readonly allowed: boolean | undefined;
  /** In KMS's words, where it is not allowed. */
  readonly reason?: string;
  /** The statement to add, or undefined where a deny has to go instead. */
  readonly missing?: object;
}

/** The volume that is spoken of where there is none yet. */
const SAMPLE_VOLUME = 'vol-00000000000000000';

/**
 * Tries what `principal` would have to do with a key to create, attach and terminate volumes and to make WorkSpaces.
 *
 * @param contextPairs of the encryption context, besides `aws:ebs:id`: policies may ask about them
 * @throws {VolsealError} what is no answer about permissions: `ERR_KMS_UNREACHABLE`, `ERR_KMS_NOT_FOUND`, `ERR_KMS_KEY_STATE`, `ERR_ABORTED` ...
 */
export async function checkPermissions(
  endpoint: KmsEndpoint,
  { principal, keyId, contextPairs, signal }: { principal: string; keyId: string; contextPairs: EncryptionContext; signal?: AbortSignal },
): Promise<PermissionCheck[]> {
  const context = { [VOLUME_ID_CONTEXT_KEY]: SAMPLE_VOLUME, ...contextPairs };
  const own = openKms(endpoint, signal);
  const as = openKms(asCaller(endpoint, { principal }), signal);
  const administrator = endpoint.kind === 'embedded' ? openKms({ ...endpoint, principal, viaService: VIA_WORKSPACES }, signal) : as;
  try {
    const wrap = { keyId, context };
    const tried: PermissionCheck[] = [
      await attempt('create', 'GenerateDataKeyWithoutPlaintext', principal, keyId, () => as.tryGenerateWrappedKey(wrap)),
    ];
    const wrapped = await firstThat([as, own], (kms) => kms.generateWrappedKey(wrap));
    for (const purpose of ['create', 'attach'] as const) tried.push(await decryptAttempt(purpose, as, wrapped, context, principal, keyId));
    const { keyArn = keyId } = wrapped ?? {};
    tried.push(await retireAttempt(as, own, principal, keyArn));
    tried.push(await attempt('workspace', 'DescribeKey', principal, keyId, () => administrator.describeKey({ keyId })));
    const request = {
      keyId: keyArn,
      granteePrincipal: endpoint.kind === 'embedded' ? SERVICE_PRINCIPALS.workspaces : principal,
      operations: ['Decrypt'],
    };
    tried.push(
      await attempt('workspace', 'CreateGrant', principal, keyId, () =>
        administrator.tryCreateGrant({ ...request, contextSubset: contextPairs }),
      ),
    );
    return tried;
  } finally {
    for (const kms of new Set([own, as, administrator])) kms.close();
  }
}

async function decryptAttempt(
  purpose: PermissionCheck['purpose'],
  as: Kms,
  wrapped: WrappedKey | undefined,
  context: EncryptionContext,
  principal: string,
  keyId: string,
): Promise<PermissionCheck> {
  const action = 'Decrypt';
  if (wrapped === undefined) {
    const reason = 'KMS says this only of a data key, and neither the principal nor the credentials in use may have one made';
    return { purpose, action, allowed: undefined, reason };
  }
  return attempt(purpose, action, principal, keyId, () => as.tryUnwrapKey({ ...wrapped, context }));
}

/** The principal may retire a grant that it may not list, so `own` lists it then. */
async function retireAttempt(as: Kms, own: Kms, principal: string, keyArn: string): Promise<PermissionCheck> {
  const about = { purpose: 'terminate', action: 'RetireGrant' } as const;
  const grants = await firstThat([as, own], (kms) => kms.listRetirableGrants({ retiringPrincipal: principal }));
  const grant = grants?.find((entry) => entry.keyArn === keyArn);
  if (grant === undefined) {
    return {
      ...about,
      allowed: undefined,
      reason: 'there is no grant on this key that the principal retires; the grant itself gives this permission',
    };
  }
  return attempt(about.purpose, about.action, principal, keyArn, () => as.tryRetireGrant({ keyArn, grantId: grant.grantId }));
}

async function attempt(
  purpose: PermissionCheck['purpose'],
  action: string,
  principal: string,
  keyId: string,
  call: () => Promise<unknown>,
): Promise<PermissionCheck> {
  try {
    await call();
    return { purpose, action, allowed: true };
  } catch (error) {
    if (!(error instanceof VolsealError)) throw error;
    if (error.code !== 'ERR_KMS_DENIED') throw error;
    const reason = isError(error.cause) ? error.cause.message : error.message;
    const statement = statementFor(action, principal, keyId, reason);
    return { purpose, action, allowed: false, reason, ...(statement === undefined ? {} : { missing: statement }) };
  }
}

/** Where KMS misses a statement, it says in which kind of policy. */
function statementFor(action: string, principal: string, keyId: string, reason: string): object | undefined {
  if (reason.includes('explicit deny')) return undefined;
  const allow = { Effect: 'Allow', Action: `kms:${action}` };
  if (reason.includes('identity-based')) return { ...allow, Resource: keyId };
  const kind = looksLikeArn(principal) ? 'AWS' : 'Service';
  return { ...allow, Principal: { [kind]: principal }, Resource: '*' };
}

async function firstThat<Result>(all: readonly Kms[], call: (kms: Kms) => Promise<Result>): Promise<Result | undefined> {
  for (const kms of all) {
    const result = await call(kms).catch(deniedAsUndefined);
    if (result !== undefined) return result;
  }
  return undefined;
}

function deniedAsUndefined(error: unknown): undefined {
  if (!(error instanceof VolsealError) || error.code !== 'ERR_KMS_DENIED') throw error;
  return undefined;
}
