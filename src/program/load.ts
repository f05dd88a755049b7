/** Runs the bundle, from V8's code cache where there is one for it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';
import type * as Bundle from './bundle.js';

const BUNDLE_FILE = fileURLToPath(new URL('./bundle.js', import.meta.url));

/**
 * The bundle compiled, functions and all (`code-cache.ts` writes it), behind its `cacheHead`. V8 takes it only from its own version, with its
 * own flags.
 */
export const CODE_CACHE_FILE = fileURLToPath(new URL('./bundle.cache', import.meta.url));

const HEAD_BYTES = 8;

/** What tells a whole cache of this very bundle from another: V8 looks at the length of the source alone, and at none of the cache's bytes. */
export function cacheHead(bundle: Buffer, cache: Buffer): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(crc32(bundle), 0);
  head.writeUInt32LE(crc32(cache), 4);
  return head;
}

/** The bundle's text, one byte a character. */
export const readBundle = (): Buffer => readFileSync(BUNDLE_FILE);

/** @param cachedData what V8 has made of this bundle; what it does not take costs time, and nothing else */
export function compileBundle(bundle: Buffer, cachedData?: Buffer): Script {
  return new Script(bundle.toString('latin1'), { filename: BUNDLE_FILE, ...(cachedData === undefined ? {} : { cachedData }) });
}

/** Evaluates a compiled bundle: its value is a function of the wrapper that scripts/bundle.mjs puts around it. */
export function runBundle(script: Script): typeof Bundle {
  const evaluate = script.runInThisContext() as (require: NodeJS.Require, filename: string) => typeof Bundle;
  return evaluate(createRequire(BUNDLE_FILE), BUNDLE_FILE);
}

/** What the bundle exports. */
export function loadBundle(): typeof Bundle {
  const bundle = readBundle();
  return runBundle(compileBundle(bundle, cachedCode(bundle)));
}

function cachedCode(bundle: Buffer): Buffer | undefined {
  try {
    const file = readFileSync(CODE_CACHE_FILE);
    const cache = file.subarray(HEAD_BYTES);
    return cacheHead(bundle, cache).equals(file.subarray(0, HEAD_BYTES)) ? cache : undefined;
  } catch {
    return undefined; // not made, or not ours to read: V8 compiles
  }
}
