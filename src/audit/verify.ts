/** Whether an audit log is what was written: every line in its place, none changed, none missing, none cut off at the end. */
import { closeSync, openSync, readdirSync } from 'node:fs';
import { asVolsealError } from '../errors.js';
import { type Authenticate, auditPaths, EMPTY_HEAD, FIRST_HASH, type Head, hashOf, readHead } from './files.js';
import { linesFrom } from './read.js';
import { auditRecord } from './record.js';

export interface AuditProof {
  /** Records that are proved. */
  readonly records: number;
  /** Half lines that killed writers left, set aside. */
  readonly tornLines: number;
  /** Whether the head carries a MAC, so that only the log's owner can have written all of this. */
  readonly authenticated: boolean;
  /** The first thing that is wrong; undefined where nothing is. */
  readonly broken?: { readonly line: number; readonly problem: string };
}

/**
 * Reads the log of `folder` from its first line to its last.
 * @param authenticate as it was given to `openAudit`
 * @throws {VolsealError} `ERR_IO`; `ERR_AUDIT` where the head is damaged or forged
 */
export async function verifyAudit(folder: string, authenticate?: Authenticate): Promise<AuditProof> {
  const { log, head: headPath } = auditPaths(folder);
  // Before the log: what is appended meanwhile is no fault.
  const head = headOf(headPath, authenticate);
  let sequence = 0;
  let previousHash = FIRST_HASH;
  let endByte = 0;
  const proof = (problem?: string): AuditProof => ({
    records: sequence,
    tornLines: tornLinesIn(folder),
    authenticated: authenticate !== undefined,
    ...(problem === undefined ? {} : { broken: { line: sequence + 1, problem } }),
  });
  for await (const line of linesFrom(log, 0)) {
    const problem = problemOf(line.bytes, sequence, previousHash);
    if (problem !== undefined) return proof(problem);
    sequence += 1;
    previousHash = hashOf(line.bytes);
    endByte = line.endByte;
    if (sequence === head.sequence && (previousHash !== head.hash || endByte !== head.bytes)) {
      sequence -= 1;
      return proof('is not the line that the head of the log knows');
    }
  }
  if (sequence < head.sequence) return proof(`is missing: ${head.sequence} were written`);
  // One that the head does not know yet may be under way; more are somebody else's, or the head was taken away.
  const known = headOf(headPath, authenticate).sequence;
  if (sequence > known + 1) {
    sequence = known + 1;
    return proof('is not known to the head of the log');
  }
  return proof();
}

function headOf(path: string, authenticate: Authenticate | undefined): Head {
  try {
    const fd = openSync(path, 'r');
    try {
      return readHead(fd, path, authenticate);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return EMPTY_HEAD;
    throw asVolsealError(error, path);
  }
}

function problemOf(bytes: Buffer, sequence: number, previousHash: string): string | undefined {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    return 'is no JSON';
  }
  const { success, data } = auditRecord.safeParse(value);
  if (!success) return 'is no record';
  if (data.volseal.sequence !== sequence + 1) return `is number ${data.volseal.sequence}, where ${sequence + 1} belongs`;
  return data.volseal.previousHash === previousHash ? undefined : 'does not follow from the line before: one of them was changed';
}

function tornLinesIn(folder: string): number {
  try {
    return readdirSync(folder).filter((name) => name.startsWith('audit.torn-')).length;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw asVolsealError(error, folder);
  }
}
