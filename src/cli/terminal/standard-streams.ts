/**
 * Standard input and output as the shell opened them. Node's own streams suffice for terminals, pipes and sockets. But
 * for a block device or a directory, `process.stdin` is always empty and `process.stdout` drops what it gets. And when
 * a write to a file is short, as on a full disk, `process.stdout` silently loses the rest.
 */
import { createReadStream, createWriteStream, fstatSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { VolsealError } from '../../errors.js';

/** Their names in messages and details, instead of a path. */
export const STANDARD_INPUT = 'standard input';
export const STANDARD_OUTPUT = 'standard output';

/** @throws {VolsealError} `ERR_ARGUMENT` if it is a directory */
export function standardInput(): Readable {
  const found = fstatSync(0);
  if (found.isDirectory()) {
    throw new VolsealError('ERR_ARGUMENT', `${STANDARD_INPUT} is a directory: there are no bytes to write`, {
      details: { path: STANDARD_INPUT, kind: 'a directory' },
    });
  }
  return found.isBlockDevice() ? createReadStream('', { fd: 0, autoClose: false }) : process.stdin;
}

/** The number of /dev/null, which Node opens too where a descriptor was closed when it started. */
const NULL_DEVICE = 0x103;

/** Whether what is written to standard output is lost. */
export function isOutputLost(): boolean {
  const found = fstatSync(1);
  return found.isCharacterDevice() && found.rdev === NULL_DEVICE;
}

/** A stream in which every write is complete or fails. */
export function standardOutput(): Writable {
  const found = fstatSync(1);
  if (isatty(1) || found.isFIFO() || found.isSocket()) return process.stdout;
  return createWriteStream('', { fd: 1, autoClose: false });
}
