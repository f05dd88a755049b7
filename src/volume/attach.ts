/** Attaching: from a file to a `Volume`. */
import { withPath } from '../errors.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import { repairHeader } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { Volume } from './volume.js';
import { type KmsAccess, openVolumeFile, unlockVolume } from './volume-file.js';

/** Options of `attach`. */
export interface AttachOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /** Where the key is unwrapped; default: what the header records, unless that is a URL. */
  kms?: string | undefined;
  /** Where the embedded KMS lies if neither `kms` nor the header says. Default: the user's data folder. */
  embeddedHome?: string | undefined;
  /** Pairs that the volume's encryption context must have: whose volume the caller expects this to be. */
  encryptionContext?: EncryptionContext | undefined;
  /** With which rights KMS is asked, where they are not those of the credentials alone. */
  kmsAccess?: KmsAccess | undefined;
  /** Several readers may attach the same volume; a writer is alone. */
  readOnly?: boolean | undefined;
  /** Ends the attaching with `ERR_ABORTED`, however long KMS would take; a volume that is attached it does not touch. */
  signal?: AbortSignal | undefined;
}

const NOT_ATTACHED = 'the volume was not attached';

/**
 * Attaches a volume: takes its lock, has KMS unwrap its key into the vault, proves the header by it, and repairs a damaged or older
 * header copy from the good one (where attached for writing).
 *
 * @returns the volume; the caller detaches it
 * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_KMS_*`, `ERR_CONTEXT_MISMATCH`,
 * `ERR_KEY_DIGEST`, `ERR_IO`, `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`, `ERR_ABORTED`
 */
export async function attach(path: string, options: AttachOptions = {}): Promise<Volume> {
  const writable = options.readOnly !== true;
  const file = await openVolumeFile(path, { header: options.header, writable, lock: writable ? 'exclusive' : 'shared' });
  let pool: PoolLease | undefined;
  let key: KeyHandle | undefined;
  try {
    pool = leasePool();
    throwIfAborted(options.signal, NOT_ATTACHED);
    key = await unlockVolume(file, options, pool);
    throwIfAborted(options.signal, NOT_ATTACHED);
    if (writable) await repairHeader(file.header, file.found, file.headerPath);
    const { segment, sizeBytes } = file;
    const device = native.deviceOpen({
      fd: file.data.fd,
      key,
      dataOffsetBytes: segment.offsetBytes,
      sizeBytes,
      sectorBytes: segment.sectorBytes,
      writable,
      sparse: file.token.allocation === 'sparse',
    });
    return new Volume({ file, key, device, pool, writable });
  } catch (error) {
    if (key !== undefined) native.keyWipe(key);
    await pool?.release();
    await file.close();
    throw withPath(error, path);
  }
}
