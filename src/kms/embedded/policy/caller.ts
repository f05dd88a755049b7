/**
 * Who asks the embedded KMS. (IAM User Guide, "IAM identifiers", "AWS JSON policy elements: Principal".)
 */
import { formatArn, parseArn } from '../../shared/arn.js';
import { ACCOUNT } from '../keys/names.js';

export interface Caller {
  /** IAM ARN of a user, a role, a role's session or the account's root; or the name of an AWS service, `ebs.amazonaws.com`. */
  readonly principalArn: string;
  readonly accessKeyId?: string;
  /** The service that makes the request on the caller's behalf, as `kms:ViaService` names it: `workspaces.local.amazonaws.com`. */
  readonly viaService?: string;
  /** ARN of the AWS resource on whose behalf a service asks, as `aws:SourceArn` names it. */
  readonly sourceArn?: string;
  /** Of a request over HTTP. */
  readonly sourceIp?: string;
  readonly userAgent?: string;
}

/** The account itself, which the default key policy lets do everything. Who calls in process unless it names another. */
export const ACCOUNT_ROOT = `arn:aws:iam::${ACCOUNT}:root`;

const PRINCIPAL =
  /^arn:aws:(?:iam::\d{12}:(?:root|(?:user|role)\/[\w+=,.@/-]{1,512})|sts::\d{12}:assumed-role\/[\w+=,.@-]{1,64}\/[\w+=,.@-]{2,64})$/;
const SERVICE = /^[a-z0-9-]+(?:\.[a-z0-9-]+)?\.amazonaws\.com$/;

/** Whether `text` has the form of a principal: an IAM or STS ARN, or the name of an AWS service. */
export const isPrincipal = (text: string): boolean => PRINCIPAL.test(text) || isService(text);

/** Whether a principal is an AWS service. */
export const isService = (principalArn: string): boolean => SERVICE.test(principalArn);

/** The account that a principal belongs to; undefined for a service, which belongs to none. */
export const accountOf = (principalArn: string): string | undefined => parseArn(principalArn)?.accountId;

/** Everyone a principal counts as where grants and policies name principals: itself and, for a role's session, the role. */
export function identitiesOf(principalArn: string): readonly string[] {
  const arn = parseArn(principalArn);
  const [kind, role] = arn?.resource.split('/') ?? [];
  if (arn?.service !== 'sts' || kind !== 'assumed-role') return [principalArn];
  return [principalArn, formatArn({ ...arn, service: 'iam', resource: `role/${role}` })];
}
