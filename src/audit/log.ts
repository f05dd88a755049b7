/**
 * The audit log: every call to KMS that this home has seen, one JSON line each, chained by hashes.
 *
 * A record is written before the call's result is handed out; where it cannot be, the call fails. Records of what changed something are
 * on the disk then (fdatasync); those of what only used a key are with the operating system: a power cut may take the last of them,
 * a killed process none.
 */
import { closeSync, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../directories.js';
import { VolsealError } from '../errors.js';
import { AUDIT_LINE_BYTES_MAX } from '../limits.js';
import { type Authenticate, auditError, auditPaths, encodeHead, type Head, hashOf, locked, readHead } from './files.js';
import { type AuditEvent, auditRecord, CONSTANT_MEMBERS } from './record.js';

export interface AuditLog {
  /** @throws {VolsealError} `ERR_AUDIT` where the record is not in the log, whole: nothing of it is then */
  append(event: AuditEvent): void;
  /** Once, and nothing after it. */
  close(): void;
}

/**
 * Where a home has its logs: `embedded` that of its own KMS, which has a key to authenticate it with; `calls` that of calls to KMSs
 * elsewhere.
 */
export const auditFolder = (home: string, which: 'embedded' | 'calls'): string => join(home, 'audit', which);

/**
 * Opens the log in `folder`, and makes it (0700, files 0600) where there is none. Any number of threads and processes may have it open.
 * @param authenticate the HMAC of the log's owner, the same each time
 * @throws {VolsealError} `ERR_AUDIT`
 */
export function openAudit(folder: string, authenticate?: Authenticate): AuditLog {
  const paths = auditPaths(folder);
  const log = guarded(folder, () => {
    makeDirectory(folder);
    return openSync(paths.log, 'a+', 0o600);
  });
  return {
    append(event) {
      guarded(paths.log, () =>
        locked(paths.head, (head) => {
          const last = wholeLog(folder, log, readHead(head, paths.head, authenticate));
          const { sequence, hash } = last;
          const record = { ...CONSTANT_MEMBERS, ...event, volseal: { sequence: sequence + 1, previousHash: hash, ...event.volseal } };
          const line = Buffer.from(`${JSON.stringify(record)}\n`);
          if (line.length > AUDIT_LINE_BYTES_MAX) throw auditError(paths.log, `takes no record of ${line.length} bytes`);
          writeWhole(log, line, last.bytes, !event.readOnly);
          const next = { sequence: sequence + 1, hash: hashOf(line.subarray(0, -1)), bytes: last.bytes + line.length };
          writeSync(head, encodeHead(next, authenticate));
        }),
      );
    },
    close() {
      closeSync(log);
    },
  };
}

function writeWhole(fd: number, line: Buffer, startByte: number, flush: boolean): void {
  try {
    const byteCount = writeSync(fd, line);
    if (byteCount < line.length) throw new Error(`only ${byteCount} of ${line.length} bytes were taken: the disk is full`);
    if (flush) fdatasyncSync(fd);
  } catch (error) {
    // Half a line would be taken for a break of the chain.
    ftruncateSync(fd, startByte);
    throw error;
  }
}

/**
 * Where the log ends, once what a killed writer left is settled: a whole record that the head does not know yet counts; half a line is
 * moved aside.
 */
function wholeLog(folder: string, log: number, head: Head): Head {
  const { size } = fstatSync(log);
  if (size === head.bytes) return head;
  const { log: path } = auditPaths(folder);
  if (size < head.bytes) {
    throw auditError(
      path,
      `was cut: it has ${size} bytes and had ${head.bytes}; volseal audit verify says where. Move ${folder} away to begin a new one`,
    );
  }
  const tail = Buffer.alloc(size - head.bytes);
  readSync(log, tail, 0, tail.length, head.bytes);
  const end = tail.indexOf('\n');
  const line = end === -1 ? undefined : tail.subarray(0, end);
  // One writer at a time: a killed one leaves one line at most.
  if (line !== undefined && end === tail.length - 1 && follows(line, head)) {
    return { sequence: head.sequence + 1, hash: hashOf(line), bytes: size };
  }
  if (line !== undefined)
    throw auditError(path, `has ${tail.length} bytes that nobody who writes it has written; volseal audit verify says more`);
  writeFileSync(join(folder, `audit.torn-${head.sequence + 1}`), tail, { mode: 0o600 });
  ftruncateSync(log, head.bytes);
  return head;
}

function follows(line: Buffer, head: Head): boolean {
  try {
    const { volseal } = auditRecord.parse(JSON.parse(line.toString('utf8')));
    return volseal.sequence === head.sequence + 1 && volseal.previousHash === head.hash;
  } catch {
    return false;
  }
}

function guarded<Result>(path: string, run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    if (error instanceof VolsealError) throw error;
    throw auditError(path, `cannot be written: ${(error as Error).message}`, error);
  }
}
