/** Verifies that an audit log has what was written: no line was changed, moved, removed, added or cut off. */
import { existsSync, readdirSync } from 'node:fs';
import { asVolsealError } from '../errors.js';
import { hashOf, isJson, problemOf } from './line.js';
import { linesFrom } from './read.js';
import { auditPaths, EMPTY_STATE, type Link, type LogOwner, type LogState } from './state.js';

export interface AuditProof {
  /** Records that were verified. */
  readonly records: number;
  /** The number of the record after which the log begins; 0 unless a new log was begun after a loss. */
  readonly begunAfter: number;
  /** Parts that interrupted writes left, set aside in files `audit.torn-*` or still at the end. */
  readonly tornLines: number;
  /** Whether every record carries a MAC, so that only the owner of the root key can have written it. */
  readonly authenticated: boolean;
  /** The first problem; undefined where there is none. */
  readonly broken?: { readonly line: number; readonly problem: string };
}

/**
 * Reads the log of `directory` from its first line to its last.
 * @param owner as it was given to `AuditLog`; without one the log has no state to compare it with
 * @throws {VolsealError} `ERR_IO`; `ERR_AUDIT` where its state is damaged
 */
export async function verifyAudit(directory: string, owner: LogOwner): Promise<AuditProof> {
  const { log } = auditPaths(directory);
  // Before the log: what is appended meanwhile is no fault.
  const known = owner.state.read();
  const state: LogState = known ?? EMPTY_STATE;
  let last: Link = state.first;
  let endByte = 0;
  let torn = tornFilesIn(directory);
  const proof = (problem?: string): AuditProof => ({
    records: last.sequence - state.first.sequence,
    begunAfter: state.first.sequence,
    tornLines: torn,
    authenticated: owner.authenticate !== undefined,
    ...(problem === undefined ? {} : { broken: { line: last.sequence - state.first.sequence + 1, problem } }),
  });
  if (known === undefined && !owner.mayLackState && existsSync(log))
    return proof(`cannot be verified: the store or the head that says how far the log reached is missing`);
  for await (const line of linesFrom(log, 0)) {
    const isDurable = last.sequence < state.sequence;
    const problem = problemOf(line.bytes, last, owner.authenticate);
    if (problem !== undefined) {
      // What an interrupted write leaves follows the last durable record, and is no JSON.
      if (isDurable || isJson(line.bytes)) return proof(problem);
      torn += 1;
      break;
    }
    const next = { sequence: last.sequence + 1, hash: hashOf(line.bytes) };
    if (next.sequence === state.sequence && (next.hash !== state.hash || line.endByte !== state.bytes)) {
      return proof('is not the record that was written');
    }
    last = next;
    endByte = line.endByte;
  }
  if (last.sequence < state.sequence && !isPending(state, last, endByte)) return proof(`is missing: ${state.sequence} were written`);
  return proof();
}

/** Whether only the last record is missing, which the store has: the next call appends it. */
const isPending = ({ line, sequence, hash, bytes }: LogState, last: Link, endByte: number): boolean =>
  line !== undefined &&
  sequence === last.sequence + 1 &&
  bytes === endByte + Buffer.byteLength(line) + 1 &&
  hash === hashOf(line) &&
  problemOf(Buffer.from(line), last, undefined) === undefined;

function tornFilesIn(directory: string): number {
  try {
    return readdirSync(directory).filter((name) => name.startsWith('audit.torn-')).length;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw asVolsealError(error, directory);
  }
}
