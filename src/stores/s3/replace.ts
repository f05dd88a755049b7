/**
 * The first bytes of an object, replaced. S3 cannot write into an object: a new one is made of one part with the new
 * bytes and of copies, inside S3, of the rest. It replaces the old one only if that is still there (If-Match), and at
 * once.
 */
import type { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import type { CreateMultipartUploadCommandInput, HeadObjectCommandOutput } from '@aws-sdk/client-s3';
import pLimit from 'p-limit';
import { VolsealError } from '../../errors.js';
import { S3_COPIES_AT_ONCE, S3_COPY_BYTES, S3_PART_BYTES_MIN } from '../../limits.js';
import { type S3Location, s3Location } from '../location.js';
import { fillFrom } from '../sdk-errors.js';
import type { StoreOptions } from '../store.js';
import { S3Connection } from './client.js';
import { combineCrc32, parseCrc32 } from './crc32.js';
import { objectState } from './object.js';
import { createUpload, type Part, refuseVersion, replaced, S3Upload } from './upload.js';

/** @throws {VolsealError} `ERR_ARGUMENT` an old version of an object, which cannot be replaced */
export const checkReplaceable = (name: string): void => refuseVersion(s3Location(name));

/**
 * Replaces the first bytes of an object. Its metadata, storage class and encryption stay; tags and access control lists
 * do not.
 * @param state that it had when it was read (`ImageSource.state`) @param front at most 16 MiB
 * @returns the state of the new object; undefined where S3 did not tell
 * @throws {VolsealError} `ERR_SOURCE_CHANGED` it has another state now; `ERR_STORE_*`, `ERR_ABORTED`. Whatever fails,
 * the object is as it was
 */
export async function replaceFront(
  name: string,
  state: string,
  front: Uint8Array,
  store: StoreOptions | undefined,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const location = s3Location(name);
  const connection = await S3Connection.open(store);
  try {
    const head = await headOf(connection, location, signal);
    const { ETag, ContentLength: sizeBytes = 0 } = head;
    if (ETag === undefined || objectState(head) !== state) throw replaced(name);
    const first = await firstPart(connection, location, ETag, Math.min(sizeBytes, S3_PART_BYTES_MIN), signal);
    const before = crc32(first);
    first.set(front);
    const uploadId = await createUpload(connection, location, aboutOf(head), signal);
    await using upload = new S3Upload(connection, location, uploadId, {
      ...{ sizeBytes, pieceBytes: first.length, condition: { IfMatch: ETag } },
    });
    await upload.write({ offsetBytes: 0, bytes: first, crc32: crc32(first), blockDigests: new Uint8Array() }, signal);
    const range = { uploadId, etag: ETag, fromByte: first.length, sizeBytes };
    const rest = await copyRest(connection, location, range, signal).catch((error: unknown) => {
      throw error instanceof VolsealError && ['PreconditionFailed', 'NoSuchKey'].includes(String(error.details.name))
        ? replaced(name, error)
        : error;
    });
    checkRest(name, head, before, rest);
    upload.parts = [...upload.parts, ...rest];
    await upload.complete(signal);
    return upload.made === undefined ? undefined : objectState(upload.made);
  } finally {
    connection.close();
  }
}

async function headOf(connection: S3Connection, location: S3Location, signal: AbortSignal | undefined): Promise<HeadObjectCommandOutput> {
  const { bucket: Bucket, key: Key } = location;
  return await connection.call(
    'HeadObject',
    's3:GetObject',
    location,
    ({ client, sdk }, send) => client.send(new sdk.HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }), send),
    signal,
  );
}

async function firstPart(
  connection: S3Connection,
  location: S3Location,
  IfMatch: string,
  bytes: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const { bucket: Bucket, key: Key } = location;
  const part = new Uint8Array(bytes);
  await connection.call(
    'GetObject',
    's3:GetObject',
    location,
    async ({ client, sdk }, send) => {
      const { Body } = await client.send(new sdk.GetObjectCommand({ Bucket, Key, IfMatch, Range: `bytes=0-${bytes - 1}` }), send);
      await fillFrom(Body as Readable, part);
    },
    signal,
  );
  return part;
}

/** What the new object has of the old one beside its bytes. */
function aboutOf(head: HeadObjectCommandOutput): Partial<CreateMultipartUploadCommandInput> {
  const { Metadata, ContentType, ContentEncoding, ContentDisposition, ContentLanguage, CacheControl, StorageClass } = head;
  const { ServerSideEncryption, SSEKMSKeyId, BucketKeyEnabled } = head;
  const all = { Metadata, ContentType, ContentEncoding, ContentDisposition, ContentLanguage, CacheControl, StorageClass };
  const given = { ...all, ServerSideEncryption, SSEKMSKeyId, BucketKeyEnabled };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

async function copyRest(
  connection: S3Connection,
  location: S3Location,
  { uploadId, etag, fromByte, sizeBytes }: { uploadId: string; etag: string; fromByte: number; sizeBytes: number },
  signal: AbortSignal | undefined,
): Promise<Part[]> {
  const { bucket: Bucket, key: Key, name } = location;
  const count = Math.ceil((sizeBytes - fromByte) / S3_COPY_BYTES);
  const CopySource = `${Bucket}/${Key.split('/').map(encodeURIComponent).join('/')}`;
  const copy = async (ordinal: number): Promise<Part> => {
    const at = fromByte + ordinal * S3_COPY_BYTES;
    const end = Math.min(at + S3_COPY_BYTES, sizeBytes);
    const { CopyPartResult } = await connection.call(
      'UploadPartCopy',
      's3:PutObject',
      location,
      ({ client, sdk }, send) =>
        client.send(
          new sdk.UploadPartCopyCommand({
            ...{ Bucket, Key, UploadId: uploadId, PartNumber: ordinal + 2 },
            ...{ CopySource, CopySourceIfMatch: etag, CopySourceRange: `bytes=${at}-${end - 1}` },
          }),
          send,
        ),
      signal,
    );
    const sum = parseCrc32(CopyPartResult?.ChecksumCRC32);
    if (CopyPartResult?.ETag === undefined || sum === undefined)
      throw new VolsealError('ERR_STORE_REQUEST', `${name}: the server copied a part and told neither its ETag nor its CRC-32`, {
        details: { path: name },
      });
    return { etag: CopyPartResult.ETag, crc32: sum, bytes: end - at };
  };
  const atOnce = pLimit(S3_COPIES_AT_ONCE);
  return await Promise.all(Array.from({ length: count }, (_, ordinal) => atOnce(() => copy(ordinal))));
}

/** Where S3 knows the CRC-32 of the whole old object, what was copied must fit it. @throws `ERR_STORE_REQUEST` */
function checkRest(name: string, { ChecksumCRC32, ChecksumType }: HeadObjectCommandOutput, first: number, rest: readonly Part[]): void {
  const whole = ChecksumType === 'COMPOSITE' ? undefined : parseCrc32(ChecksumCRC32);
  if (whole === undefined) return;
  if (rest.reduce((sum, part) => combineCrc32(sum, part.crc32, part.bytes), first) === whole) return;
  throw new VolsealError('ERR_STORE_REQUEST', `${name}: the copied parts do not have the CRC-32 of the object`, {
    details: { path: name },
  });
}
