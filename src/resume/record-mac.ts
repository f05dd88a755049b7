/**
 * The MAC of a record that a later run goes on from: an HMAC over its canonical JSON, under a key that is derived from
 * the data key. Without the data key nobody can make a later run leave parts out, or go on with something else.
 */
import { timingSafeEqual } from 'node:crypto';
import canonicalize from 'canonicalize';
import { decodeBase64 } from '../luks2/metadata.js';
import { type KeyHandle, native } from '../native.js';

const MAC_KEY_LABELS = {
  checkpoint: Buffer.from('volseal checkpoint mac v1'),
  upload: Buffer.from('volseal upload mac v1'),
  snapshot: Buffer.from('volseal snapshot mac v1'),
  range: Buffer.from('volseal range mac v1'),
};
const MAC_BYTES = 32;

/** What kind of record it is: each has a key of its own. */
export type RecordKind = keyof typeof MAC_KEY_LABELS;

/** @param key the volume's; stays the caller's @returns base64 @throws {VolsealError} `ERR_KEY_GONE` */
export const recordMac = (kind: RecordKind, record: object, key: KeyHandle): string => macOf(kind, record, key).toString('base64');

/** Whether somebody with the data key wrote the record. @throws {VolsealError} `ERR_KEY_GONE` */
export function isRecordMac(mac: string, kind: RecordKind, record: object, key: KeyHandle): boolean {
  const stored = decodeBase64(mac);
  return stored?.length === MAC_BYTES && timingSafeEqual(stored, macOf(kind, record, key));
}

function macOf(kind: RecordKind, record: object, key: KeyHandle): Buffer {
  const macKey = native.keyDerive(key, MAC_KEY_LABELS[kind]);
  try {
    return native.keyHmac(macKey, Buffer.from(canonicalize(record)!));
  } finally {
    native.keyWipe(macKey);
  }
}
