/** Evaluates one policy document for one request. (IAM User Guide, "Policy evaluation logic".) */
import { accountOf, identitiesOf } from './caller.js';
import type { ConditionValues } from './conditions.js';
import type { Patterns, PolicyDocument, PolicyStatement } from './document.js';
import { matches } from './patterns.js';

export interface PolicyRequest {
  /** IAM or STS ARN, or the name of a service. */
  readonly principal: string;
  /** ARN of the root of the account that the KMS belongs to. */
  readonly root: string;
  /** `kms:Decrypt`. */
  readonly action: string;
  /** Key ARN, alias ARN or `*`. */
  readonly resourceArn: string;
  readonly conditions: ConditionValues;
}

export interface PolicyOutcome {
  readonly decision: 'allow' | 'deny' | 'none';
  /**
   * Of a key policy: whether it allows the request to the account, so that an identity policy of the caller may allow
   * it.
   */
  readonly delegated: boolean;
}

/** One deny outweighs any number of allows. */
export function evaluatePolicy(document: PolicyDocument, request: PolicyRequest): PolicyOutcome {
  const applying = document.filter((statement) => appliesTo(statement, request));
  const denied = applying.some((statement) => statement.effect === 'Deny' && concerns(statement, request));
  const allows = applying.filter(({ effect }) => effect === 'Allow');
  const allowed = allows.some(
    ({ principals }) => principals === undefined || principals.some((name) => isAllowedTo(name, request.principal)),
  );
  const { root } = request;
  const ofAccount = accountOf(request.principal) === accountOf(root);
  const delegated = ofAccount && allows.some(({ principals }) => principals?.includes(root) ?? false);
  return { decision: denied ? 'deny' : allowed ? 'allow' : 'none', delegated };
}

function appliesTo(
  { actions, resources, conditions }: PolicyStatement,
  { action, resourceArn, conditions: given }: PolicyRequest,
): boolean {
  const folded = { ...actions, patterns: actions.patterns.map((pattern) => pattern.toLowerCase()) };
  return among(folded, action.toLowerCase()) && among(resources, resourceArn) && conditions.every((condition) => condition(given));
}

const among = ({ not, patterns }: Patterns, text: string): boolean => patterns.some((pattern) => matches(pattern, text)) !== not;

/**
 * A statement that names the account denies everybody in it, but allows only root: the others also need an identity
 * policy.
 */
const concerns = ({ principals }: PolicyStatement, { principal, root }: PolicyRequest): boolean =>
  principals === undefined ||
  principals.some((name) => isAllowedTo(name, principal) || (name === root && accountOf(principal) === accountOf(root)));

/** `*` means everybody, services too: kms:CallerAccount and aws:PrincipalIsAWSService tell them apart. */
const isAllowedTo = (name: string, principal: string): boolean => name === '*' || identitiesOf(principal).includes(name);
