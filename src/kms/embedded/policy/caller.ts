/**
 * The caller of the embedded KMS. (IAM User Guide, "IAM identifiers", "AWS JSON policy elements: Principal".)
 */

import { createHash } from 'node:crypto';
import { formatArn, parseArn } from '../../shared/arn.js';

export interface Caller {
  /**
   * IAM ARN of a user, a role, a role's session or the account's root; or the name of an AWS service,
   * `ebs.amazonaws.com`.
   */
  readonly principalArn: string;
  readonly accessKeyId?: string;
  /**
   * The service that makes the request on the caller's behalf, as `kms:ViaService` names it:
   * `workspaces.local.amazonaws.com`.
   */
  readonly viaService?: string;
  /** ARN of the AWS resource on whose behalf a service asks, as `aws:SourceArn` names it. */
  readonly sourceArn?: string;
  /** Of a request over HTTP. */
  readonly sourceIp?: string;
  readonly userAgent?: string;
}

const PRINCIPAL =
  /^arn:aws:(?:iam::\d{12}:(?:root|(?:user|role)\/[\w+=,.@/-]{1,512})|sts::\d{12}:assumed-role\/[\w+=,.@-]{1,64}\/[\w+=,.@-]{2,64})$/;
const SERVICE = /^[a-z0-9-]+(?:\.[a-z0-9-]+)?\.amazonaws\.com$/;

/** Whether `text` has the form of a principal: an IAM or STS ARN, or the name of an AWS service. */
export const isPrincipal = (text: string): boolean => PRINCIPAL.test(text) || isService(text);

/** Whether a principal is an AWS service. */
export const isService = (principalArn: string): boolean => SERVICE.test(principalArn);

/** The account that a principal belongs to; undefined for a service, which belongs to none. */
export const accountOf = (principalArn: string): string | undefined => parseArn(principalArn)?.accountId;

/**
 * The principals that a name in a grant or a policy may mean: the principal itself and, for a session of a role, the
 * role.
 */
export function identitiesOf(principalArn: string): readonly string[] {
  const arn = parseArn(principalArn);
  const [kind, role] = arn?.resource.split('/') ?? [];
  if (arn?.service !== 'sts' || kind !== 'assumed-role') return [principalArn];
  return [principalArn, formatArn({ ...arn, service: 'iam', resource: `role/${role}` })];
}

/** As `aws:PrincipalType` has it; undefined for a service. (IAM User Guide, "Principal key values".) */
export function principalTypeOf(principalArn: string): 'Account' | 'User' | 'AssumedRole' | undefined {
  if (isService(principalArn)) return undefined;
  const { resource = '' } = parseArn(principalArn) ?? {};
  if (resource === 'root') return 'Account';
  return resource.startsWith('user/') ? 'User' : 'AssumedRole';
}

/** As `aws:username` has it: the name of a user without its path; undefined for every other principal. */
export const userNameOf = (principalArn: string): string | undefined =>
  principalTypeOf(principalArn) === 'User' ? principalArn.slice(principalArn.lastIndexOf('/') + 1) : undefined;

/**
 * As `aws:userid` has it: the account's number for root, the unique id of a user, the unique id of a role and the name
 * of its session. Unique ids are derived from ARNs. A role that signs with an access key of its own has its name as the
 * name of its session.
 */
export function userIdOf(principalArn: string): string | undefined {
  const type = principalTypeOf(principalArn);
  if (type === 'Account') return accountOf(principalArn);
  if (type === 'User') return uniqueIdOf('AIDA', principalArn);
  if (type === undefined) return undefined;
  return `${uniqueIdOf('AROA', identitiesOf(principalArn).at(-1)!)}:${principalArn.slice(principalArn.lastIndexOf('/') + 1)}`;
}

const ID_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** As long as the ids of IAM: a prefix that tells the kind, and 17 characters. */
const uniqueIdOf = (prefix: string, arn: string): string =>
  prefix + [...createHash('sha256').update(arn).digest().subarray(0, 17)].map((byte) => ID_ALPHABET[byte % ID_ALPHABET.length]).join('');
