/**
 * How far an audit log has reached, kept outside of the log: what the log lacks was cut off or lost, and is an error.
 *
 * The embedded KMS keeps this state in its store, in the same transaction as the change that a record describes. The
 * log of calls to other KMSs has no store: its state is the file `audit.head` in the same directory.
 */
import { closeSync, constants, fsyncSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as z from 'zod';
import { syncDirectorySync } from '../directories.js';
import { VolsealError } from '../errors.js';
import { openOwnFile, readOwnFile } from '../own-files.js';

/** The hash before the first record. */
export const FIRST_HASH = '0'.repeat(64);

const link = z.object({
  /** Number of a record; 0 before the first. */
  sequence: z.int().min(0),
  /** SHA-256 of its line without the line feed, hexadecimal. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
});

/** A record in the chain. */
export type Link = z.infer<typeof link>;

const START: Link = { sequence: 0, hash: FIRST_HASH };

export const logState = link.extend({
  /** Bytes of the log up to the end of this record. */
  bytes: z.int().min(0),
  /** The record before the first line of the file: not the start where a new log was begun after a loss. */
  first: link.default(START),
  /** The line of this record, without its line feed, while it may be missing from the log: it is appended from here. */
  line: z.string().optional(),
});

/** The last record that is durable, and where it is. */
export type LogState = z.infer<typeof logState>;

export const EMPTY_STATE: LogState = { ...START, bytes: 0, first: START };

/** Where the state of a log is kept. Both calls are made under the lock of the log. */
export interface StateStore {
  /** As it is now, whoever wrote it; undefined where there is none yet. @throws {VolsealError} */
  read(): LogState | undefined;
  /** Durable when this returns, or with the transaction it is part of. @throws {VolsealError} */
  write(state: LogState): void;
}

/** An HMAC under a key of the log's owner: without the key nobody can write a record. */
export type Authenticate = (message: Uint8Array) => Buffer;

/** What belongs to a log and is not in it. */
export interface LogOwner {
  readonly state: StateStore;
  readonly authenticate?: Authenticate;
  /** The log may exist without a state: the backup of a store has none. Its records prove themselves by their MAC. */
  readonly mayLackState?: boolean;
}

export interface AuditPaths {
  readonly log: string;
  readonly head: string;
}

/** The files of the log in `directory`. */
export const auditPaths = (directory: string): AuditPaths => ({
  log: join(directory, 'audit.jsonl'),
  head: join(directory, 'audit.head'),
});

/** One disk sector: it is written in place, and no power cut leaves half of it. */
const HEAD_BYTES = 512;

/**
 * The state in the file `path`. `write` does not flush it, except where it makes the file: the log is flushed first, so
 * a state that a power cut leaves behind is older than the log, never newer.
 */
export const fileState = (path: string): StateStore => ({
  read() {
    const bytes = readOwnFile(path, HEAD_BYTES);
    if (bytes === undefined || bytes.length === 0) return undefined;
    try {
      return logState.parse(JSON.parse(bytes.toString('latin1')));
    } catch (error) {
      throw auditError(path, 'has a damaged head', error);
    }
  },
  write(state) {
    const isNew = state.bytes === 0;
    const fd = openOwnFile(path, constants.O_RDWR | constants.O_CREAT);
    try {
      writeSync(
        fd,
        JSON.stringify(state)
          .padEnd(HEAD_BYTES - 1)
          .concat('\n'),
        0,
        'latin1',
      );
      if (isNew) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (isNew) syncDirectorySync(dirname(path));
  },
});

/** A fault of the log itself. @param problem follows the path */
export const auditError = (path: string, problem: string, cause?: unknown): VolsealError => {
  const errno = (cause as NodeJS.ErrnoException | undefined)?.code;
  return new VolsealError('ERR_AUDIT', `${path}: the audit log ${problem}`, {
    cause,
    details: { path, ...(typeof errno === 'string' ? { errno } : {}) },
  });
};
