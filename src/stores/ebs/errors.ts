/** What answers of the EBS direct APIs and failed connections mean, as errors of volseal. */
import { messageOf, VolsealError } from '../../errors.js';
import { isAboutCredentials, isNetwork, nameOf, statusOf } from '../sdk-errors.js';

/** A request, for messages. */
export interface EbsCall {
  /** Also the name of its IAM action, behind `ebs:`. */
  readonly operation: string;
  /** The snapshot, as messages name it. */
  readonly name: string;
}

/** What EBS gives beside the name of an error. */
export const reasonOf = (error: unknown): string => String((error as { Reason?: unknown } | undefined)?.Reason ?? '');

const TRY_AGAIN = new Set([
  ...['RequestThrottledException', 'ThrottlingException', 'Throttling', 'ConcurrentLimitExceededException', 'RequestTimeout'],
  // Our own: what arrived is not what was sent.
  'WrongChecksum',
]);
/** EBS says so of blocks that it reads a moment later; and of blocks that changed on their way to it. */
const PASSING = /failed to read block data|checksum/i;

/** Whether the same request may succeed a moment later. Access denied is not: it fails at once. */
export function isWorthRetry(error: unknown): boolean {
  if (error instanceof VolsealError) return false;
  const status = statusOf(error);
  const name = nameOf(error);
  if (name === 'ValidationException') return PASSING.test(messageOf(error));
  return status >= 500 || status === 429 || TRY_AGAIN.has(name) || isNetwork(error);
}

/** Whether EBS does not know the snapshot: of a new one it may say so for a while. */
export const isUnknown = (error: unknown): boolean => nameOf(error) === 'ResourceNotFoundException' || statusOf(error) === 404;

/** `error` of the SDK as a `VolsealError`; what is none of EBS's stays what it is. */
export function snapshotError(error: unknown, { operation, name: path }: EbsCall): unknown {
  if (error instanceof VolsealError) return error;
  const name = nameOf(error);
  const reason = reasonOf(error);
  const status = statusOf(error);
  const details = { path, operation, name, ...(reason === '' ? {} : { reason }), ...(status === 0 ? {} : { status }) };
  const fail = (code: VolsealError['code'], text: string, more = {}): VolsealError =>
    new VolsealError(code, `${path}: ${text}`, { cause: error, details: { ...details, ...more } });
  if (name === 'CredentialsProviderError') return fail('ERR_STORE_DENIED', 'no AWS credentials were found');
  if (isAboutCredentials(error)) return fail('ERR_STORE_DENIED', `EBS does not accept the credentials (${name})`);
  if (reason === 'DEPENDENCY_ACCESS_DENIED')
    return fail('ERR_STORE_DENIED', `EBS denies ${operation}: the snapshot's KMS key may not be used: ${messageOf(error)}`, {
      kmsKey: true,
    });
  if (status === 403) {
    const action = `ebs:${operation}`;
    return fail('ERR_STORE_DENIED', `EBS denies ${operation}: the permission ${action} on the snapshot is missing`, { action });
  }
  if (isUnknown(error)) return fail('ERR_STORE_NOT_FOUND', 'there is no such snapshot in this account and region');
  if (name === 'ServiceQuotaExceededException') return fail('ERR_STORE_REQUEST', `a quota of the account is used up: ${messageOf(error)}`);
  if (status >= 500 || isNetwork(error) || isWorthRetry(error))
    return fail('ERR_STORE_UNREACHABLE', `${operation} failed again and again: ${name}: ${messageOf(error)}`);
  return status === 0 ? error : fail('ERR_STORE_REQUEST', `EBS refuses ${operation}: ${name}: ${messageOf(error)}`);
}
