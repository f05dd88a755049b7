/** Attaching, also in the middle of a job in place. */
import { withPath } from '../errors.js';
import { logged } from '../logging.js';
import { isStored } from '../stores/location.js';
import { type AttachOptions, attach as attachWhole } from '../volume/attach.js';
import { Volume } from '../volume/volume.js';
import { type UnfinishedOptions, UnfinishedSession, wholeOrUnfinished } from './unfinished.js';

/** Options of `attach`. */
export interface AttachAnyOptions extends AttachOptions, UnfinishedOptions {}

/**
 * Attaches a volume: takes its lock, has KMS unwrap its key into the vault, proves the header by it, and repairs a
 * damaged or older header copy from the good one (where attached for writing).
 *
 * In the middle of a job in place (`encryptInPlace`, `decryptInPlace`, `reencryptInPlace`) both keys are unwrapped, by
 * the headers in the journal. Attached for writing, the part in the journal is first put into its place. No job goes on
 * meanwhile (`ERR_STATE_BUSY`); afterwards it goes on, or is taken back, with what was written.
 *
 * A volume in a store is attached for reading only, as `attachStored` says.
 *
 * @param path of a file or block device, `s3://BUCKET/KEY`, `ebs:snap-...`
 * @returns the volume; the caller detaches it
 * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_KMS_*`,
 * `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_IO`, `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`, `ERR_ABORTED`;
 * `ERR_STATE_INTERRUPTED` a job is in the middle of it, and its journal is not there; `ERR_RESUME` the journal is
 * damaged
 */
export async function attach(path: string, options: AttachAnyOptions = {}): Promise<Volume> {
  return logged('attach', { path }, options, async (own) => {
    if (isStored(path)) return (await import('../volume/attach-stored.js')).attachStored(path, own);
    return wholeOrUnfinished(
      own,
      () => attachWhole(path, own),
      () => attachUnfinished(path, own),
    );
  });
}

async function attachUnfinished(path: string, options: AttachAnyOptions): Promise<Volume | undefined> {
  const writable = options.readOnly !== true;
  const session = await UnfinishedSession.open(path, options, writable);
  if (session === undefined) return undefined;
  try {
    return new Volume({ session, device: session.openDevice(writable), writable, logger: options.logger });
  } catch (error) {
    await session.close();
    throw withPath(error, path);
  }
}
