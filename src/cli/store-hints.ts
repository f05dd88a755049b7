/** Hints about objects in stores (hints.ts has the others). */
import type { ErrorDetails } from '../errors.js';

/** A path that names an object. */
export const isObject = (path: unknown): boolean => typeof path === 'string' && path.startsWith('s3://');

/** For `ERR_STORE_DENIED`. */
export function storeDeniedHint({ details }: { details: ErrorDetails }): string {
  if (typeof details.action === 'string') {
    const missing = details.operation === 'HeadObject' ? ' Without s3:ListBucket an object that is not there is denied as well.' : '';
    return `Ask whoever administers the bucket to allow ${details.action} on it.${missing}`;
  }
  return 'Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; aws sts get-caller-identity shows who you are.';
}

/** For `ERR_STORE_REQUEST`. */
export function storeRequestHint({ details }: { details: ErrorDetails }): string {
  return details.wrongRegion
    ? 'Set AWS_REGION to the region of the bucket (aws s3api get-bucket-location --bucket BUCKET).'
    : 'Check --endpoint-url: the server must speak S3 with multipart uploads, ranges and CRC32 checksums.';
}

/** For `ERR_STATE_BUSY`. */
export const STORE_BUSY_HINT = 'Wait until the other writer is done, then look at what is there: volseal info shows a volume.';

/** For `ERR_STORE_NOT_FOUND`. */
export const STORE_NOT_FOUND_HINT = 'aws s3 ls s3://BUCKET/ lists what is there. For another server than AWS: --endpoint-url URL.';

/** For `ERR_STORE_UNREACHABLE`. */
export const STORE_UNREACHABLE_HINT =
  'Check the network, and --endpoint-url or AWS_ENDPOINT_URL_S3; then run the command again. Nothing was left behind that is visible.';
