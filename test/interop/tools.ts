/** The stock programs that judge our files: where they are, and what happens where one is missing. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** System folders first: a program of the same name in somebody's own folder (another `aws`, say) may be another one. */
const FOLDERS = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', ...(process.env.PATH ?? '').split(':')];

function findTool(name: string): string | undefined {
  return FOLDERS.filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** The path of a program. @throws {Error} where the machine lacks it */
export function requireTool(name: string): string {
  const path = findTool(name);
  if (path === undefined) throw new Error(`${name} is not installed: run scripts/setup.sh --test`);
  return path;
}

/**
 * For a test's `skip` option: false where every program is there. CI never skips: there a missing program is an error.
 * @returns the reason to print, on a machine that lacks one
 * @throws {Error} the same reason, where the environment has `CI`
 */
export function skipWithout(...names: string[]): string | false {
  const missing = names.filter((name) => findTool(name) === undefined);
  if (missing.length === 0) return false;
  const reason = `not installed: ${missing.join(', ')} (run scripts/setup.sh --test)`;
  if (process.env.CI) throw new Error(reason);
  return reason;
}

export interface ToolResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end; its status is the caller's to judge. Output up to 64 MiB. */
export function tryTool(name: string, args: string[], options: { input?: string | Buffer; env?: NodeJS.ProcessEnv } = {}): ToolResult {
  const { status, stdout, stderr, error } = spawnSync(requireTool(name), args, {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    ...(options.input === undefined ? {} : { input: options.input }),
    env: options.env ?? process.env,
  });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}

/** Runs a program that must succeed. @returns its standard output. @throws {Error} with its output where it fails */
export function runTool(name: string, args: string[], options: { input?: string | Buffer; env?: NodeJS.ProcessEnv } = {}): string {
  const { status, stdout, stderr } = tryTool(name, args, options);
  if (status !== 0) throw new Error(`${name} ${args.join(' ')} ended with ${status}\n${stdout}${stderr}`);
  return stdout;
}
