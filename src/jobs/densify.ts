/** A sparse volume into a full one, in place: afterwards nobody sees which sectors are in use. */
import { withPath } from '../errors.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import { REQUEST_BYTES_MAX } from '../limits.js';
import { sealHeader } from '../luks2/header-mac.js';
import { repairHeader, writeHeader } from '../luks2/store.js';
import { withToken } from '../luks2/token.js';
import { type DeviceHandle, type KeyHandle, native } from '../native.js';
import { describeOpenVolume, type VolumeInfo } from '../volume/info.js';
import { openVolumeFile, unlockVolume, type VolumeFile } from '../volume/volume-file.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import type { JobOptions } from './transform.js';

/** Options of `densifyVolume`. */
export interface DensifyOptions extends JobOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /** Where the key is unwrapped; default: what the header records, unless that is a URL. */
  kms?: string | undefined;
  /** Where the embedded KMS lies if neither `kms` nor the header says. Default: the user's data folder. */
  embeddedHome?: string | undefined;
  /** Pairs that the volume's encryption context must have. */
  encryptionContext?: EncryptionContext | undefined;
}

/** What `densifyVolume` leaves. */
export interface DensifiedVolume extends VolumeInfo {
  /** Whether there was anything to do: false where the volume was full already. */
  wasSparse: boolean;
}

const STILL_SPARSE = 'the volume is sparse as before and as good; the same command goes on from here';

/**
 * Writes the ciphertext of zeros into every sector that a sparse volume has left out, then says in its header that it is full. A volume
 * that is full already is proved to be what its header says, and left alone, but for a damaged or older header copy: an earlier run may
 * have ended between the two.
 *
 * Whatever ends it early, kill -9 included, leaves a sparse volume that reads the same; a later run fills what is left.
 *
 * @throws {VolsealError} as `attach`; `ERR_IO` also where the disk is full
 */
export async function densifyVolume(path: string, options: DensifyOptions = {}): Promise<DensifiedVolume> {
  const file = await openVolumeFile(path, { header: options.header, writable: true, lock: 'exclusive' });
  const pool = leasePool();
  let key: KeyHandle | undefined;
  try {
    throwIfAborted(options.signal, STILL_SPARSE);
    key = await unlockVolume(file, options, pool);
    const wasSparse = file.token.allocation === 'sparse';
    if (wasSparse) {
      await fillDevice(file, key, pool, options);
      await declareFull(file, key);
    } else {
      await repairHeader(file.header, file.found, file.headerPath);
    }
    return { ...(await describeOpenVolume(file)), wasSparse };
  } catch (error) {
    throw withPath(error, path);
  } finally {
    if (key !== undefined) native.keyWipe(key);
    await pool.release();
    await file.close();
  }
}

/** Fills all of it, and flushes. */
async function fillDevice(file: VolumeFile, key: KeyHandle, pool: PoolLease, options: JobOptions): Promise<void> {
  const { segment, sizeBytes } = file;
  const device = native.deviceOpen({
    fd: file.data.fd,
    key,
    dataOffsetBytes: segment.offsetBytes,
    sizeBytes,
    sectorBytes: segment.sectorBytes,
    writable: true,
    sparse: true,
  });
  try {
    await fillPieces(device, sizeBytes, pool, options);
    await pool.run({ kind: 'flush', device });
  } finally {
    native.deviceClose(device);
  }
}

async function fillPieces(device: DeviceHandle, totalBytes: number, pool: PoolLease, { signal, onProgress }: JobOptions): Promise<void> {
  let nextByte = 0;
  let doneBytes = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    while (nextByte < totalBytes && !failed) {
      throwIfAborted(signal, STILL_SPARSE);
      const offsetBytes = nextByte;
      const lengthBytes = Math.min(REQUEST_BYTES_MAX, totalBytes - offsetBytes);
      nextByte += lengthBytes;
      await pool.run({ kind: 'fill', device, offsetBytes, lengthBytes });
      doneBytes += lengthBytes;
      onProgress?.({ doneBytes, totalBytes });
    }
  };
  const lanes = Array.from({ length: pool.threads }, () =>
    lane().catch((error) => {
      failed = true;
      throw error;
    }),
  );
  // All must have ended before the device is closed, the failed ones and the others.
  const outcomes = await Promise.allSettled(lanes);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

/** Once every sector is on the disk: from now on one of zeros is noise, and a change that somebody made. */
async function declareFull({ found, token, header, headerPath }: VolumeFile, key: KeyHandle): Promise<void> {
  const { headerMac: _, ...unsealed } = token;
  const old = found.header;
  const metadata = withToken(old.metadata, { ...unsealed, allocation: 'full' });
  const sealed = sealHeader(key, { ...old, sequence: old.sequence + 1n, metadata }, headerPath);
  await writeHeader(header, sealed, headerPath, found.from);
}
