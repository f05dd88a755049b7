/** Attaching: from a file to a `Volume`. */
import { withPath } from '../errors.js';
import { repairHeader } from '../luks2/store.js';
import { VolumeSession } from './session.js';
import type { StoredOpenOptions } from './stored-volume.js';
import { Volume } from './volume.js';

/** Options of `attach`. */
export interface AttachOptions extends StoredOpenOptions {
  /** Several readers may attach the same volume; a writer is alone. */
  readOnly?: boolean | undefined;
}

/**
 * Attaches a volume: takes its lock, has KMS unwrap its key into the vault, proves the header by it, and repairs a
 * damaged or older header copy from the good one (where attached for writing).
 *
 * @returns the volume; the caller detaches it
 * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_KMS_*`,
 * `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_IO`, `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`, `ERR_ABORTED`
 */
export async function attach(path: string, options: AttachOptions = {}): Promise<Volume> {
  const writable = options.readOnly !== true;
  const access = { lock: writable ? 'exclusive' : 'shared', changesData: writable, ifStopped: 'the volume was not attached' } as const;
  const session = await VolumeSession.open(path, options, access);
  try {
    await session.unlock();
    session.throwIfAborted();
    const { header, found } = session.file;
    if (writable) {
      await repairHeader(header.handle, found, header.path);
      await session.forgetSnapshot();
    }
    return new Volume({ session, device: session.openDevice(writable), writable, logger: options.logger });
  } catch (error) {
    await session.close();
    throw withPath(error, path);
  }
}
