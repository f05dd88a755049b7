/** A record as a line of the log: its place in the chain of hashes, and its MAC. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { AUDIT_LINE_BYTES_MAX } from '../limits.js';
import { type AuditEvent, auditRecord, CONSTANT_MEMBERS } from './record.js';
import type { Authenticate, Link } from './state.js';

const MAC_MEMBER = ',"mac":"';
const MAC_CHARS = 64;
const END = '}}';
/** What follows the part of the line that the MAC covers. */
const MAC_TAIL_BYTES = MAC_MEMBER.length + MAC_CHARS + 1 + END.length;

export interface NewLine extends Link {
  /** Without a line feed. */
  readonly text: string;
}

/** The line of `event` after the record `previous`. */
export function encodeLine(event: AuditEvent, previous: Link, authenticate: Authenticate | undefined): NewLine {
  const { volseal, ...members } = event;
  const sequence = previous.sequence + 1;
  // Last: the MAC ends the line.
  const record = { ...CONSTANT_MEMBERS, ...members, volseal: { sequence, previousHash: previous.hash, ...volseal } };
  let text = JSON.stringify(record);
  if (authenticate !== undefined) {
    const covered = text.slice(0, -END.length);
    text = `${covered}${MAC_MEMBER}${authenticate(Buffer.from(covered)).toString('hex')}"${END}`;
  }
  if (Buffer.byteLength(text) >= AUDIT_LINE_BYTES_MAX) throw new Error(`a record of ${text.length} characters`);
  return { sequence, hash: hashOf(text), text };
}

/** SHA-256 of a line without its line feed, hexadecimal. */
export const hashOf = (line: Uint8Array | string): string => createHash('sha256').update(line).digest('hex');

/** Why the line `bytes` is not the record after `previous`; undefined where it is. */
export function problemOf(bytes: Buffer, previous: Link, authenticate: Authenticate | undefined): string | undefined {
  const value = parsed(bytes);
  if (value === undefined) return 'is not JSON';
  const { success, data } = auditRecord.safeParse(value);
  if (!success) return 'is not a record';
  const { sequence, previousHash } = data.volseal;
  if (sequence !== previous.sequence + 1) return `has number ${sequence} instead of ${previous.sequence + 1}`;
  if (previousHash !== previous.hash) return 'does not follow from the line before: one of them was changed';
  if (authenticate === undefined || carriesMac(bytes, authenticate)) return undefined;
  return 'does not carry a MAC under the root key: it was changed, or somebody else wrote it';
}

/** Whether a line is JSON at all: what an interrupted write leaves is not. */
export const isJson = (bytes: Buffer): boolean => parsed(bytes) !== undefined;

function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}

function carriesMac(bytes: Buffer, authenticate: Authenticate): boolean {
  const end = bytes.length - MAC_TAIL_BYTES;
  if (end < 0 || bytes.toString('latin1', end, end + MAC_MEMBER.length) !== MAC_MEMBER) return false;
  const found = bytes.subarray(end + MAC_MEMBER.length, end + MAC_MEMBER.length + MAC_CHARS);
  return timingSafeEqual(found, Buffer.from(authenticate(bytes.subarray(0, end)).toString('hex')));
}
