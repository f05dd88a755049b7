/**
 * Writes the code cache of the bundle: `node dist/program/code-cache.js`, which npm runs after each build and at each installation,
 * because it belongs to the Node that is there. Without it, or with one of another Node, volseal works and starts more slowly.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { CODE_CACHE_FILE, compileBundle, runBundle } from './load.js';

async function writeCodeCache(): Promise<void> {
  const script = compileBundle();
  // What it was compiled for does not matter: a rehearsal that fails here has compiled what it came to.
  await runBundle(script).rehearse().catch(warn);
  // In one step: a program that starts meanwhile must not read half of it.
  const temporary = `${CODE_CACHE_FILE}.${process.pid}`;
  writeFileSync(temporary, script.createCachedData());
  renameSync(temporary, CODE_CACHE_FILE);
}

function warn(error: unknown): void {
  process.emitWarning(`volseal will start more slowly: its code cache is not whole: ${String(error)}`);
}

writeCodeCache().catch(warn);
