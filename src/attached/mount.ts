/** An attached volume as a plain file, through nbdfuse: without root, for tools that speak no NBD. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, readdirSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { asVolsealError, VolsealError } from '../errors.js';
import { ATTACHED_CLIENT_TIMEOUT_MS } from '../limits.js';
import { missing, oneLine, ProgramFailure, runProgram, type SystemClient, systemProgram } from './system-client.js';

const PURPOSE = 'showing the volume as a file (--mount)';
const POLL_MS = 20;

/**
 * Mounts a volume in the empty directory `directory`, as one file: `disk.raw` for `disk.vol`.
 *
 * @param path of the volume, which gives the file its name
 * @throws {VolsealError} `ERR_REQUIREMENT`, `ERR_ARGUMENT` (the directory has contents), `ERR_IO`, `ERR_ABORTED`
 */
export async function mountVolume(
  directory: string,
  { uri, path, signal }: { uri: string; path: string; signal: AbortSignal },
): Promise<SystemClient> {
  const nbdfuse = checkMount(directory);
  const mountPoint = resolve(directory);
  const file = join(mountPoint, `${basename(path, extname(path))}.raw`);
  const child = spawn(nbdfuse, [file, uri], { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-2000);
  });
  let hasEnded = false;
  const ended = once(child, 'close').then(() => {
    hasEnded = true;
  });
  const deadline = AbortSignal.timeout(ATTACHED_CLIENT_TIMEOUT_MS);
  while (!hasEnded && !isThere(file)) {
    if (signal.aborted || deadline.aborted) child.kill('SIGTERM');
    await Promise.race([sleep(POLL_MS), ended]);
  }
  if (hasEnded) {
    if (signal.aborted) throw new VolsealError('ERR_ABORTED', `${path}: stopped on request; the volume is not attached`);
    throw new VolsealError('ERR_IO', `${mountPoint}: nbdfuse could not mount the volume: ${oneLine(complaints) || 'it gave no reason'}`, {
      details: { path: mountPoint, syscall: 'mount' },
    });
  }
  return {
    kind: 'mount',
    path: file,
    get hasEnded() {
      return hasEnded;
    },
    ended,
    async end(force) {
      if (hasEnded) return;
      try {
        await unmount(mountPoint, force);
      } catch (error) {
        if (hasEnded) return; // somebody else was quicker
        if (force || !(error instanceof ProgramFailure)) throw error;
        throw new VolsealError('ERR_STATE_BUSY', `${file}: is in use: ${error.message}`, { cause: error, details: { path: file } });
      }
      // Lazily unmounted, it lives on while the file is open.
      if (force) child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Removes the mount of a process that has ended, if it is still there: its file only fails. Never throws. */
export async function unmountDead(file: string): Promise<void> {
  try {
    statSync(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
  }
  await unmount(dirname(file), true).catch(() => {});
}

const unmount = (mountPoint: string, lazily: boolean): Promise<string> =>
  runProgram(systemProgram('fusermount3', PURPOSE, 'fuse3'), [lazily ? '-uz' : '-u', '--', mountPoint]);

/**
 * Whether a volume can be mounted in `directory`.
 * @returns the path of nbdfuse
 * @throws {VolsealError} `ERR_REQUIREMENT`, `ERR_ARGUMENT`, `ERR_IO`
 */
export function checkMount(directory: string): string {
  const nbdfuse = systemProgram('nbdfuse', PURPOSE, 'nbdfuse');
  systemProgram('fusermount3', PURPOSE, 'fuse3');
  checkFuse();
  checkEmpty(resolve(directory));
  return nbdfuse;
}

function checkFuse(): void {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw missing(
      '/dev/fuse',
      code === 'ENOENT'
        ? `${PURPOSE} needs FUSE: /dev/fuse is not there (load the kernel module: modprobe fuse; a container must be given the device)`
        : `${PURPOSE} needs FUSE: this user may not use /dev/fuse`,
    );
  }
}

function checkEmpty(mountPoint: string): void {
  try {
    if (readdirSync(mountPoint).length === 0) return;
  } catch (error) {
    throw asVolsealError(error, mountPoint);
  }
  throw new VolsealError('ERR_ARGUMENT', `${mountPoint}: the directory is not empty, and a mount would hide its contents`, {
    details: { path: mountPoint },
  });
}

function isThere(file: string): boolean {
  try {
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
