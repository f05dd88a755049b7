/** A raw image that is an object in a store, as the source of a volume. */
import { VolsealError } from '../errors.js';
import { s3Location } from '../stores/location.js';
import { S3Connection } from '../stores/s3-client.js';
import { openObject } from '../stores/s3-object.js';
import type { ImageSource, StoreOptions } from '../stores/store.js';
import { readEdges, refuseOtherFormats } from './image-format.js';
import type { VolumeSource } from './volume-plan.js';

/**
 * Opens the object for `use`, which encrypts it.
 * @param raw takes it as it is, also where it looks like a container
 * @throws {VolsealError} `ERR_STORE_*`, `ERR_ARGUMENT` (another format), and whatever `use` throws
 */
export async function withStoredImage<T>(
  path: string,
  { store, raw, signal }: { store: StoreOptions | undefined; raw: boolean; signal: AbortSignal | undefined },
  use: (source: VolumeSource) => Promise<T>,
): Promise<T> {
  using connection = await S3Connection.open(store);
  const source = await openObject(connection, s3Location(path), signal);
  if (!raw) refuseOtherFormats(await readEdges(readable(source, signal), source.sizeBytes), path);
  return await use({ path, imageBytes: source.sizeBytes, side: { kind: 'stored', source } });
}

/** Short ranges of a source, for whoever looks at what it is. */
function readable(source: ImageSource, signal: AbortSignal | undefined) {
  return {
    async read(offsetBytes: number, bytesMax: number): Promise<Buffer> {
      const bytes = Buffer.alloc(Math.max(0, Math.min(bytesMax, source.sizeBytes - offsetBytes)));
      if (bytes.length > 0) await source.readRange(offsetBytes, bytes, signal);
      return bytes;
    },
  };
}

/** What an object as source or target does not allow. @throws {VolsealError} `ERR_ARGUMENT` */
export function checkStoredOptions(path: string, { sha256, resume, sparse }: { sha256: boolean; resume: boolean; sparse: boolean }): void {
  const refuse = (why: string): never => {
    throw new VolsealError('ERR_ARGUMENT', `${path}: is an object in a store: ${why}`, { details: { path } });
  };
  if (sparse) refuse('holes are neither read from there nor written there; leave out the sparse option');
  if (resume) refuse('such a job cannot be resumed yet; leave out the resume option');
  if (sha256) refuse('its pieces overtake each other, so that no SHA-256 is made on the way; leave out the sha256 option');
}
