/**
 * Whether a caller may do what it asks: key policy, identity policies and grants together, as KMS evaluates them.
 * (AWS KMS Developer Guide, "Troubleshooting key access" and "Condition keys for AWS KMS"; IAM User Guide, "Policy evaluation logic".)
 *
 * A deny anywhere is final. Otherwise one of these allows: the key policy, for the caller itself; an identity policy of the caller's,
 * where the key policy leaves that to the account; a grant. Operations on no key are left to the identity policies and to root.
 */
import type { EncryptionContext } from '../../shared/encryption-context.js';
import { KmsFault } from '../faults.js';
import type { GrantRequest } from '../grants/grant-store.js';
import { grantAllowing } from '../grants/permits.js';
import { grantsOfTokens } from '../grants/tokens.js';
import { keyArn } from '../keys/names.js';
import type { OperationCall } from '../operations/define.js';
import type { GrantRecord, KeyRecord } from '../store/records.js';
import { ACCOUNT_ROOT, accountOf, identitiesOf, isService } from './caller.js';
import { parsePolicy } from './document.js';
import { evaluatePolicy, type PolicyRequest } from './evaluation.js';
import { keyPolicyOf } from './key-policy.js';

/** The part of a call that authorisation looks at, and where it leaves the grant that allowed it. */
type Asker = Pick<OperationCall, 'store' | 'caller' | 'facts'>;

export interface AuthorizationRequest {
  /** Without "kms:". */
  readonly action: string;
  /** Undefined for operations on no key. */
  readonly key?: KeyRecord | undefined;
  /** Key ARN, alias ARN or `*`. */
  readonly resourceArn: string;
  /** Of cryptographic operations; `{}` where the request names none. */
  readonly encryptionContext?: EncryptionContext | undefined;
  readonly grantTokens?: readonly string[] | undefined;
  /** Of CreateGrant. */
  readonly newGrant?: GrantRequest | undefined;
  /** Condition keys of this operation alone, by their names. */
  readonly conditions?: Readonly<Record<string, readonly string[]>> | undefined;
}

/** @throws {KmsFault} AccessDeniedException in AWS's words; InvalidGrantTokenException */
export function authorize(asker: Asker, request: AuthorizationRequest): void {
  const { store, caller, facts } = asker;
  const tokens = grantsOfTokens(store, request.grantTokens ?? []);
  const policies = evaluate(asker, request);
  if (policies.denied !== undefined) throw denied(asker, request, `with an explicit deny in ${policies.denied}`);
  if (policies.allowed) return;
  if (request.key !== undefined) {
    const { action: operation, encryptionContext, newGrant } = request;
    const use = {
      principalArn: caller.principalArn,
      keyId: request.key.keyId,
      operation,
      encryptionContext,
      newGrant,
      sourceArn: caller.sourceArn,
    };
    const grant = grantAllowing(store, use, tokens);
    if (grant !== undefined) {
      facts.allowingGrantId = grant.grantId;
      return;
    }
  }
  throw denied(asker, request, `because no ${policies.missing} allows the kms:${request.action} action`);
}

/**
 * Whether the caller may retire `grant`: its retiring principal, its grantee if the grant says so, and the account that issued it.
 * A deny in a policy counts here too. (Developer Guide, "Retiring and revoking grants".)
 * @throws {KmsFault} AccessDeniedException
 */
export function authorizeRetiring(asker: Asker, key: KeyRecord, grant: GrantRecord): void {
  const request = { action: 'RetireGrant', key, resourceArn: keyArn(key.keyId) };
  const policies = evaluate(asker, request);
  if (policies.denied !== undefined) throw denied(asker, request, `with an explicit deny in ${policies.denied}`);
  const identities = identitiesOf(asker.caller.principalArn);
  const byGrant =
    (grant.retiringPrincipal !== undefined && identities.includes(grant.retiringPrincipal)) ||
    (identities.includes(grant.granteePrincipal) && grant.operations.includes('RetireGrant'));
  if (byGrant || identities.includes(ACCOUNT_ROOT) || policies.byIdentity) return;
  throw denied(asker, request, `because no ${policies.missing} allows the kms:RetireGrant action`);
}

interface PolicyOutcome {
  /** The kind of policy that denies. */
  readonly denied?: string;
  readonly allowed: boolean;
  /** Whether an identity policy allows it, and the key policy leaves that to the account. */
  readonly byIdentity: boolean;
  /** The kind of policy in which a statement would have to stand. */
  readonly missing: string;
}

function evaluate({ store, caller }: Asker, request: AuthorizationRequest): PolicyOutcome {
  const { key, resourceArn } = request;
  const question: PolicyRequest = {
    principal: caller.principalArn,
    action: `kms:${request.action}`,
    resourceArn,
    conditions: conditionsOf({ store, caller }, request),
  };
  const isRoot = caller.principalArn === ACCOUNT_ROOT;
  const onKey = key !== undefined && resourceArn.includes(':key/');
  const keyPolicy = onKey ? evaluatePolicy(parsePolicy(keyPolicyOf(key), 'key'), question) : { decision: 'none', delegated: true };
  const identity = identitiesOf(caller.principalArn)
    .flatMap((arn) => store.principal(arn)?.policies ?? [])
    .map((text) => evaluatePolicy(parsePolicy(text, 'identity'), question).decision);
  const byIdentity = keyPolicy.delegated && identity.includes('allow');
  const missing = keyPolicy.delegated && !isService(caller.principalArn) ? 'identity-based policy' : 'resource-based policy';
  const allowed = keyPolicy.decision === 'allow' || byIdentity || (isRoot && !onKey);
  if (keyPolicy.decision === 'deny') return { denied: 'a resource-based policy', allowed: false, byIdentity, missing };
  if (identity.includes('deny')) return { denied: 'an identity-based policy', allowed: false, byIdentity, missing };
  return { allowed, byIdentity, missing };
}

/** What policies may ask about, by condition key in lower case. */
function conditionsOf({ store, caller }: Pick<Asker, 'store' | 'caller'>, request: AuthorizationRequest): PolicyRequest['conditions'] {
  const { key, encryptionContext, newGrant } = request;
  const account = accountOf(caller.principalArn);
  const now = new Date();
  const conditions = new Map<string, readonly string[]>();
  const say = (name: string, ...values: readonly (string | undefined)[]): void => {
    const known = values.filter((value) => value !== undefined);
    if (known.length > 0) conditions.set(name.toLowerCase(), known);
  };
  say('aws:PrincipalArn', isService(caller.principalArn) ? undefined : identitiesOf(caller.principalArn).at(-1));
  say('aws:PrincipalAccount', account);
  say('aws:PrincipalIsAWSService', String(isService(caller.principalArn)));
  say('aws:CurrentTime', now.toISOString());
  say('aws:EpochTime', String(Math.floor(now.getTime() / 1000)));
  say('aws:SourceIp', caller.sourceIp);
  say('aws:UserAgent', caller.userAgent);
  say('aws:SecureTransport', 'false');
  say('kms:CallerAccount', account);
  say('kms:ViaService', caller.viaService);
  if (key !== undefined) {
    say('kms:KeyOrigin', 'AWS_KMS');
    say('kms:KeySpec', 'SYMMETRIC_DEFAULT');
    say('kms:KeyUsage', 'ENCRYPT_DECRYPT');
    say('kms:MultiRegion', 'false');
    for (const { TagKey, TagValue } of key.tags ?? []) say(`aws:ResourceTag/${TagKey}`, TagValue);
    // All aliases of the store are read for this one: only where a policy may ask.
    if (key.policy?.includes('ResourceAliases') || hasPolicies(store, caller.principalArn)) {
      say('kms:ResourceAliases', ...store.aliases().flatMap(({ keyId, aliasName }) => (keyId === key.keyId ? [aliasName] : [])));
    }
  }
  if (encryptionContext !== undefined) {
    say('kms:EncryptionContextKeys', ...Object.keys(encryptionContext));
    for (const [name, value] of Object.entries(encryptionContext)) say(`kms:EncryptionContext:${name}`, value);
  }
  if (GRANT_ACTIONS.has(request.action)) {
    say('kms:GrantIsForAWSResource', String(isService(caller.principalArn) || caller.viaService !== undefined));
  }
  if (newGrant !== undefined) {
    say('kms:GrantOperations', ...newGrant.operations);
    say('kms:GranteePrincipal', newGrant.granteePrincipal);
    say('kms:RetiringPrincipal', newGrant.retiringPrincipal);
    const kinds = { subset: 'EncryptionContextSubset', equals: 'EncryptionContextEquals' };
    say('kms:GrantConstraintType', newGrant.constraint && kinds[newGrant.constraint.kind]);
  }
  for (const [name, values] of Object.entries(request.conditions ?? {})) say(name, ...values);
  return conditions;
}

const GRANT_ACTIONS: ReadonlySet<string> = new Set(['CreateGrant', 'ListGrants', 'RevokeGrant']);

const hasPolicies = (store: Asker['store'], principalArn: string): boolean =>
  identitiesOf(principalArn).some((arn) => store.principal(arn)?.policies.some((text) => text.includes('ResourceAliases')) ?? false);

const denied = ({ caller }: Asker, { action, resourceArn }: AuthorizationRequest, why: string): KmsFault =>
  new KmsFault(
    'AccessDeniedException',
    `User: ${caller.principalArn} is not authorized to perform: kms:${action} on resource: ${resourceArn} ${why}`,
  );
