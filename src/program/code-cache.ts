/**
 * Writes the code cache of the bundle: `node dist/program/code-cache.js`. npm runs it after each build and at each
 * installation, because the cache fits only the Node that made it. Without a cache that fits, volseal works and starts
 * more slowly.
 */
import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { CODE_CACHE_FILE, cacheHead, compileBundle, readBundle, runBundle } from './load.js';

async function writeCodeCache(): Promise<void> {
  // First of all: whatever is wrong with the old cache, the rehearsal's threads do not load it.
  rmSync(CODE_CACHE_FILE, { force: true });
  const bundle = readBundle();
  const script = compileBundle(bundle);
  // A rehearsal that fails has still compiled the functions that it reached.
  await runBundle(script).rehearse().catch(warn);
  const cache = script.createCachedData();
  // In one step: a program that starts meanwhile must not read half of it.
  const temporary = `${CODE_CACHE_FILE}.${process.pid}`;
  try {
    writeWhole(temporary, Buffer.concat([cacheHead(bundle, cache), cache]));
    renameSync(temporary, CODE_CACHE_FILE);
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
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function warn(error: unknown): void {
  process.emitWarning(`volseal will start more slowly: its code cache is incomplete: ${String(error)}`);
}

writeCodeCache().catch(warn);
