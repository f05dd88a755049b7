/**
 * A recovery key as a QR code in the terminal. `qrencode` draws it: the key's text is no JavaScript value, so it goes
 * from the addon into a file in memory without a name, and from there into that program.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { VolsealError } from '../../errors.js';

const MEMORY_DIRECTORY = '/dev/shm';

/** A stream that takes the text of a recovery key, and draws it. */
export interface QrCode {
  /** Open for writing. */
  readonly fd: number;
  readonly name: string;
  /** Draws what was written, on standard output. @returns false where the program failed: it has said why */
  draw(): boolean;
  /** Overwrites and closes. */
  close(): void;
}

/** @throws {VolsealError} `ERR_REQUIREMENT` `qrencode` is not installed, or there is no file system in memory */
export function openQrCode(): QrCode {
  if (spawnSync('qrencode', ['--version'], { stdio: 'ignore' }).status !== 0)
    throw missing('--qr needs the program qrencode, which is not installed: apt-get install qrencode');
  if (!statSync(MEMORY_DIRECTORY, { throwIfNoEntry: false })?.isDirectory())
    throw missing(`--qr needs ${MEMORY_DIRECTORY}, a file system in memory`);
  const path = `${MEMORY_DIRECTORY}/.volseal-${randomBytes(12).toString('hex')}`;
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  rmSync(path);
  return {
    fd,
    name: 'the QR code',
    draw() {
      // Opened anew: it is read from its beginning.
      const source = openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY);
      try {
        return spawnSync('qrencode', ['--type', 'UTF8', '--level', 'M'], { stdio: [source, 'inherit', 'inherit'] }).status === 0;
      } finally {
        closeSync(source);
      }
    },
    close() {
      writeSync(fd, Buffer.alloc(fstatSync(fd).size), 0, undefined, 0);
      closeSync(fd);
    },
  };
}

const missing = (message: string): VolsealError => new VolsealError('ERR_REQUIREMENT', message);
