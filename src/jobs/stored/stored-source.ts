/** A raw image that is an object or a snapshot in a store, as the source of a volume. */
import { VolsealError } from '../../errors.js';
import { readable } from '../../stores/file-source.js';
import { openStored } from '../../stores/open.js';
import type { StoreOptions } from '../../stores/store.js';
import { readEdges, refuseOtherFormats } from '../../transfer/image-format.js';
import type { VolumeSource } from '../volume-plan.js';

/**
 * Opens it for `use`, which encrypts it.
 * @param raw takes it as it is, also where it looks like a container
 * @throws {VolsealError} `ERR_STORE_*`, `ERR_ARGUMENT` (another format), and whatever `use` throws
 */
export async function withStoredImage<T>(
  path: string,
  { store, raw, signal }: { store: StoreOptions | undefined; raw: boolean; signal: AbortSignal | undefined },
  use: (source: VolumeSource) => Promise<T>,
): Promise<T> {
  using source = await openStored(path, store, signal);
  if (!raw) refuseOtherFormats(await readEdges(readable(source, signal), source.sizeBytes), path);
  return await use({ path, imageBytes: source.sizeBytes, side: { kind: 'stored', source } });
}

/** What an object or a snapshot as source or target does not allow. @throws {VolsealError} `ERR_ARGUMENT` */
export function checkStoredOptions(path: string, { sha256, resume, sparse }: { sha256: boolean; resume: boolean; sparse: boolean }): void {
  const refuse = (why: string): never => {
    throw new VolsealError('ERR_ARGUMENT', `${path}: is in a store: ${why}`, { details: { path } });
  };
  if (sparse) refuse('holes are neither read from there nor written there; leave out the sparse option');
  if (resume) refuse('a new snapshot can be resumed only where decrypt makes it of a volume in a file; leave out the resume option');
  if (sha256) refuse('its pieces overtake each other, so that no SHA-256 is made on the way; leave out the sha256 option');
}
