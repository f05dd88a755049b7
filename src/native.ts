/**
 * The only loader of the native addon. What the addon throws leaves here as a `VolsealError`.
 */
import { createRequire } from 'node:module';
import type * as Binding from '../binding.js';
import { type ErrorCode, isError, VolsealError } from './errors.js';
import { ADDON_FILE } from './package-files.js';

export type {
  DeviceExtent,
  DeviceHandle,
  DeviceOptions,
  KernelInfo,
  KernelName,
  KeyHandle,
  TransformFile,
  TransformHandle,
  TransformOptions,
  TransformSource,
  TransformTarget,
  VaultInfo,
} from '../binding.js';

interface AddonError extends Error {
  code?: string;
  errno?: string;
  syscall?: string;
  offsetBytes?: number;
}

function convert(error: unknown): unknown {
  const { code, message, errno, syscall, offsetBytes } = error as AddonError;
  if (!isError(error) || !code?.startsWith('ERR_')) return error;
  const details = {
    ...(errno === undefined ? {} : { errno }),
    ...(syscall === undefined ? {} : { syscall }),
    ...(offsetBytes === undefined ? {} : { offsetBytes }),
  };
  return new VolsealError(code as ErrorCode, message, { cause: error, details });
}

function load(): typeof Binding {
  const addon = createRequire(import.meta.url)(ADDON_FILE) as Record<string, (...args: unknown[]) => unknown>;
  const converting = Object.entries(addon).map(([name, call]) => [
    name,
    (...args: unknown[]): unknown => {
      try {
        return call(...args);
      } catch (error) {
        throw convert(error);
      }
    },
  ]);
  return Object.fromEntries(converting) as typeof Binding;
}

/** The addon's functions; binding.d.ts is their contract. */
export const native: typeof Binding = load();
