/** Opens what a job writes to. */
import { AtomicFile } from './atomic-file.js';
import { DeviceTarget } from './device.js';
import type { ResolvedTarget } from './resolve-target.js';
import type { OpenTargetOptions, TargetFile } from './target.js';

/**
 * Opens a target that `resolveTarget` has checked: a block device itself, else a temporary file in the same directory.
 * @throws {VolsealError} `ERR_STATE_BUSY` another run works on the same resumable job, or the file that is to be
 * replaced is attached; `ERR_TARGET_SIZE`; `ERR_RESUME`; `ERR_ARGUMENT` a device that is to be resumed; `ERR_IO`
 */
export function openTarget(target: ResolvedTarget, options: OpenTargetOptions): Promise<TargetFile> {
  return target.isDevice ? DeviceTarget.open(target, options) : AtomicFile.open(target, options);
}
