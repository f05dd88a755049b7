/** Hints about objects and snapshots in stores (hints.ts has the others). */
import type { ErrorDetails } from '../../errors.js';
import { quoted } from '../terminal/text.js';

/** A path that names an object. */
export const isObject = (path: unknown): boolean => typeof path === 'string' && path.startsWith('s3://');

const isSnapshot = (path: unknown): boolean => typeof path === 'string' && path.startsWith('ebs:');

/** An upload that failed has an id already. */
const idIn = (path: unknown): string => (/snap-[0-9a-f]+$/.exec(String(path)) ?? ['SNAPSHOT'])[0];

/** For `ERR_STORE_DENIED`. */
export function storeDeniedHint({ details }: { details: ErrorDetails }): string {
  if (details.kmsKey === true)
    return 'Ask whoever administers the KMS key of the snapshot to allow kms:Decrypt, kms:GenerateDataKeyWithoutPlaintext, kms:ReEncrypt* and kms:DescribeKey on it.';
  if (typeof details.action === 'string' && isSnapshot(details.path))
    return `Ask whoever administers the account to allow ${details.action} on the snapshot; if another account owns it, that account must share it. volseal policy administrator --stores prints the statements.`;
  if (typeof details.action === 'string') {
    const missing = details.operation === 'HeadObject' ? ' Without s3:ListBucket an object that is not there is denied as well.' : '';
    return `Ask whoever administers the bucket to allow ${details.action} on it.${missing}`;
  }
  return 'Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; aws sts get-caller-identity shows who you are.';
}

/** For `ERR_STORE_REQUEST`. */
export function storeRequestHint({ details }: { details: ErrorDetails }): string {
  if (isSnapshot(details.path)) return snapshotRequestHint(details);
  return details.wrongRegion
    ? 'Set AWS_REGION to the region of the bucket (aws s3api get-bucket-location --bucket BUCKET).'
    : 'Check --endpoint-url: the server must speak S3 with multipart uploads, ranges and CRC32 checksums.';
}

function snapshotRequestHint({ path, reason, name }: ErrorDetails): string {
  if (name === 'ServiceQuotaExceededException')
    return 'Wait until pending snapshots are complete (aws ec2 describe-snapshots --owner-ids self --filters Name=status,Values=pending), or ask AWS for a higher quota.';
  if (reason === 'INVALID_SNAPSHOT_ID')
    return `Only a snapshot that is complete can be read, and only a pending one written: aws ec2 describe-snapshots --snapshot-ids ${idIn(path)} shows its state.`;
  if (reason === 'UNRELATED_SNAPSHOTS')
    return 'Both must be snapshots of one volume, or one the parent of the other. Without --since all blocks are read.';
  return 'Check --endpoint-url and AWS_ENDPOINT_URL_EBS: the server must speak the EBS direct APIs, with blocks of 512 KiB and SHA-256.';
}

/** How an upload that is kept for a later run is given up. `record`: of `ErrorDetails`. */
function giveUpHint(record: unknown): string {
  const [, bucket = 'BUCKET', key = 'KEY'] = /^s3:\/\/([^/]+)\/(.+)\.volseal-resume$/s.exec(String(record)) ?? [];
  const uploads = `aws s3api list-multipart-uploads --bucket ${quoted(bucket)} --prefix ${quoted(key)}`;
  return `aws s3 rm ${quoted(String(record))}. The parts that S3 has stay until aws s3api abort-multipart-upload removes them; ${uploads} shows the upload.`;
}

/** For `ERR_RESUME` of an upload. */
export const uploadResumeHint = ({ details: { record } }: { details: ErrorDetails }): string =>
  `With the same source, target and options as before the upload goes on. To begin anew: ${giveUpHint(record)}`;

/** For `ERR_RESUME` of a snapshot. */
export function snapshotResumeHint({ details: { path, snapshotId } }: { details: ErrorDetails }): string {
  const remove = `aws ec2 delete-snapshot --snapshot-id ${typeof snapshotId === 'string' ? snapshotId : 'SNAPSHOT'}`;
  return `To begin anew: rm ${quoted(String(path))}. What was begun stays pending until EBS cancels it after a day; ${remove} removes it at once.`;
}

/** For `ERR_ABORTED` of an upload. */
export const uploadAbortedHint = ({ details: { record } }: { details: ErrorDetails }): string =>
  `To continue from there, run the same command again. To give it up: ${giveUpHint(record)}`;

/** For `ERR_STATE_BUSY`. */
export const STORE_BUSY_HINT = 'Wait until the other writer is done, then look at what is there: volseal info shows a volume.';

/** For `ERR_STORE_NOT_FOUND`. */
export const storeNotFoundHint = ({ details: { path } }: { details: ErrorDetails }): string =>
  isSnapshot(path)
    ? 'aws ec2 describe-snapshots --owner-ids self lists those of the account, AWS_REGION names the region. A new one may need two minutes.'
    : 'aws s3 ls s3://BUCKET/ lists what is there. For another server than AWS: --endpoint-url URL.';

/** For `ERR_STORE_UNREACHABLE`. */
export const storeUnreachableHint = ({ details: { path, record } }: { details: ErrorDetails }): string => {
  if (record !== undefined)
    return 'Check the network, and --endpoint-url or AWS_ENDPOINT_URL_S3; then run the same command again: it goes on from there.';
  return isSnapshot(path)
    ? 'Check the network, and --endpoint-url or AWS_ENDPOINT_URL_EBS; then run the command again. A snapshot that was begun stays pending, unreadable, until EBS cancels it after an hour.'
    : 'Check the network, and --endpoint-url or AWS_ENDPOINT_URL_S3; then run the command again. Nothing was left behind that is visible.';
};
