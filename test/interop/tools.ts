/** The stock programs that tests run: where they are, and what happens where one is missing. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** System directories first: a program of the same name elsewhere (another `aws`, say) may be another one. */
const DIRECTORIES = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', ...(process.env.PATH ?? '').split(':')];

function findTool(name: string): string | undefined {
  return DIRECTORIES.filter((directory) => directory !== '')
    .map((directory) => join(directory, name))
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
 * The reason to skip a test on this machine. CI has everything that tests need, so nothing may be skipped there.
 * @returns `reason`
 * @throws {Error} `reason`, where the environment has `CI`
 */
export function skipFor(reason: string): string {
  if (process.env.CI) throw new Error(reason);
  return reason;
}

/** Why a test that needs these programs is skipped; false where every one is there. @throws {Error} as `skipFor` */
export function skipWithout(...names: string[]): string | false {
  const missing = names.filter((name) => findTool(name) === undefined);
  return missing.length > 0 && skipFor(`not installed: ${missing.join(', ')} (run scripts/setup.sh --test)`);
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
