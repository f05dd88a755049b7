/**
 * The audit log: every call to KMS that this home has seen, one JSON line each, chained by hashes.
 *
 * What describes a change is durable with the change itself: the embedded KMS writes the line into its store in the
 * same transaction, and the line is copied into the log afterwards. Records of calls that only used a key are written
 * to the log before the result is handed out, and flushed within a second: a power cut may take the last of them, a
 * killed process none. (docs/RELIABILITY.md)
 */
import { existsSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { syncDirectorySync } from '../directories.js';
import { messageOf, type VolsealError } from '../errors.js';
import { AUDIT_FLUSH_INTERVAL_MS } from '../limits.js';
import { encodeLine, hashOf, isJson, type NewLine, problemOf } from './line.js';
import { type LogFile, lockedLog, withFaults } from './log-file.js';
import type { AuditEvent } from './record.js';
import { auditError, auditPaths, EMPTY_STATE, fileState, type LogOwner, type LogState } from './state.js';

/**
 * The directories of the logs of a home: `embedded` is the log of its own KMS, which has a root key to authenticate it;
 * `calls` that of calls to other KMSs.
 */
export const auditDirectory = (home: string, which: 'embedded' | 'calls'): string => join(home, 'audit', which);

/** The owner of a log without a store and without a key. */
export const fileOwner = (directory: string): LogOwner => ({ state: fileState(auditPaths(directory).head) });

/**
 * The log of one directory. Any number of threads and processes may write to it, each with an `AuditLog` of its own.
 */
export class AuditLog {
  readonly #path: string;
  readonly #owner: LogOwner;
  /** How far the log has reached, as this object has seen it: what follows is read again, what comes before is not. */
  #known: LogState = EMPTY_STATE;
  #timer: NodeJS.Timeout | undefined;

  /** @param owner the same for all who write to this log */
  constructor(directory: string, owner: LogOwner) {
    this.#path = auditPaths(directory).log;
    this.#owner = owner;
  }

  /**
   * Appends the record of a call that has been made. One of a change is durable when this returns, others within a
   * second.
   * @throws {VolsealError} `ERR_AUDIT`, `ERR_IO`: the log has nothing of the record then
   */
  append(event: AuditEvent): void {
    const durable = !event.readOnly && event.errorCode === undefined;
    this.#locked((file) => {
      const end = this.#settle(file);
      const line = this.#encode(event, end);
      withFaults(this.#path, () => file.append(line.text, end.bytes));
      this.#known = after(end, line);
      if (!durable) return;
      try {
        this.#makeDurable(file);
      } catch (error) {
        file.cut(end.bytes);
        this.#known = end;
        throw error;
      }
    });
    if (!durable) this.#timer ??= setTimeout(() => this.flush(), AUDIT_FLUSH_INTERVAL_MS).unref();
  }

  /**
   * Makes a change and its record one. `apply` runs a transaction of the store that keeps the state of this log, and
   * calls `record` in it: both are durable then, or neither. Nobody else writes to the log meanwhile.
   * @throws {VolsealError} `ERR_AUDIT`, `ERR_IO` before anything was changed; what `apply` throws
   */
  change<Result>(apply: (record: (event: AuditEvent) => void) => Result): Result {
    return this.#locked((file) => {
      const end = this.#settle(file);
      // The chain up to here is durable before a record that continues it is.
      withFaults(this.#path, () => file.flush());
      let line: NewLine | undefined;
      const result = apply((event) => {
        line = this.#encode(event, end);
        this.#owner.state.write({ ...after(end, line), line: line.text });
      });
      if (line !== undefined) {
        try {
          file.append(line.text, end.bytes);
          this.#known = after(end, line);
        } catch {
          // The store has the line: whoever writes next appends it first.
        }
      }
      return result;
    });
  }

  /** Makes all records durable, and the state cover them. @throws {VolsealError} */
  checkpoint(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#locked((file) => {
      this.#settle(file);
      this.#makeDurable(file);
    });
  }

  /** Makes the last records durable where it can. Nothing may be called after it. */
  close(): void {
    if (this.#timer !== undefined) this.flush();
  }

  /** As `checkpoint`, but where it fails, it says so in a warning: for the end of a process. */
  flush(): void {
    try {
      this.checkpoint();
    } catch (error) {
      // The records are in the log, and the next call says what is wrong with it. There may be no next call.
      const warning = `${this.#path}: its last records could not be flushed, and a power cut may take them: ${messageOf(error)}`;
      process.emitWarning(warning, { type: 'VolsealWarning', code: 'VOLSEAL_AUDIT_NOT_FLUSHED' });
    }
  }

  /**
   * Begins a new log where the old one was damaged or lost. What is left of the old one is kept as
   * `audit-until-NUMBER.jsonl`; the numbers go on after the last record that is known.
   * @throws {VolsealError} `ERR_AUDIT`, `ERR_IO`
   */
  restart(): void {
    lockedLog(
      this.#path,
      () => true,
      (file) => {
        const { sequence, hash } = this.#stateIfReadable();
        withFaults(this.#path, () => {
          if (file.sizeBytes > 0) renameSync(this.#path, unusedName(dirname(this.#path), `audit-until-${sequence}`));
          syncDirectorySync(dirname(this.#path));
        });
        this.#owner.state.write({ sequence, hash, bytes: 0, first: { sequence, hash } });
      },
    );
  }

  #locked<Result>(use: (file: LogFile) => Result): Result {
    const mayCreate = (): boolean => {
      const state = this.#owner.state.read() ?? EMPTY_STATE;
      if (startOf(state) > 0) throw this.#lost(`is missing: it had ${state.sequence} records`);
      return true;
    };
    return lockedLog(this.#path, mayCreate, use);
  }

  /**
   * Where the log ends, once what a killed process or a power cut has left is settled: a line that only the store has
   * is appended; what follows the last record and is no record is set aside.
   */
  #settle(file: LogFile): LogState {
    const state = this.#owner.state.read() ?? this.#begin(file);
    const isKnown = this.#known.sequence >= state.sequence && this.#known.first.sequence === state.first.sequence;
    const floor = isKnown ? this.#known : state;
    const { sizeBytes } = file;
    if (sizeBytes < startOf(floor)) {
      throw this.#lost(`was cut: it has ${sizeBytes} bytes and had ${floor.bytes} with ${floor.sequence} records`);
    }
    withFaults(this.#path, () => {
      const { line } = state;
      const start = startOf(state);
      if (line !== undefined && floor.sequence === state.sequence && !file.has(line, start)) {
        if (sizeBytes > start) file.setAside(start, state.sequence);
        file.append(line, start);
      }
      this.#known = this.#readOn(file, { ...floor, line: undefined });
      if (file.sizeBytes > this.#known.bytes) file.setAside(this.#known.bytes, this.#known.sequence + 1);
    });
    return this.#known;
  }

  /** The first state of a log. */
  #begin(file: LogFile): LogState {
    if (file.sizeBytes > 0 && !this.#owner.mayLackState) throw this.#lost('has no head');
    this.#owner.state.write(EMPTY_STATE);
    return EMPTY_STATE;
  }

  /** Follows the chain from `floor` to the last line that continues it: other processes have written those. */
  #readOn(file: LogFile, floor: LogState): LogState {
    let end = floor;
    if (file.sizeBytes === floor.bytes) return end;
    for (const { bytes, endByte } of file.lines(floor.bytes)) {
      const problem = problemOf(bytes, end, this.#owner.authenticate);
      if (problem !== undefined) {
        // What an interrupted write leaves is no JSON.
        if (isJson(bytes)) throw this.#lost(`was changed: the line after record ${end.sequence} ${problem}`);
        break;
      }
      end = { ...end, sequence: end.sequence + 1, hash: hashOf(bytes), bytes: endByte };
    }
    return end;
  }

  #makeDurable(file: LogFile): void {
    withFaults(this.#path, () => file.flush());
    this.#owner.state.write(this.#known);
  }

  /** A damaged state must not prevent a new log. */
  #stateIfReadable(): LogState {
    try {
      return this.#owner.state.read() ?? EMPTY_STATE;
    } catch {
      return EMPTY_STATE;
    }
  }

  #encode(event: AuditEvent, end: LogState): NewLine {
    return encodeLine(event, end, this.#owner.authenticate);
  }

  #lost(problem: string): VolsealError {
    const advice = 'volseal audit verify shows what is left of it, volseal audit restart begins a new one';
    return auditError(this.#path, `${problem}; ${advice}`);
  }
}

/** Where the last line begins that the log must have in full. */
const startOf = ({ bytes, line }: Pick<LogState, 'bytes' | 'line'>): number =>
  line === undefined ? bytes : bytes - Buffer.byteLength(line) - 1;

const after = ({ first, bytes }: LogState, { sequence, hash, text }: NewLine): LogState => ({
  first,
  sequence,
  hash,
  bytes: bytes + Buffer.byteLength(text) + 1,
});

function unusedName(directory: string, name: string): string {
  for (let copy = 1; ; copy++) {
    const path = join(directory, `${name}${copy === 1 ? '' : `-${copy}`}.jsonl`);
    if (!existsSync(path)) return path;
  }
}
