/** Whether a new volume has all of its sectors, or those in use. */
import { stat } from 'node:fs/promises';
import { asVolsealError, VolsealError } from '../errors.js';
import type { Allocation } from '../luks2/token.js';

/**
 * What the caller wishes, else what is usual, where the target can be it. A block device holds old bytes in the sectors that a sparse
 * volume leaves out, and they would be read as ciphertext.
 *
 * @param wish of the caller
 * @param usual for a target that can be either
 * @throws {VolsealError} `ERR_ARGUMENT` a block device that is to be sparse, or a wish that is neither; `ERR_IO`
 */
export async function chooseAllocation(wish: Allocation | undefined, usual: Allocation, volumePath: string): Promise<Allocation> {
  if (wish !== undefined && wish !== 'full' && wish !== 'sparse')
    throw new VolsealError('ERR_ARGUMENT', `an allocation of ${JSON.stringify(wish)} is neither full nor sparse`);
  if (!(await isBlockDevice(volumePath))) return wish ?? usual;
  if (wish !== 'sparse') return 'full';
  throw new VolsealError('ERR_ARGUMENT', `${volumePath}: is a block device, whose old bytes a sparse volume would leave; make a full one`, {
    details: { path: volumePath },
  });
}

async function isBlockDevice(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isBlockDevice();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw asVolsealError(error, path);
  }
}
