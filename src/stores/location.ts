/** Names of objects: `s3://BUCKET/KEY`, with `?versionId=ID` for one version of it. */
import { VolsealError } from '../errors.js';
import { checkNewSnapshot, isSnapshot, snapshotId } from './ebs/location.js';

/** One object, or one version of it. */
export interface S3Location {
  readonly bucket: string;
  readonly key: string;
  /** Of a source: this version, whatever was put there since. */
  readonly versionId: string | undefined;
  /** As the user wrote it, for messages. */
  readonly name: string;
}

const SCHEME = 's3://';
/** S3's rule for names of buckets, and the longer form that older buckets and other servers have. */
const BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$/;
const KEY_BYTES_MAX = 1024;
const VERSION = /^(?<key>.*)\?versionId=(?<versionId>[^&?]+)$/s;

/** Whether a path names something in a store instead of a file. */
export const isStored = (path: string): boolean => path.startsWith(SCHEME) || isSnapshot(path);

/** @throws {VolsealError} `ERR_ARGUMENT` a name in a store that is none, of a source or of a target */
export function checkStoredName(name: string, use: 'source' | 'target'): void {
  if (!isSnapshot(name)) s3Location(name);
  else if (use === 'source') snapshotId(name);
  else checkNewSnapshot(name);
}

/** @throws {VolsealError} `ERR_ARGUMENT` where bucket or key cannot be one */
export function s3Location(name: string): S3Location {
  const refuse = (why: string): never => {
    throw new VolsealError('ERR_ARGUMENT', `${name}: ${why}; expected s3://BUCKET/KEY or s3://BUCKET/KEY?versionId=ID`, {
      details: { path: name },
    });
  };
  const rest = name.slice(SCHEME.length);
  const slash = rest.indexOf('/');
  const bucket = slash === -1 ? rest : rest.slice(0, slash);
  if (!BUCKET.test(bucket)) refuse(`${JSON.stringify(bucket)} is not the name of a bucket`);
  const path = slash === -1 ? '' : rest.slice(slash + 1);
  const { key = path, versionId } = VERSION.exec(path)?.groups ?? {};
  if (key === '' || key.endsWith('/')) refuse('it has no key');
  if (Buffer.byteLength(key) > KEY_BYTES_MAX) refuse(`its key has more than ${KEY_BYTES_MAX} bytes`);
  return { bucket, key, versionId, name };
}
