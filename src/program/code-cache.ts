/**
 * Writes the code caches of the bundle: `node dist/program/code-cache.js`. npm runs it after each build and at each
 * installation, because they fit only the Node that made them. Without a cache that fits, volseal works and starts more
 * slowly.
 */
import { spawn } from 'node:child_process';
import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Script } from 'node:vm';
import { cacheHead, codeCacheFile, codeCacheFiles, compilePart, type Part, readPart, runBundle } from './load.js';
import type { Role } from './role.js';

/** Each role in a process of its own, because V8 keeps one compiled text in a process. */
async function writeCodeCaches(): Promise<void> {
  // First of all: whatever is wrong with the old caches, a rehearsal does not load them.
  for (const file of codeCacheFiles()) rmSync(file, { force: true });
  const words = [...process.execArgv, process.argv[1]!, 'thread'];
  const other = spawn(process.execPath, words, { stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = new Promise<void>((resolve, reject) => {
    other.once('error', reject);
    other.once('close', () => resolve());
  });
  await Promise.all([writeCodeCache('program'), ended]);
}

async function writeCodeCache(role: Role): Promise<void> {
  const compiled: { part: Part; text: Buffer; script: Script }[] = [];
  const bundle = runBundle((part) => {
    const text = readPart(part);
    const script = compilePart(part, text);
    compiled.push({ part, text, script });
    return script;
  });
  // A rehearsal that fails has still compiled the functions that it reached.
  await bundle.rehearse(role).catch(warn);
  for (const { part, text, script } of compiled) {
    const cache = script.createCachedData();
    writeInOneStep(codeCacheFile(role, part), Buffer.concat([cacheHead(text, cache), cache]));
  }
}

/** A program that starts meanwhile must not read half of it. */
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
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function warn(error: unknown): void {
  process.emitWarning(`volseal will start more slowly: its code cache is incomplete: ${String(error)}`);
}

(process.argv[2] === 'thread' ? writeCodeCache('thread') : writeCodeCaches()).catch(warn);
