/** Runs the bundle, from V8's code cache where there is one for it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import type * as Bundle from './bundle.js';

const BUNDLE_FILE = fileURLToPath(new URL('./bundle.js', import.meta.url));

/** The bundle compiled, functions and all (`code-cache.ts` writes it). V8 takes it only from its own version, with its own flags. */
export const CODE_CACHE_FILE = fileURLToPath(new URL('./bundle.cache', import.meta.url));

/** @param cachedData of `CODE_CACHE_FILE`; what V8 does not take costs time, and nothing else */
export function compileBundle(cachedData?: Buffer): Script {
  return new Script(readFileSync(BUNDLE_FILE, 'latin1'), { filename: BUNDLE_FILE, ...(cachedData === undefined ? {} : { cachedData }) });
}

/** Evaluates a compiled bundle: its value is a function of the wrapper that scripts/bundle.mjs puts around it. */
export function runBundle(script: Script): typeof Bundle {
  const evaluate = script.runInThisContext() as (require: NodeJS.Require, filename: string) => typeof Bundle;
  return evaluate(createRequire(BUNDLE_FILE), BUNDLE_FILE);
}

/** What the bundle exports. */
export const loadBundle = (): typeof Bundle => runBundle(compileBundle(cachedCode()));

function cachedCode(): Buffer | undefined {
  try {
    return readFileSync(CODE_CACHE_FILE);
  } catch {
    return undefined; // not made, or not ours to read: V8 compiles
  }
}
