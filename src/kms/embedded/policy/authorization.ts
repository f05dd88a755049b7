/**
 * Authorization: evaluates key policy, identity policies and grants together, as KMS does. (AWS KMS Developer Guide,
 * "Troubleshooting key access" and "Condition keys for AWS KMS"; IAM User Guide, "Policy evaluation logic".)
 *
 * A deny in any policy is final. Otherwise one of these allows: the key policy, if it names the caller; an identity
 * policy of the caller, if the key policy allows the account; a grant. For operations without a key the identity
 * policies decide, and root may do all.
 */
import { KmsFault } from '../faults.js';
import { grantAllowing } from '../grants/permits.js';
import { grantsOfTokens } from '../grants/tokens.js';
import { keyArn, rootArn } from '../keys/names.js';
import type { OperationCall } from '../operations/define.js';
import type { GrantRecord, KeyRecord } from '../store/records.js';
import { identitiesOf, isService } from './caller.js';
import { type PolicyDocument, parsePolicy } from './document.js';
import { evaluatePolicy, type PolicyRequest } from './evaluation.js';
import { keyPolicyOf } from './key-policy.js';
import { type AuthorizationRequest, conditionsOf, isKeyArn } from './request-conditions.js';

/** The part of a call that authorization needs; it records the grant that permitted the call in `facts`. */
type Requester = Pick<OperationCall, 'store' | 'caller' | 'facts'>;

/** @throws {KmsFault} AccessDeniedException in AWS's words; InvalidGrantTokenException */
export function authorize(requester: Requester, request: AuthorizationRequest): void {
  const { store, caller, facts } = requester;
  const tokens = grantsOfTokens(store, request.grantTokens ?? []);
  const policies = evaluate(requester, request);
  if (policies.denied !== undefined) throw denied(requester, request, `with an explicit deny in ${policies.denied}`);
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
  throw denied(requester, request, `because no ${policies.missing} allows the kms:${request.action} action`);
}

/**
 * Whether the caller may retire `grant`: its retiring principal, its grantee if the grant says so, and the account that
 * issued it. A deny in a policy counts here too. (Developer Guide, "Retiring and revoking grants".)
 * @throws {KmsFault} AccessDeniedException
 */
export function authorizeRetiring(requester: Requester, key: KeyRecord, grant: GrantRecord): void {
  const request = { action: 'RetireGrant', key, resourceArn: keyArn(requester.store.account, key.keyId), retiredGrant: grant };
  const policies = evaluate(requester, request);
  if (policies.denied !== undefined) throw denied(requester, request, `with an explicit deny in ${policies.denied}`);
  const identities = identitiesOf(requester.caller.principalArn);
  const byGrant =
    (grant.retiringPrincipal !== undefined && identities.includes(grant.retiringPrincipal)) ||
    (identities.includes(grant.granteePrincipal) && grant.operations.includes('RetireGrant'));
  if (byGrant || identities.includes(rootArn(requester.store.account)) || policies.byIdentity) return;
  throw denied(requester, request, `because no ${policies.missing} allows the kms:RetireGrant action`);
}

interface PolicyOutcome {
  /** The kind of policy that denies. */
  readonly denied?: string;
  readonly allowed: boolean;
  /** Whether an identity policy allows it, and the key policy leaves that to the account. */
  readonly byIdentity: boolean;
  /** The kind of policy in which a statement is missing. */
  readonly missing: string;
}

function evaluate({ store, caller }: Requester, request: AuthorizationRequest): PolicyOutcome {
  const { key, resourceArn } = request;
  const root = rootArn(store.account);
  const policyRequest: PolicyRequest = {
    principal: caller.principalArn,
    root,
    action: `kms:${request.action}`,
    resourceArn,
    conditions: conditionsOf(store, caller, request),
  };
  const isRoot = caller.principalArn === root;
  const onKey = key !== undefined && isKeyArn(resourceArn);
  const unreadable = (whose: string, problem: string): never => {
    throw denied({ caller }, request, `because ${whose} cannot be read (${problem})`);
  };
  let keyPolicy: ReturnType<typeof evaluatePolicy> = { decision: 'none', delegated: true };
  if (onKey) {
    const document = readable(keyPolicyOf(store.account, key), 'key');
    if (typeof document !== 'string') keyPolicy = evaluatePolicy(document, policyRequest);
    else if (isRoot && REPAIRS.has(request.action)) keyPolicy = { decision: 'allow', delegated: false };
    else return unreadable(`the policy of the key ${resourceArn}`, `${document}; as root, PutKeyPolicy replaces it`);
  }
  const identity = identitiesOf(caller.principalArn).flatMap((arn) =>
    (store.principal(arn)?.policies ?? []).map((text) => {
      const document = readable(text, 'identity');
      if (typeof document === 'string') return unreadable(`a policy of the principal ${arn}`, `${document}; replace it`);
      return evaluatePolicy(document, policyRequest).decision;
    }),
  );
  const byIdentity = keyPolicy.delegated && identity.includes('allow');
  const missing = keyPolicy.delegated && !isService(caller.principalArn) ? 'identity-based policy' : 'resource-based policy';
  const allowed = keyPolicy.decision === 'allow' || byIdentity || (isRoot && !onKey);
  if (keyPolicy.decision === 'deny') return { denied: 'a resource-based policy', allowed: false, byIdentity, missing };
  if (identity.includes('deny')) return { denied: 'an identity-based policy', allowed: false, byIdentity, missing };
  return { allowed, byIdentity, missing };
}

/** What the account's root may do to a key whose policy cannot be read, so that it can replace it. */
const REPAIRS: ReadonlySet<string> = new Set(['DescribeKey', 'GetKeyPolicy', 'ListKeyPolicies', 'PutKeyPolicy']);

/** A stored policy, or what is wrong with it: an earlier version may have accepted what this one does not. */
function readable(text: string, kind: 'key' | 'identity'): PolicyDocument | string {
  try {
    return parsePolicy(text, kind);
  } catch (error) {
    if (error instanceof KmsFault) return error.message;
    throw error;
  }
}

const denied = ({ caller }: Pick<Requester, 'caller'>, { action, resourceArn }: AuthorizationRequest, why: string): KmsFault =>
  new KmsFault(
    'AccessDeniedException',
    `User: ${caller.principalArn} is not authorized to perform: kms:${action} on resource: ${resourceArn} ${why}`,
  );
