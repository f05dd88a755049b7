/** What a volume's header says, whether the volume is a file or an object. */
import { isStored } from '../stores/location.js';
import type { StoreOptions } from '../stores/store.js';
import { describeVolumeFile, type VolumeInfo } from './info.js';

/** Options of `describeVolume`. */
export interface DescribeOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /** How a store is reached where the volume is an object. */
  store?: StoreOptions | undefined;
}

/**
 * Reads the header of a volume, without a key and without KMS.
 *
 * @param path of a file or device, or `s3://BUCKET/KEY`
 * @throws {VolsealError} `ERR_IO`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_STORE_*`, `ERR_ARGUMENT`
 */
export async function describeVolume(path: string, options: DescribeOptions = {}): Promise<VolumeInfo> {
  if (!isStored(path)) return describeVolumeFile(path, options);
  return (await import('./stored-volume.js')).describeStoredVolume(path, options);
}
