/** What a name in a store opens: an object or a snapshot, as a source or as a target. */
import { VolsealError } from '../errors.js';
import { isSnapshot } from './ebs/location.js';
import { s3Location } from './location.js';
import type { ImageSource, ImageTarget, OpenSource, SnapshotOptions, StoreOptions } from './store.js';

/**
 * Opens what a name in a store names; the caller disposes of it.
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_STORE_*`, `ERR_ABORTED`
 */
export async function openStored(name: string, store: StoreOptions | undefined, signal?: AbortSignal): Promise<OpenSource> {
  if (isSnapshot(name)) return await (await import('./ebs/snapshot.js')).openSnapshot(name, store, signal);
  const [{ S3Connection }, { openObject }] = await Promise.all([import('./s3/client.js'), import('./s3/object.js')]);
  const location = s3Location(name);
  const connection = await S3Connection.open(store);
  try {
    const source = await openObject(connection, location, signal);
    return { ...source, [Symbol.dispose]: () => connection.close() };
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** How a new object or snapshot is made. */
export interface StoredTargetOptions {
  /** Undefined: an object that grows as pieces come; a snapshot cannot. */
  readonly sizeBytes: number | undefined;
  /** An object that is there is replaced. */
  readonly force: boolean;
  /** Of a snapshot: blocks of zeros are left out. */
  readonly sparse?: boolean;
  readonly snapshot?: SnapshotOptions | undefined;
  /** Of a snapshot with a parent: the parent's contents. */
  readonly base?: ImageSource | undefined;
}

/**
 * Begins an object or a snapshot; the caller disposes of it, completed or not.
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IMAGE_SIZE`, `ERR_TARGET_EXISTS`, `ERR_STORE_*`, `ERR_ABORTED`
 */
export async function beginStored(
  name: string,
  { sizeBytes, force, sparse, snapshot, base }: StoredTargetOptions,
  store: StoreOptions | undefined,
  signal?: AbortSignal,
): Promise<ImageTarget> {
  if (isSnapshot(name)) {
    if (sizeBytes === undefined)
      throw new VolsealError('ERR_ARGUMENT', `${name}: the size of a snapshot must be known when it begins`, {
        details: { path: name, unknownSize: true },
      });
    return await (await import('./ebs/upload.js')).startUpload(name, sizeBytes, { ...snapshot, sparse, base }, store, signal);
  }
  const [{ S3Connection }, { openUpload }] = await Promise.all([import('./s3/client.js'), import('./s3/upload.js')]);
  const location = s3Location(name);
  const connection = await S3Connection.open(store);
  try {
    return await openUpload(connection, location, sizeBytes, force, signal);
  } catch (error) {
    connection.close();
    throw error;
  }
}
