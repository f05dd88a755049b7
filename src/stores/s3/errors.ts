/** What S3's answers and failed connections mean, as errors of volseal. */
import { messageOf, VolsealError } from '../../errors.js';
import type { S3Location } from '../location.js';
import { isAboutCredentials, isNetwork, nameOf, statusOf } from '../sdk-errors.js';

/** A request, for messages. */
export interface S3Call {
  readonly operation: string;
  /** The IAM action that it needs. */
  readonly action: string;
  readonly location: S3Location;
}

/** Answers of status 4xx that ask for another try. `BadDigest`: the bytes changed on their way. */
const TRY_AGAIN = new Set(['SlowDown', 'Throttling', 'ThrottlingException', 'RequestTimeout', 'RequestTimeTooSkewed', 'BadDigest']);

/** Whether the same request may succeed a moment later. Access denied is not: it fails at once. */
export function isWorthRetry(error: unknown): boolean {
  if (error instanceof VolsealError) return false;
  const status = statusOf(error);
  return status >= 500 || status === 429 || TRY_AGAIN.has(nameOf(error)) || isNetwork(error);
}

/** `error` of the SDK as a `VolsealError`; what is none of S3's stays what it is. */
export function storeError(error: unknown, call: S3Call): unknown {
  if (error instanceof VolsealError) return error;
  const { operation, action, location } = call;
  const { name: path, bucket } = location;
  const name = nameOf(error);
  const status = statusOf(error);
  const details = { path, operation, name, ...(status === 0 ? {} : { status }) };
  const fail = (code: VolsealError['code'], text: string, more = {}): VolsealError =>
    new VolsealError(code, `${path}: ${text}`, { cause: error, details: { ...details, ...more } });
  if (name === 'NoSuchBucket') return fail('ERR_STORE_NOT_FOUND', `there is no bucket ${bucket}`);
  if (name === 'NoSuchUpload') return fail('ERR_STORE_NOT_FOUND', 'its upload is gone: something has aborted it');
  if (name === 'NoSuchVersion') return fail('ERR_STORE_NOT_FOUND', 'there is no such version of the object');
  if (name === 'CredentialsProviderError') return fail('ERR_STORE_DENIED', 'no AWS credentials were found');
  if (isAboutCredentials(error)) return fail('ERR_STORE_DENIED', `S3 does not accept the credentials (${name})`);
  if (name === 'PermanentRedirect' || name === 'AuthorizationHeaderMalformed' || status === 301)
    return fail('ERR_STORE_REQUEST', `the bucket ${bucket} is in another region (${name})`, { wrongRegion: true });
  if (status === 404) return fail('ERR_STORE_NOT_FOUND', `there is no such object in the bucket ${bucket}, or no such bucket`);
  if (status === 403) return fail('ERR_STORE_DENIED', `S3 denies ${operation}: the permission ${action} is missing`, { action });
  if (status === 412) return fail('ERR_SOURCE_CHANGED', 'was changed while it was read');
  if (status >= 500 || isNetwork(error) || isWorthRetry(error))
    return fail('ERR_STORE_UNREACHABLE', `${operation} failed again and again: ${name}: ${messageOf(error)}`);
  return status === 0 ? error : fail('ERR_STORE_REQUEST', `S3 refuses ${operation}: ${name}: ${messageOf(error)}`);
}
