/**
 * Which AES-XTS kernel does the cipher's work: the fastest that this processor and its operating system can run, unless
 * another is forced. The choice is the process's: all of its threads and volumes follow it.
 */
import { VolsealError } from './errors.js';
import { type KernelInfo, type KernelName, native } from './native.js';

/** Every kernel there is, in the order of preference on this machine; exactly one is in use. */
export const kernels = (): KernelInfo[] => native.xtsKernels();

/**
 * Forces a kernel, from the next call into the cipher on; without a name it is the fastest again. Every kernel gives
 * the same bytes, so it may change while data moves.
 *
 * @throws {VolsealError} `ERR_ARGUMENT` where there is no such kernel or this machine cannot run it: the message says
 * why, and `details.kernel` is the name. The kernel in use stays.
 */
export function useKernel(name?: KernelName): void {
  try {
    native.xtsUseKernel(name ?? '');
  } catch (error) {
    if (!(error instanceof VolsealError)) throw error;
    throw new VolsealError(error.code, error.message, { cause: error, details: { ...error.details, kernel: String(name) } });
  }
}
