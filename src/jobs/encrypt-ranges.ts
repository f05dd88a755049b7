/** `encryptImage` in steps that different processes and machines take: what a fleet does with one huge image. */
import { isStored } from '../stores/location.js';
import type { ImageRange } from '../transfer/image-ranges.js';
import { type EncryptOptions, planVolume, withImage } from './encrypt.js';
import type { VolumePlan } from './volume-plan.js';
import { encryptVolumeRange, type RangesStep, stepVolume } from './volume-ranges.js';

/** Options of all steps of one volume: the same ones each time. */
export interface RangedOptions extends EncryptOptions {
  /** All who work on the volume name it the same. */
  volumeId: string;
}

/**
 * Begins a volume, or goes on with it, and says which ranges are left; publishes it where none is. Whoever runs it, and
 * how often: the volume has one data key.
 *
 * @param image a path or an object @param volume a path, or an object in S3
 * @param rangeBytes whole MiB; the same each time
 * @throws {VolsealError} as `encryptImage`; `ERR_STATE_BUSY` somebody is at work on a range
 */
export const stepRanges = (image: string, volume: string, rangeBytes: number, options: RangedOptions): Promise<RangesStep> =>
  withPlan(image, volume, options, async (plan) => {
    const job = { signal: options.signal, onProgress: options.onProgress };
    if (!isStored(volume)) return await stepVolume(plan, rangeBytes, job);
    return await (await import('./stored/stored-ranges.js')).stepUpload(plan, rangeBytes, options.store, job);
  });

/**
 * Encrypts one range of the image into what `stepRanges` has begun. Twice does no harm, also at the same time.
 * @param uuid as `stepRanges` gave it @throws {VolsealError} as `encryptImage`; `ERR_RESUME` the volume was published,
 * given up or begun anew
 */
export const encryptRange = (image: string, volume: string, range: ImageRange, uuid: string, options: RangedOptions): Promise<void> =>
  withPlan(image, volume, options, async (plan) => {
    const job = { signal: options.signal, onProgress: options.onProgress };
    if (!isStored(volume)) return await encryptVolumeRange(plan, range, uuid, job);
    await (await import('./stored/stored-ranges.js')).uploadRange(plan, range, uuid, options.store, job);
  });

const withPlan = <T>(image: string, volume: string, options: RangedOptions, use: (plan: VolumePlan) => Promise<T>): Promise<T> =>
  withImage(image, options, (source) => use(planVolume(source, volume, { ...options, resume: true })));
