/**
 * The only loader of the native addon. What the addon throws leaves here as a `VolsealError`.
 */
import { createRequire } from 'node:module';
import type * as Binding from '../binding.js';
import { type ErrorCode, isError, messageOf, VolsealError } from './errors.js';
import { ADDON_FILE } from './package-files.js';

export type {
  DeviceExtent,
  DeviceHandle,
  DeviceOptions,
  DeviceRegion,
  KernelInfo,
  KernelName,
  KeyHandle,
  LuksHash,
  MoveForm,
  MoveHandle,
  MoveOptions,
  MovePart,
  NbdEndpoint,
  NbdEvent,
  NbdServerHandle,
  PendingPartOptions,
  TransformFile,
  TransformHandle,
  TransformOptions,
  TransformSource,
  TransformTarget,
  TransformVolume,
  VaultInfo,
} from '../binding.js';

interface AddonError extends Error {
  code?: string;
  errno?: string;
  syscall?: string;
  offsetBytes?: number;
}

/** An error of the addon, thrown or given to a listener, as a `VolsealError`. */
export function nativeError(error: unknown): unknown {
  const { code, message, errno, syscall, offsetBytes } = error as AddonError;
  if (!isError(error) || !code?.startsWith('ERR_')) return error;
  const details = {
    ...(errno === undefined ? {} : { errno }),
    ...(syscall === undefined ? {} : { syscall }),
    ...(offsetBytes === undefined ? {} : { offsetBytes }),
  };
  return new VolsealError(code as ErrorCode, message, { cause: error, details });
}

type Addon = Record<string, (...args: unknown[]) => unknown>;

/** @throws {VolsealError} `ERR_ADDON` */
function loadAddon(): Addon {
  try {
    return createRequire(ADDON_FILE)(ADDON_FILE) as Addon;
  } catch (cause) {
    throw new VolsealError('ERR_ADDON', `${ADDON_FILE}: ${addonFault(cause)}`, { cause, details: { path: ADDON_FILE } });
  }
}

/** Runtimes that are no Node, by their names in `process.versions`. */
const OTHER_RUNTIMES: Readonly<Record<string, string>> = { bun: 'Bun', deno: 'Deno', electron: 'Electron' };

/** Why the addon cannot be loaded, and what to do. */
export function addonFault(cause: unknown, versions: NodeJS.Dict<string> = process.versions): string {
  const runtime = Object.keys(OTHER_RUNTIMES).find((name) => versions[name] !== undefined);
  if (runtime !== undefined) {
    return (
      `the native addon needs the OpenSSL inside Node, which ${OTHER_RUNTIMES[runtime]} has not; ` +
      'run this program with Node 20.17 or later, or start the command volseal from it'
    );
  }
  if ((cause as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') {
    return (
      'the native addon is not there; if the package manager left out the install script, run "npm rebuild volseal" ' +
      '(newer npm: "npm install-scripts approve volseal" first; pnpm: "pnpm approve-builds"; a clone: "npm run build:native"); ' +
      'if a bundler put volseal into another file, leave it out of the bundle (esbuild: --external:volseal)'
    );
  }
  return `the native addon cannot be loaded: ${messageOf(cause)}; compile it for this machine and this Node: npm rebuild volseal`;
}

/** Requests on a device return a promise, which rejects with whatever is wrong. */
const ASYNCHRONOUS = /^device(?!Open|Close)/;

function load(): typeof Binding {
  const addon = loadAddon();
  const converting = Object.entries(addon).map(([name, call]) => [
    name,
    ASYNCHRONOUS.test(name)
      ? async (...args: unknown[]): Promise<unknown> => {
          try {
            return await call(...args);
          } catch (error) {
            throw nativeError(error);
          }
        }
      : (...args: unknown[]): unknown => {
          try {
            return call(...args);
          } catch (error) {
            throw nativeError(error);
          }
        },
  ]);
  return Object.fromEntries(converting) as typeof Binding;
}

/** The addon's functions; binding.d.ts is their contract. */
export const native: typeof Binding = load();
