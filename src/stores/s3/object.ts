/** An object as a source: ranges of one state of it. */
import type { Readable } from 'node:stream';
import { VolsealError } from '../../errors.js';
import type { S3Location } from '../location.js';
import { BodyBuffer, type BodyOptions } from '../reply-body.js';
import { nameOf } from '../sdk-errors.js';
import type { ImageSource } from '../store.js';
import type { S3Connection } from './client.js';

/** The permission that GetObject and HeadObject need. */
const readAction = ({ versionId }: S3Location): string => (versionId === undefined ? 's3:GetObject' : 's3:GetObjectVersion');

/**
 * Looks the object up and stays with the state that it has: by its version where one was named or the bucket keeps
 * versions, and by its ETag in any case.
 * @throws {VolsealError} `ERR_STORE_*`, `ERR_ABORTED`
 */
export async function openObject(connection: S3Connection, location: S3Location, signal?: AbortSignal): Promise<ImageSource> {
  const { bucket: Bucket, key: Key, name } = location;
  const action = readAction(location);
  const head = await connection.call(
    'HeadObject',
    action,
    location,
    ({ client, sdk }, send) => client.send(new sdk.HeadObjectCommand({ Bucket, Key, ...versionOf(location.versionId) }), send),
    signal,
  );
  const { ContentLength: sizeBytes, ETag } = head;
  if (sizeBytes === undefined || ETag === undefined)
    throw new VolsealError('ERR_STORE_REQUEST', `${name}: the server tells neither length nor ETag of the object`, {
      details: { path: name },
    });
  const named = versionIn(head);
  const pinned = { Bucket, Key, IfMatch: ETag, ...versionOf(location.versionId ?? named) };
  return {
    name,
    sizeBytes,
    state: objectState(head),
    async readRange(offsetBytes, target, ended) {
      const Range = `bytes=${offsetBytes}-${offsetBytes + target.length - 1}`;
      await connection.call(
        'GetObject',
        action,
        location,
        async ({ client, sdk }, send) => {
          const into = new BodyBuffer(target);
          const options: BodyOptions = { ...send, into };
          const { Body, ContentRange } = await client.send(new sdk.GetObjectCommand({ ...pinned, Range }), options).catch(gone(location));
          const expected = `bytes ${offsetBytes}-${offsetBytes + target.length - 1}/${sizeBytes}`;
          if (ContentRange !== expected) {
            (Body as { destroy?(): void } | undefined)?.destroy?.();
            throw new VolsealError('ERR_STORE_REQUEST', `${name}: the server sent ${ContentRange ?? 'no range'}, asked was ${expected}`, {
              details: { path: name },
            });
          }
          await into.fill(Body as Readable);
        },
        ended,
      );
    },
  };
}

interface State {
  readonly VersionId?: string | undefined;
  readonly ETag?: string | undefined;
}

const versionIn = ({ VersionId }: State): string | undefined => (VersionId === 'null' ? undefined : VersionId);

/** The state of an object by what S3 says of it (`ImageSource.state`). */
export const objectState = (head: State): string => `${versionIn(head) ?? ''} ${head.ETag}`;

const versionOf = (versionId: string | undefined) => (versionId === undefined ? {} : { VersionId: versionId });

/** An object that was there a moment ago and is not now has changed as well. */
function gone({ name }: S3Location): (error: unknown) => never {
  return (error) => {
    if (nameOf(error) !== 'NoSuchKey') throw error;
    throw new VolsealError('ERR_SOURCE_CHANGED', `${name}: was deleted while it was read`, { cause: error, details: { path: name } });
  };
}
