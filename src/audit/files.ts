/**
 * The files of an audit log: `audit.jsonl`, one record a line; `audit.head`, which says how far the log reaches, so that a cut at its end
 * shows, and which writers lock in turn, threads and processes alike.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { VolsealError } from '../errors.js';
import { native } from '../native.js';

export const FIRST_HASH = '0'.repeat(64);
const HEAD_BYTES = 512;
const LOCK_TRIES = 20_000;
const LOCK_WAIT_MS = 1;

/** An HMAC under a key of the log's owner: without it whoever may write the files could write all of them anew. */
export type Authenticate = (message: Uint8Array) => Buffer;

export interface AuditPaths {
  readonly log: string;
  readonly head: string;
}

/** The files of the log in `folder`. */
export const auditPaths = (folder: string): AuditPaths => ({
  log: join(folder, 'audit.jsonl'),
  head: join(folder, 'audit.head'),
});

/** How far the log reaches. */
export interface Head {
  /** Of the last record; 0: there is none. */
  readonly sequence: number;
  /** SHA-256 of the last line. */
  readonly hash: string;
  /** Length of the log. */
  readonly bytes: number;
}

export const EMPTY_HEAD: Head = { sequence: 0, hash: FIRST_HASH, bytes: 0 };

const headRecord = z.object({
  sequence: z.int().min(0),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  bytes: z.int().min(0),
  mac: z.string(),
});

/** SHA-256 of a line without its line feed, hexadecimal. */
export const hashOf = (line: Uint8Array): string => createHash('sha256').update(line).digest('hex');

/** The head as its file has it: always as long, so that it is written in place, in one piece. */
export function encodeHead(head: Head, authenticate: Authenticate | undefined): Buffer {
  return Buffer.from(
    JSON.stringify({ ...head, mac: macOf(head, authenticate) })
      .padEnd(HEAD_BYTES - 1)
      .concat('\n'),
  );
}

/**
 * The head in the open file `fd`; `EMPTY_HEAD` where the file is empty.
 * @throws {VolsealError} `ERR_AUDIT` where it is damaged, or was not written by who has the key
 */
export function readHead(fd: number, path: string, authenticate: Authenticate | undefined): Head {
  const bytes = Buffer.alloc(HEAD_BYTES);
  const byteCount = readSync(fd, bytes, 0, HEAD_BYTES, 0);
  if (byteCount === 0) return EMPTY_HEAD;
  try {
    const { mac, ...head } = headRecord.parse(JSON.parse(bytes.toString('latin1', 0, byteCount)));
    const expected = Buffer.from(macOf(head, authenticate));
    const found = Buffer.from(mac);
    if (found.length === expected.length && timingSafeEqual(found, expected)) return head;
  } catch {
    // Said below: what is in it does not matter.
  }
  throw auditError(path, 'is damaged, or was written by somebody else');
}

const macOf = ({ sequence, hash, bytes }: Head, authenticate: Authenticate | undefined): string =>
  authenticate === undefined ? '' : authenticate(Buffer.from(`volseal audit head\0${sequence}\0${hash}\0${bytes}`)).toString('hex');

/**
 * Runs `use` with the head's file open at its start, while nobody else writes to the log. Waits for its turn, up to 20 s.
 * @param path of the head; made where it is missing
 * @throws {VolsealError} `ERR_AUDIT`
 */
export function locked<Result>(path: string, use: (fd: number) => Result): Result {
  // An open file of its own each time: flock(2) is between open files, and so between threads too.
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    takeLock(fd, path);
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function takeLock(fd: number, path: string): void {
  for (let tries = 0; ; tries++) {
    try {
      native.fileLock(fd, true);
      return;
    } catch (error) {
      if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw error;
      if (tries === LOCK_TRIES) throw auditError(path, 'is held by another process for too long');
      Atomics.wait(waiting, 0, 0, LOCK_WAIT_MS);
    }
  }
}

const waiting = new Int32Array(new SharedArrayBuffer(4));

/** A fault of the log itself. @param problem follows the path */
export const auditError = (path: string, problem: string, cause?: unknown): VolsealError =>
  new VolsealError('ERR_AUDIT', `${path}: the audit log ${problem}`, { cause, details: { path } });
