/** Checks whether a principal may do what volumes and WorkSpaces need: by dry runs, so that nothing is made. */
import { VOLUME_ID_CONTEXT_KEY } from '../../context-keys.js';
import { isError, VolsealError } from '../../errors.js';
import { isKeyArn, looksLikeArn } from '../shared/arn.js';
import type { EncryptionContext } from '../shared/encryption-context.js';
import { asCaller, type KmsEndpoint } from '../shared/endpoint.js';
import { SERVICE_PRINCIPALS, VIA_WORKSPACES } from '../shared/service-principals.js';
import { type Kms, openKms } from './calls.js';

export interface PermissionCheck {
  /** What it is needed for. */
  readonly purpose: 'create' | 'attach' | 'terminate' | 'workspace';
  /** Without "kms:". */
  readonly action: string;
  /** Undefined where it could not be tried; `reason` says why. */
  readonly allowed: boolean | undefined;
  /** In KMS's words, where it is not allowed. */
  readonly reason?: string;
  /**
   * The statement to add; undefined where a deny must be removed instead, or where nobody may see which key an alias
   * names.
   */
  readonly missing?: object;
}

/** Stands for a volume in the encryption context. */
const SAMPLE_VOLUME = 'vol-00000000000000000';

export interface PermissionQuestion {
  /** ARN of a user or a role, or the name of a service. */
  readonly principal: string;
  /** Id, ARN or alias. */
  readonly keyId: string;
  /** Pairs of the encryption context, besides `aws:ebs:id`: policies may ask about them. */
  readonly contextPairs: EncryptionContext;
  /** Also what an administrator of WorkSpaces needs, and who terminates them. */
  readonly workspaces?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Tries what a principal would have to do with a key to create and attach volumes.
 *
 * @throws {VolsealError} what is no answer about permissions: `ERR_KMS_UNREACHABLE`, `ERR_KMS_NOT_FOUND`,
 * `ERR_KMS_KEY_STATE`, `ERR_ABORTED` ...
 */
export async function checkPermissions(endpoint: KmsEndpoint, question: PermissionQuestion): Promise<PermissionCheck[]> {
  const { principal, keyId, contextPairs, workspaces = false, signal } = question;
  const context = { [VOLUME_ID_CONTEXT_KEY]: SAMPLE_VOLUME, ...contextPairs };
  const own = openKms(endpoint, signal);
  const as = openKms(asCaller(endpoint, { principal }), signal);
  try {
    const wrap = { keyId, context };
    const wrapped = await firstAllowed([as, own], (kms) => kms.generateWrappedKey(wrap));
    const keyArn = wrapped?.keyArn ?? (await firstAllowed([own, as], (kms) => kms.describeKey({ keyId })))?.keyArn;
    // Policies name keys by ARN: a statement with an alias as its resource allows nothing.
    const about = { principal, keyArn: keyArn ?? (isKeyArn(keyId) ? keyId : undefined) };
    const unwrap = wrapped === undefined ? undefined : () => as.tryUnwrapKey({ ...wrapped, context });
    return [
      await attempt(about, 'create', 'GenerateDataKeyWithoutPlaintext', () => as.tryGenerateWrappedKey(wrap)),
      await attempt(about, 'create', 'Decrypt', unwrap, NO_DATA_KEY),
      await attempt(about, 'attach', 'Decrypt', unwrap, NO_DATA_KEY),
      ...(workspaces ? await checkWorkspaces(endpoint, question, about, { own, as }) : []),
    ];
  } finally {
    own.close();
    as.close();
  }
}

const NO_DATA_KEY = 'KMS answers this only for a data key, and neither the principal nor the credentials in use may make one';
const NO_GRANT = 'the principal is the retiring principal of no grant on this key; the grant itself gives this permission';

/** The permissions to terminate a WorkSpace and to make one. */
async function checkWorkspaces(
  endpoint: KmsEndpoint,
  { principal, keyId, contextPairs, signal }: PermissionQuestion,
  about: Subject,
  { own, as }: { own: Kms; as: Kms },
): Promise<PermissionCheck[]> {
  const { keyArn = keyId } = about;
  // The principal may retire a grant that it may not list: then the own credentials list it.
  const grants = await firstAllowed([as, own], (kms) => kms.listRetirableGrants({ retiringPrincipal: principal }));
  const grantId = grants?.find((entry) => entry.keyArn === keyArn)?.grantId;
  const retire = grantId === undefined ? undefined : () => as.tryRetireGrant({ keyArn, grantId });
  const isEmbedded = endpoint.kind === 'embedded';
  const administrator = isEmbedded ? openKms({ ...endpoint, principal, viaService: VIA_WORKSPACES }, signal) : as;
  const grant = {
    keyId: keyArn,
    granteePrincipal: isEmbedded ? SERVICE_PRINCIPALS.workspaces : principal,
    operations: ['Decrypt'],
    contextSubset: contextPairs,
  };
  try {
    return [
      await attempt(about, 'terminate', 'RetireGrant', retire, NO_GRANT),
      await attempt(about, 'workspace', 'DescribeKey', () => administrator.describeKey({ keyId })),
      await attempt(about, 'workspace', 'CreateGrant', () => administrator.tryCreateGrant(grant)),
    ];
  } finally {
    administrator.close();
  }
}

/** What statements are about. `keyArn` is undefined where nobody may ask which key an alias names. */
interface Subject {
  readonly principal: string;
  readonly keyArn: string | undefined;
}

/** @param call undefined where it cannot be tried; @param otherwise then says why */
async function attempt(
  about: Subject,
  purpose: PermissionCheck['purpose'],
  action: string,
  call: (() => Promise<unknown>) | undefined,
  otherwise?: string,
): Promise<PermissionCheck> {
  if (call === undefined) return { purpose, action, allowed: undefined, ...(otherwise === undefined ? {} : { reason: otherwise }) };
  try {
    await call();
    return { purpose, action, allowed: true };
  } catch (error) {
    if (!(error instanceof VolsealError) || error.code !== 'ERR_KMS_DENIED') throw error;
    const reason = isError(error.cause) ? error.cause.message : error.message;
    const missing = statementFor(about, action, reason);
    return { purpose, action, allowed: false, reason, ...(missing === undefined ? {} : { missing }) };
  }
}

/** The statement to add. KMS says in which kind of policy it misses one. */
function statementFor({ principal, keyArn }: Subject, action: string, reason: string): object | undefined {
  if (reason.includes('explicit deny')) return undefined;
  const allow = { Effect: 'Allow', Action: `kms:${action}` };
  if (reason.includes('identity-based')) return keyArn === undefined ? undefined : { ...allow, Resource: keyArn };
  const kind = looksLikeArn(principal) ? 'AWS' : 'Service';
  return { ...allow, Principal: { [kind]: principal }, Resource: '*' };
}

/** The result of the first client that may make the call; undefined where none may. */
async function firstAllowed<Result>(clients: readonly Kms[], call: (kms: Kms) => Promise<Result>): Promise<Result | undefined> {
  for (const kms of clients) {
    try {
      return await call(kms);
    } catch (error) {
      if (!(error instanceof VolsealError) || error.code !== 'ERR_KMS_DENIED') throw error;
    }
  }
  return undefined;
}
