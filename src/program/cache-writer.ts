/** Writes the code cache of a role, from what has run of the bundle. */
import { closeSync, fchmodSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Script } from 'node:vm';
import type * as Bundle from './bundle.js';
import { cacheHead, codeCacheFile, compilePart, type Part, readPart, runBundle } from './load.js';
import type { Role } from './role.js';

export interface RecordedBundle {
  bundle: typeof Bundle;
  /** Writes the caches of the parts that were loaded. What fails is warned of: volseal works without them. */
  writeCaches(): void;
}

/** The bundle, compiled without a cache, in a thread that has not loaded it: V8 keeps one compiled text in a thread. */
export function recordBundle(role: Role): RecordedBundle {
  const compiled: { part: Part; text: Buffer; script: Script }[] = [];
  const bundle = runBundle((part) => {
    const text = readPart(part);
    const script = compilePart(part, text);
    compiled.push({ part, text, script });
    return script;
  });
  return {
    bundle,
    writeCaches() {
      try {
        for (const { part, text, script } of compiled) {
          const cache = script.createCachedData();
          writeInOneStep(codeCacheFile(role, part), Buffer.concat([cacheHead(text, cache), cache]));
        }
      } catch (error) {
        warnOfCache(error);
      }
    },
  };
}

/** Says that something has failed that caches are made from or with. */
export function warnOfCache(error: unknown): void {
  process.emitWarning(`volseal will start more slowly: its code cache is incomplete: ${String(error)}`);
}

/**
 * A program that starts meanwhile must not read half of it. It is not flushed: what a power cut leaves of it does not
 * match the checksums of its head (load.ts).
 */
function writeInOneStep(path: string, bytes: Buffer): void {
  const temporary = `${path}.${process.pid}`;
  try {
    writeWhole(temporary, bytes);
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
}

function writeWhole(path: string, bytes: Buffer): void {
  const file = openSync(path, 'wx');
  try {
    writeFileSync(file, bytes);
    // Everybody who runs the program must be able to read it, whatever the umask of the user who installs it.
    fchmodSync(file, 0o644);
  } finally {
    closeSync(file);
  }
}
