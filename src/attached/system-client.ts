/** Programs of the system through which the kernel uses an attached volume: nbd-client and nbdfuse. */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { VolsealError } from '../errors.js';

/** A client that runs for as long as the volume is attached, or until somebody else ends it. */
export interface SystemClient {
  readonly kind: 'device' | 'mount';
  /** The block device, or the file. */
  readonly path: string;
  readonly hasEnded: boolean;
  /** Resolves once it has ended, by whatever way. */
  readonly ended: Promise<void>;
  /**
   * Ends it. A second call does nothing.
   * @param force also while it is in use
   * @throws {VolsealError} `ERR_STATE_BUSY`: it is in use, and this is not forced; `ERR_IO`
   */
  end(force: boolean): Promise<void>;
}

/** Where programs of the system are, besides the directories of `searchPath`: a user's own path often lacks them. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin'];

/**
 * The path of a program of the system.
 * @throws {VolsealError} `ERR_REQUIREMENT`
 */
export function systemProgram(name: string, purpose: string, debianPackage: string): string {
  const found = SYSTEM_DIRECTORIES.map((directory) => join(directory, name)).find(isExecutable);
  if (found !== undefined) return found;
  throw missing(name, `${purpose} needs the program ${name}, which is not installed (Debian: apt install ${debianPackage})`);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The error for something that the system lacks. */
export const missing = (what: string, message: string): VolsealError =>
  new VolsealError('ERR_REQUIREMENT', message, { details: { missing: what } });

/** What a program has printed on standard error, in one line; or its exit status. */
export class ProgramFailure extends Error {}

/** Runs a program to its end. @throws {ProgramFailure} */
export function runProgram(path: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(path, args, { encoding: 'utf8', maxBuffer: 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new ProgramFailure(oneLine(stderr) || error.message));
    });
  });
}

/** The last words of a program. */
export const oneLine = (text: string): string => text.trim().split('\n').slice(-3).join('; ').slice(-500);
