/**
 * Standard input and output as the shell opened them. Node's own streams do for terminals, pipes and sockets. For a block device or a
 * folder `process.stdin` is always empty and `process.stdout` swallows what it gets; and of a short write to a file, which is how a
 * full disk begins, `process.stdout` loses the rest without a word.
 */
import { createReadStream, createWriteStream, fstatSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { VolsealError } from '../errors.js';

/** What messages and details call them in place of a path. */
export const STANDARD_INPUT = 'standard input';
export const STANDARD_OUTPUT = 'standard output';

/** @throws {VolsealError} `ERR_ARGUMENT` where it is a folder */
export function standardInput(): Readable {
  const found = fstatSync(0);
  if (found.isDirectory()) {
    throw new VolsealError('ERR_ARGUMENT', `${STANDARD_INPUT} is a folder: there are no bytes to write`, {
      details: { path: STANDARD_INPUT, kind: 'a folder' },
    });
  }
  return found.isBlockDevice() ? createReadStream('', { fd: 0, autoClose: false }) : process.stdin;
}

/** A stream in which every write is whole or fails. */
export function standardOutput(): Writable {
  const found = fstatSync(1);
  if (isatty(1) || found.isFIFO() || found.isSocket()) return process.stdout;
  return createWriteStream('', { fd: 1, autoClose: false });
}
