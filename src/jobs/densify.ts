/**
 * A sparse volume, or one that was trimmed, into a full one, in place: afterwards nobody sees which sectors are in use.
 */

import { withPath } from '../errors.js';
import { FILL_BYTES } from '../limits.js';
import { logged } from '../logging.js';
import { repairHeader } from '../luks2/store.js';
import { native } from '../native.js';
import type { JobOptions } from '../transfer/transform.js';
import { describeContents, type VolumeInfo } from '../volume/info.js';
import { type VolumeSession, withVolume } from '../volume/session.js';
import type { OpenOptions } from '../volume/unlock.js';

/** Options of `densifyVolume`. */
export type DensifyOptions = OpenOptions & JobOptions;

/** What `densifyVolume` leaves. */
export interface DensifiedVolume extends VolumeInfo {
  /** False where the volume was full already. */
  wasSparse: boolean;
  /**
   * Whether it was full and had holes all the same, which something else had made. They read as zeros now; before, as
   * noise.
   */
  hadHoles: boolean;
}

const STILL_SPARSE = 'the volume is sparse as before and reads the same; the same command continues';

/**
 * Writes the ciphertext of zeros into every sector that a sparse volume has left out, then says in its header that it
 * is full. A volume that is full already is proved to be what its header says, and a damaged or older header copy is
 * repaired: an earlier run may have ended between the two. If something else has made holes in it (`fallocate`, a guest
 * that discards), they are filled as well: what they held is gone, and they read as zeros instead of noise. Written
 * data has ciphertext of zeros by chance with a probability of 2^-4096 a sector.
 *
 * Whatever ends it early, kill -9 included, leaves a sparse volume that reads the same; a later run fills what is left.
 *
 * @throws {VolsealError} as `attach`; `ERR_IO` also where the disk is full
 */
export async function densifyVolume(path: string, options: DensifyOptions = {}): Promise<DensifiedVolume> {
  return logged('densify', { path }, options, (own) => densify(path, own));
}

async function densify(path: string, options: DensifyOptions): Promise<DensifiedVolume> {
  const access = { lock: 'exclusive', changesData: true, ifStopped: STILL_SPARSE } as const;
  try {
    return await withVolume(path, options, access, async (session) => {
      const { file } = session;
      await session.unlock();
      const wasSparse = file.token.allocation === 'sparse';
      const { hasHoles } = await describeContents(file);
      // A device does not say where it was trimmed: only reading all of it shows that.
      if (wasSparse || hasHoles !== false) await fillDevice(session, options);
      // Once every sector is on the disk: from now on a sector of zeros is noise, not zeros.
      if (wasSparse) await session.writeToken({ allocation: 'full' });
      else {
        await repairHeader(file.header.handle, file.found, file.header.path);
        // What was in the holes is zeros now, and no snapshot's data.
        if (hasHoles !== false) await session.forgetSnapshot();
      }
      return { ...(await describeContents(session.file)), wasSparse, hadHoles: !wasSparse && hasHoles === true };
    });
  } catch (error) {
    throw withPath(error, path);
  }
}

/** Fills all of it, and flushes. */
async function fillDevice(session: VolumeSession, { onProgress }: JobOptions): Promise<void> {
  const { data, segment, sizeBytes: totalBytes } = session.file;
  data.checkRoom(segment.offsetBytes + totalBytes);
  const device = session.openDevice(true, true);
  try {
    for (let doneBytes = 0; doneBytes < totalBytes; ) {
      session.throwIfAborted();
      const lengthBytes = Math.min(FILL_BYTES, totalBytes - doneBytes);
      await native.deviceFill(device, doneBytes, lengthBytes);
      doneBytes += lengthBytes;
      onProgress?.({ doneBytes, totalBytes });
    }
    await native.deviceFlush(device);
  } finally {
    native.deviceClose(device);
  }
}
