/** Runs the bundle, with V8's code cache where this very Node has made it from this very bundle. */
import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { cachedDataVersionTag } from 'node:v8';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';
import type * as Bundle from './bundle.js';
import type { Role } from './role.js';

/**
 * Of the bundle: `first` is all that `info` needs, and every command loads it; `rest` comes with its first chunk, and
 * `stores`, the SDK for stores, with the first command that names one.
 */
export type Part = 'first' | 'rest' | 'stores';

/** A part of the bundle as scripts/bundle.mjs writes it: its chunks by their names, which begin with `./`. */
type Evaluate = (require: NodeJS.Require, filename: string) => Record<string, Chunk>;
type Chunk = (exports: object, module: { exports: object }, require: (name: string) => unknown) => void;

/** The chunk that is a part of its own. A CommonJS module, because libraries that embed volseal load it as one. */
const STORES = './stores-sdk.js';
type EvaluateModule = (exports: object, require: NodeJS.Require, module: { exports: object }, filename: string) => void;

const beside = (name: string): string => fileURLToPath(new URL(`./${name}`, import.meta.url));

const PART_FILES: Readonly<Record<Part, string>> = {
  first: beside('bundle.js'),
  rest: beside('bundle-rest.js'),
  stores: beside(STORES),
};

/**
 * A part, compiled, with the functions that a role runs, behind its `cacheHead` (code-cache.ts writes it). One for each
 * role: V8 reads a whole cache before it runs any function.
 */
export const codeCacheFile = (role: Role, part: Part): string =>
  beside(`bundle.cache${role === 'program' ? '' : `-${role}`}${part === 'first' ? '' : `-${part}`}`);

/** All that there can be. No thread asks a store. */
export const codeCacheFiles = (): string[] =>
  (['program', 'thread'] as const).flatMap((role) => (Object.keys(PART_FILES) as Part[]).map((part) => codeCacheFile(role, part)));

/**
 * What a cache must begin with to be given to V8, which checks too little itself: it compares its own version, which
 * releases of Node share although their V8 differs (nodejs/node#62781: V8 takes such a cache and crashes), and the
 * length of the source. So the head names Node's release, the processor, V8's version, flags and CPU features (the
 * version tag), the executable (two builds of one release), the text, and the cache itself, of which V8 checks no
 * byte.
 * @throws {Error} where the executable cannot be examined
 */
export function cacheHead(text: Buffer, cache: Buffer): Buffer {
  const { size, mtimeMs } = statSync(process.execPath);
  const node = [process.version, process.arch, cachedDataVersionTag(), size, mtimeMs];
  return Buffer.from(`${[...node, checksum(text), checksum(cache)].join(' ')}\n`);
}

/** Of a fixed length, and so is the head. */
const checksum = (bytes: Buffer): string => crc32(bytes).toString(16).padStart(8, '0');

/** The text of a part, one byte a character. */
export const readPart = (part: Part): Buffer => readFileSync(PART_FILES[part]);

/** What V8 compiles of the text of a part. */
export function sourceOf(part: Part, text: Buffer): string {
  const source = text.toString('latin1');
  return part === 'stores' ? `(function (exports, require, module, __filename) {${source}\n})` : source;
}

/** @param cachedData what this Node has made of this text */
export function compilePart(part: Part, text: Buffer, cachedData?: Buffer): Script {
  return new Script(sourceOf(part, text), { filename: PART_FILES[part], ...(cachedData === undefined ? {} : { cachedData }) });
}

/**
 * What the bundle exports. A chunk is evaluated by the first one that requires it, and whatever is no chunk is a module
 * of Node or of a package.
 */
export function runBundle(compile: (part: Part) => Script): typeof Bundle {
  const packages = createRequire(PART_FILES.first);
  const chunksOf = (part: Part): Record<string, Chunk> => (compile(part).runInThisContext() as Evaluate)(packages, PART_FILES.first);
  const chunks = chunksOf('first');
  const evaluated: Record<string, { exports: object }> = {};
  let isWhole = false;
  function load(name: string): unknown {
    if (!name.startsWith('./')) return packages(name);
    const known = evaluated[name];
    if (known !== undefined) return known.exports;
    if (name === STORES) {
      const module = { exports: {} };
      (compile('stores').runInThisContext() as EvaluateModule)(module.exports, packages, module, PART_FILES.stores);
      evaluated[name] = module;
      return module.exports;
    }
    if (chunks[name] === undefined && !isWhole) {
      Object.assign(chunks, chunksOf('rest'));
      isWhole = true;
    }
    const chunk = chunks[name];
    if (chunk === undefined) return packages(name);
    const module = { exports: {} };
    evaluated[name] = module;
    chunk(module.exports, module, load);
    return module.exports;
  }
  return load('./bundle.js') as typeof Bundle;
}

/** The same, with the code cache where this very Node has made it from this very bundle. */
export function loadBundle(role: Role): typeof Bundle {
  return runBundle((part) => {
    const text = readPart(part);
    return compilePart(part, text, cachedCode(text, codeCacheFile(role, part)));
  });
}

function cachedCode(text: Buffer, cacheFile: string): Buffer | undefined {
  try {
    const file = readFileSync(cacheFile);
    const cache = file.subarray(file.indexOf('\n') + 1);
    const head = cacheHead(text, cache);
    return head.equals(file.subarray(0, head.length)) ? cache : undefined;
  } catch {
    return undefined; // not made, or not ours to read: V8 compiles
  }
}
