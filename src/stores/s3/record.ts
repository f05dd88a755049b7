/** A small object beside another one: the record that a later run goes on from. */
import type { Readable } from 'node:stream';
import { VolsealError } from '../../errors.js';
import { UPLOAD_RECORD_BYTES_MAX } from '../../limits.js';
import { type S3Location, s3Location } from '../location.js';
import { fillFrom } from '../sdk-errors.js';
import type { S3Connection } from './client.js';

const ENDING = '.volseal-resume';

/**
 * Where the record of an upload is. @throws {VolsealError} `ERR_ARGUMENT` the key is too long for another one beside it
 */
export const recordOf = ({ bucket, key }: S3Location): S3Location => s3Location(`s3://${bucket}/${key}${ENDING}`);

/**
 * @returns its text; undefined where there is none @throws {VolsealError} `ERR_STORE_*`, `ERR_RESUME` (too long),
 * `ERR_ABORTED`
 */
export async function readRecord(
  connection: S3Connection,
  record: S3Location,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const { bucket: Bucket, key: Key, name } = record;
  const read = connection.call(
    'GetObject',
    's3:GetObject',
    record,
    async ({ client, sdk }, send) => {
      const { Body, ContentLength } = await client.send(new sdk.GetObjectCommand({ Bucket, Key }), send);
      if (ContentLength === undefined || ContentLength > UPLOAD_RECORD_BYTES_MAX) {
        (Body as { destroy?(): void } | undefined)?.destroy?.();
        const message = `${name}: has ${ContentLength} bytes; the record of an upload has at most ${UPLOAD_RECORD_BYTES_MAX}`;
        throw new VolsealError('ERR_RESUME', message, { details: { path: name, record: name } });
      }
      const text = Buffer.alloc(ContentLength);
      await fillFrom(Body as Readable, text);
      return text.toString();
    },
    signal,
  );
  return await read.catch((error: unknown) => {
    if (error instanceof VolsealError && error.code === 'ERR_STORE_NOT_FOUND') return undefined;
    throw error;
  });
}

/**
 * Makes it, unless there is one.
 * @returns whether it is there as `text` @throws {VolsealError} `ERR_STORE_*`, `ERR_ABORTED`
 */
export async function createRecord(
  connection: S3Connection,
  record: S3Location,
  text: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { bucket: Bucket, key: Key } = record;
  const put = connection.call(
    'PutObject',
    's3:PutObject',
    record,
    ({ client, sdk }, send) =>
      client.send(new sdk.PutObjectCommand({ Bucket, Key, Body: text, ContentType: 'application/json', IfNoneMatch: '*' }), send),
    signal,
  );
  return await put.then(
    () => true,
    async (error: unknown) => {
      const status = error instanceof VolsealError ? error.details.status : undefined;
      if (status !== 412 && status !== 409) throw error;
      // An attempt whose reply was lost has made it.
      return (await readRecord(connection, record, signal)) === text;
    },
  );
}

/** Removes it, or finds none. @throws {VolsealError} `ERR_STORE_*` */
export async function removeRecord(connection: S3Connection, record: S3Location): Promise<void> {
  const { bucket: Bucket, key: Key } = record;
  await connection.call('DeleteObject', 's3:DeleteObject', record, ({ client, sdk }, send) =>
    client.send(new sdk.DeleteObjectCommand({ Bucket, Key }), send),
  );
}
