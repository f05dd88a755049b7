/**
 * The record in the journal of a job in place: what is moved, how far it is, and which part is in the journal and
 * perhaps not yet in its new place. JSON with an HMAC under a key derived from the data key, so that nobody without it
 * can make a job go on elsewhere, or in the other direction.
 */
import { timingSafeEqual } from 'node:crypto';
import canonicalize from 'canonicalize';
import * as z from 'zod';
import { SECTOR_SIZES, type SectorBytes, VOLUME_BYTES_MAX } from '../limits.js';
import { decodeBase64 } from '../luks2/metadata.js';
import { type KeyHandle, native } from '../native.js';
import { IN_PLACE_KINDS, type InPlaceKind } from '../output/in-place-mark.js';
import { parseStrictJson } from '../strict-json.js';

const MAC_KEY_LABEL = Buffer.from('volseal in-place mac v1');
const MAC_BYTES = 32;

/** What a disk writes whole, and its mark (native/engine/part_marks.h). */
const UNIT_BYTES = 512;
const MARK_BYTES = 16;

/** One copy of a record in the journal: JSON, filled up with zeros. */
export const RECORD_BYTES = 4096;

const bytes = z.number().int().min(0).max(VOLUME_BYTES_MAX);

/** What is moved, and how far it is. */
export interface InPlaceRecord {
  version: 1;
  /** Each record has the next number; the highest counts. */
  sequence: number;
  kind: InPlaceKind;
  direction: 'toHigh' | 'toLow';
  /** The image below it is in the low form, the rest in the high one, once the pending part is in its new place. */
  frontierBytes: number;
  pending: PendingPart | null;
  volumeId: string;
  uuid: string;
  /** Inode of the image where it is a file. */
  image: { kind: 'file' | 'device'; ino: string };
  /** Bytes of the file before the job. */
  fileBytes: number;
  /** Exact length of the image. */
  imageBytes: number;
  /** The same in whole sectors. */
  dataBytes: number;
  partBytes: number;
  lowOffsetBytes: number;
  highOffsetBytes: number;
  sectorBytes: SectorBytes;
  sparse: boolean;
  header: 'embedded' | 'detached';
  /**
   * The slots hold marks of the parts, 16 bytes of each 512: the data stays in its place. Without this member they hold
   * the parts themselves, always encrypted.
   */
  logged?: 'marks' | undefined;
}

/** A part that is in the journal, and perhaps not yet in its new place. */
export interface PendingPart {
  startByte: number;
  lengthBytes: number;
  slot: 0 | 1;
  sha256: string;
}

/** A record as it is in the journal; only its MAC makes it trustworthy. */
export type StoredRecord = InPlaceRecord & { mac: string };

const storedSchema: z.ZodType<StoredRecord> = z.strictObject({
  version: z.literal(1),
  sequence: z.number().int().positive(),
  kind: z.enum(IN_PLACE_KINDS),
  direction: z.enum(['toHigh', 'toLow']),
  frontierBytes: bytes,
  pending: z.strictObject({ startByte: bytes, lengthBytes: bytes, slot: z.literal([0, 1]), sha256: z.string() }).nullable(),
  volumeId: z.string(),
  uuid: z.string(),
  image: z.strictObject({ kind: z.enum(['file', 'device']), ino: z.string() }),
  fileBytes: bytes,
  imageBytes: bytes,
  dataBytes: bytes,
  partBytes: bytes,
  lowOffsetBytes: bytes,
  highOffsetBytes: bytes,
  sectorBytes: z.literal([...SECTOR_SIZES]),
  sparse: z.boolean(),
  header: z.enum(['embedded', 'detached']),
  logged: z.literal('marks').optional(),
  mac: z.string(),
});

/** For a record of a job that begins: what it logs, by whether its data keeps its place. */
export const loggedOf = (lowOffsetBytes: number, highOffsetBytes: number): Pick<InPlaceRecord, 'logged'> =>
  lowOffsetBytes === highOffsetBytes ? { logged: 'marks' } : {};

/** What a slot holds of so many bytes of a part, in bytes. */
export const loggedBytes = ({ logged }: Pick<InPlaceRecord, 'logged'>, partBytes: number): number =>
  logged === 'marks' ? (partBytes / UNIT_BYTES) * MARK_BYTES : partBytes;

/** One copy. @param key the data key that proves it; stays the caller's @throws {VolsealError} `ERR_KEY_GONE` */
export function encodeRecord(record: InPlaceRecord, key: KeyHandle): Buffer {
  const stored: StoredRecord = { ...record, mac: macOf(record, key).toString('base64') };
  const copy = Buffer.alloc(RECORD_BYTES);
  const text = Buffer.from(JSON.stringify(stored));
  if (text.length > RECORD_BYTES) throw new Error('a record of a job in place is too long');
  text.copy(copy);
  return copy;
}

/** Undefined where the bytes are none. */
export function decodeRecord(copy: Buffer): StoredRecord | undefined {
  const end = copy.indexOf(0);
  try {
    return storedSchema.safeParse(parseStrictJson(copy.subarray(0, end === -1 ? copy.length : end).toString('utf8'))).data;
  } catch {
    return undefined;
  }
}

/** Whether somebody with the key wrote it. @throws {VolsealError} `ERR_KEY_GONE` */
export function isProved({ mac, ...record }: StoredRecord, key: KeyHandle): boolean {
  const stored = decodeBase64(mac);
  return stored?.length === MAC_BYTES && timingSafeEqual(stored, macOf(record, key));
}

function macOf(record: InPlaceRecord, key: KeyHandle): Buffer {
  const macKey = native.keyDerive(key, MAC_KEY_LABEL);
  try {
    return native.keyHmac(macKey, Buffer.from(canonicalize(record)!));
  } finally {
    native.keyWipe(macKey);
  }
}
