/** Reads the audit log: all of it or the records that a question asks for, as it is or as it grows. */

import { constants, createReadStream, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { asVolsealError, VolsealError } from '../errors.js';
import { AUDIT_FOLLOW_INTERVAL_MS, AUDIT_LINE_BYTES_MAX } from '../limits.js';
import { openOwnFile } from '../own-files.js';
import { type AuditRecord, auditRecord } from './record.js';
import { auditError, auditPaths } from './state.js';

/** Conditions on records. All that are given must hold. */
export interface AuditQuestion {
  /** The pair `VOLUME_ID_CONTEXT_KEY` of the encryption context. */
  readonly volumeId?: string | undefined;
  /** ARN or id of a key. */
  readonly key?: string | undefined;
  readonly eventName?: string | undefined;
  /** Milliseconds since 1970. */
  readonly sinceMs?: number | undefined;
}

export interface FollowOptions {
  /** Continues with new records, until `signal` comes. */
  readonly follow?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * The records of the logs in `directories` that answer `question`, oldest first. A last line that is not whole yet is
 * left out.
 * @throws {VolsealError} `ERR_AUDIT` where a line is no record, `ERR_IO`; the signal's reason
 */
export async function* readAudit(
  directories: readonly string[],
  question: AuditQuestion,
  { follow = false, signal }: FollowOptions = {},
): AsyncGenerator<AuditRecord> {
  const logs = directories.map((directory) => ({ path: auditPaths(directory).log, position: 0 }));
  for (;;) {
    yield* merged(logs.map((log) => newRecords(log, question)));
    if (!follow) return;
    await sleep(AUDIT_FOLLOW_INTERVAL_MS, undefined, signal === undefined ? {} : { signal }).catch(() => signal?.throwIfAborted());
    for (const { path, position } of logs) if (sizeOf(path) < position) throw auditError(path, 'became shorter while it was read');
  }
}

/** The records after `log.position`, which is moved forward. */
async function* newRecords(log: { readonly path: string; position: number }, question: AuditQuestion): AsyncGenerator<AuditRecord> {
  for await (const line of linesFrom(log.path, log.position)) {
    log.position = line.endByte;
    const record = parseLine(line.bytes, log.path, line.startByte);
    if (answers(record, question)) yield record;
  }
}

/** Several sequences, each in the order of its times, as one. */
async function* merged(sources: readonly AsyncGenerator<AuditRecord>[]): AsyncGenerator<AuditRecord> {
  const heads = await Promise.all(sources.map((source) => source.next()));
  for (;;) {
    const open = heads.flatMap(({ done, value }, index) => (done ? [] : [{ record: value as AuditRecord, index }]));
    if (open.length === 0) return;
    const first = open.reduce((one, other) => (other.record.eventTime < one.record.eventTime ? other : one));
    yield first.record;
    heads[first.index] = await sources[first.index]!.next();
  }
}

/** A line of the log without its line feed. */
export interface AuditLine {
  readonly bytes: Buffer;
  readonly startByte: number;
  /** Behind the line feed. */
  readonly endByte: number;
}

/**
 * The whole lines from `startByte` on; nothing where there is no file. @throws {VolsealError} `ERR_IO`, `ERR_AUDIT`: a
 * line without an end
 */
export async function* linesFrom(path: string, startByte: number): AsyncGenerator<AuditLine> {
  let rest: Buffer = Buffer.alloc(0);
  let restStart = startByte;
  try {
    const fd = openOwnFile(path, constants.O_RDONLY);
    for await (const chunk of createReadStream(path, { fd, start: startByte }) as AsyncIterable<Buffer>) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let from = 0;
      for (let end = bytes.indexOf('\n'); end !== -1; end = bytes.indexOf('\n', from)) {
        yield { bytes: bytes.subarray(from, end), startByte: restStart + from, endByte: restStart + end + 1 };
        from = end + 1;
      }
      rest = bytes.subarray(from);
      restStart += from;
      if (rest.length > AUDIT_LINE_BYTES_MAX)
        throw auditError(path, `has a line of more than ${AUDIT_LINE_BYTES_MAX} bytes at offset ${restStart}`);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw asVolsealError(error, path);
  }
}

function parseLine(bytes: Buffer, path: string, startByte: number): AuditRecord {
  try {
    return auditRecord.parse(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw auditError(path, `has a line that is no record at offset ${startByte}; volseal audit verify says more`, error);
  }
}

function answers(record: AuditRecord, { volumeId, key, eventName, sinceMs }: AuditQuestion): boolean {
  return (
    (volumeId === undefined || contextOf(record)[VOLUME_ID_CONTEXT_KEY] === volumeId) &&
    (key === undefined || record.resources.some(({ ARN }) => ARN === key || ARN.endsWith(`/${key}`))) &&
    (eventName === undefined || record.eventName === eventName) &&
    (sinceMs === undefined || Date.parse(record.eventTime) >= sinceMs)
  );
}

/** The encryption context that a call was about: of a grant, the pairs of its constraint. */
export function contextOf({ requestParameters: asked }: Pick<AuditRecord, 'requestParameters'>): Record<string, string> {
  const constraints = asked?.constraints as Record<string, unknown> | undefined;
  const context =
    asked?.encryptionContext ??
    asked?.sourceEncryptionContext ??
    constraints?.encryptionContextSubset ??
    constraints?.encryptionContextEquals;
  return typeof context === 'object' && context !== null ? (context as Record<string, string>) : {};
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch (error) {
    const converted = asVolsealError(error, path);
    if (converted instanceof VolsealError && converted.details.errno === 'ENOENT') return 0;
    throw converted;
  }
}
