/**
 * Writes the code caches of the bundle: `node dist/program/code-cache.js`. npm runs it after each build and at each
 * installation, because they fit only the Node that made them. Without a cache that fits, volseal works and starts more
 * slowly.
 */
import { rmSync } from 'node:fs';
import { setEnvironmentData } from 'node:worker_threads';
import { recordBundle, warnOfCache } from './cache-writer.js';
import { codeCacheFiles } from './load.js';
import { REHEARSAL } from './role.js';

async function writeCodeCaches(): Promise<void> {
  // First of all: whatever is wrong with the old caches, a rehearsal does not load them.
  for (const file of codeCacheFiles()) rmSync(file, { force: true });
  // The pool's thread writes its own (tasks.ts).
  setEnvironmentData(REHEARSAL, true);
  const { bundle, writeCaches } = recordBundle('program');
  // A rehearsal that fails has still compiled the functions that it reached.
  await bundle.rehearse().catch(warnOfCache);
  writeCaches();
}

writeCodeCaches().catch(warnOfCache);
