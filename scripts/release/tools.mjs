// What the scripts of a release share.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The clone that the scripts are in. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** Runs a program to its end. @returns its standard output @throws {Error} with all that it said, where it fails */
export function run(program, words, { cwd = ROOT, environment = {} } = {}) {
  const env = { ...process.env, ...environment };
  const { error, status, stdout, stderr } = spawnSync(program, words, { cwd, env, encoding: 'utf8', maxBuffer: 2 ** 28 });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${words.join(' ')} ended with status ${status}\n${stdout}${stderr}`);
  return stdout;
}

/** The files below a directory by their relative paths, sorted; links are not followed. */
export const filesBelow = (directory) =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .sort();

export const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'));
