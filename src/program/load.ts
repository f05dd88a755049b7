/** Runs the bundle, with V8's code cache where this very Node has made it from this very bundle. */
import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { cachedDataVersionTag } from 'node:v8';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';
import type * as Bundle from './bundle.js';
import type { Role } from './role.js';

const BUNDLE_FILE = fileURLToPath(new URL('./bundle.js', import.meta.url));

/** One for each role: V8 reads a whole cache before it runs any function. */
const CACHE_NAMES: Readonly<Record<Role, string>> = { program: 'bundle.cache', thread: 'bundle.cache-thread' };

/** The bundle, compiled, with the functions that a role runs, behind its `cacheHead` (code-cache.ts writes it). */
export const codeCacheFile = (role: Role): string => fileURLToPath(new URL(`./${CACHE_NAMES[role]}`, import.meta.url));

/**
 * What a cache must begin with to be given to V8, which checks too little itself: it compares its own version, which
 * releases of Node share although their V8 differs (nodejs/node#62781: V8 takes such a cache and crashes), and the
 * length of the source. So the head names Node's release, the processor, V8's version, flags and CPU features (the
 * version tag), the executable (two builds of one release), the bundle, and the cache itself, of which V8 checks no
 * byte.
 * @throws {Error} where the executable cannot be examined
 */
export function cacheHead(bundle: Buffer, cache: Buffer): Buffer {
  const { size, mtimeMs } = statSync(process.execPath);
  const node = [process.version, process.arch, cachedDataVersionTag(), size, mtimeMs];
  return Buffer.from(`${[...node, checksum(bundle), checksum(cache)].join(' ')}\n`);
}

/** Of a fixed length, and so is the head. */
const checksum = (bytes: Buffer): string => crc32(bytes).toString(16).padStart(8, '0');

/** The bundle's text, one byte a character. */
export const readBundle = (): Buffer => readFileSync(BUNDLE_FILE);

/** @param cachedData what this Node has made of this bundle */
export function compileBundle(bundle: Buffer, cachedData?: Buffer): Script {
  return new Script(bundle.toString('latin1'), { filename: BUNDLE_FILE, ...(cachedData === undefined ? {} : { cachedData }) });
}

/** Evaluates a compiled bundle: its value is a function of the wrapper that scripts/bundle.mjs puts around it. */
export function runBundle(script: Script): typeof Bundle {
  const evaluate = script.runInThisContext() as (require: NodeJS.Require, filename: string) => typeof Bundle;
  return evaluate(createRequire(BUNDLE_FILE), BUNDLE_FILE);
}

/** What the bundle exports. */
export function loadBundle(role: Role): typeof Bundle {
  const bundle = readBundle();
  return runBundle(compileBundle(bundle, cachedCode(bundle, role)));
}

function cachedCode(bundle: Buffer, role: Role): Buffer | undefined {
  try {
    const file = readFileSync(codeCacheFile(role));
    const cache = file.subarray(file.indexOf('\n') + 1);
    const head = cacheHead(bundle, cache);
    return head.equals(file.subarray(0, head.length)) ? cache : undefined;
  } catch {
    return undefined; // not made, or not ours to read: V8 compiles
  }
}
