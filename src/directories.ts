/** Directories that volseal makes, and making the names in a directory durable. */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { namingPath } from './errors.js';

/**
 * Makes a directory (0700) and its missing parents, and flushes their names to the disk. It does not use the option
 * `recursive` of mkdir: where a file system refuses a directory with ENOENT (/proc), Node's never returns.
 */
export function makeDirectory(path: string): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  makeDirectory(parent);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another process may have been quicker.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  syncDirectorySync(parent);
}

/**
 * A name that was made, changed or removed in a directory lasts once the directory is flushed (fsync). @throws
 * {VolsealError} `ERR_IO`
 */
export async function syncDirectory(path: string): Promise<void> {
  await namingPath(path, async () => {
    await using directory = await open(path, 'r');
    await directory.sync();
  });
}

/** The same for code that blocks anyway. Throws Node's own errors. */
export function syncDirectorySync(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
