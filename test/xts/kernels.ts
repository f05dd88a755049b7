/** The kernels that tests go through. */
import { type KernelName, native } from '../../src/native.js';

/** The names of those this machine can run, the fastest first. */
export const usableKernels = (): KernelName[] =>
  native
    .xtsKernels()
    .filter(({ usable }) => usable)
    .map(({ name }) => name);

/** Those among them that use AES instructions. */
export const acceleratedKernels = (): KernelName[] => usableKernels().filter((name) => name !== 'portable');
