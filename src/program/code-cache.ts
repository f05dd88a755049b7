/**
 * Writes the code cache of the bundle: `node dist/program/code-cache.js`, which npm runs after each build and at each installation,
 * because it belongs to the Node that is there. Without it, or with one of another Node, volseal works and starts more slowly.
 */
import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { CODE_CACHE_FILE, cacheHead, compileBundle, readBundle, runBundle } from './load.js';

async function writeCodeCache(): Promise<void> {
  const bundle = readBundle();
  const script = compileBundle(bundle);
  // What it was compiled for does not matter: a rehearsal that fails here has compiled what it came to.
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
    // For everybody who runs the program, whatever the umask of who installs it.
    fchmodSync(file, 0o644);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function warn(error: unknown): void {
  process.emitWarning(`volseal will start more slowly: its code cache is not whole: ${String(error)}`);
}

writeCodeCache().catch(warn);
