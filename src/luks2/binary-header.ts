/**
 * One copy of a LUKS2 header: 4096 big-endian bytes, then the JSON area.
 *
 * LUKS2 On-Disk Format Specification, section 2.1 ("Binary Header"). A header is stored twice; the copies differ in
 * magic, salt, offset and checksum.
 */
import { randomBytes } from 'node:crypto';
import { VolsealError } from '../errors.js';
import { LUKS2_HEADER_SIZES } from '../limits.js';
import { type LuksHash, native } from '../native.js';

export type CopyName = 'primary' | 'secondary';

/** The fields that are equal in both copies. */
export interface BinaryHeader {
  /** 36 characters, as in `/dev/disk/by-uuid`. */
  uuid: string;
  /** At most 47 bytes of UTF-8; empty for none. */
  label: string;
  /** At most 47 bytes of UTF-8; empty for none. */
  subsystem: string;
  /** The specification's `seqid`: of two valid copies the one with the higher number is the header. */
  sequence: bigint;
  /** The specification's `hdr_size`: bytes of one copy, JSON area included; also where the secondary copy begins. */
  copyBytes: number;
}

/** Bytes before the JSON area. */
export const BINARY_HEADER_BYTES = 4096;

const VERSION = 2;
/** What we write. */
const CHECKSUM_ALGORITHM = 'sha256';
/**
 * What we read: cryptsetup keeps the algorithm that a header was made with. By OpenSSL's names, which are the
 * specification's.
 */
const CHECKSUM_ALGORITHMS: readonly string[] = ['sha1', 'sha256', 'sha384', 'sha512'] satisfies LuksHash[];
const MAGIC = {
  primary: Buffer.from('4c554b53babe', 'hex'),
  secondary: Buffer.from('534b554cbabe', 'hex'),
} as const;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

interface Field {
  at: number;
  bytes: number;
}

const FIELD = {
  version: { at: 6, bytes: 2 },
  headerSize: { at: 8, bytes: 8 },
  sequence: { at: 16, bytes: 8 },
  label: { at: 24, bytes: 48 },
  checksumAlgorithm: { at: 72, bytes: 32 },
  salt: { at: 104, bytes: 64 },
  uuid: { at: 168, bytes: 40 },
  subsystem: { at: 208, bytes: 48 },
  headerOffset: { at: 256, bytes: 8 },
  checksum: { at: 448, bytes: 64 },
} as const satisfies Record<string, Field>;

/** Length of a copy's magic. */
export const MAGIC_BYTES = MAGIC.primary.length;

/** Whether the magic of this copy (six bytes) is at `offsetBytes` of `area`. */
export function carriesMagic(area: Buffer, offsetBytes: number, name: CopyName): boolean {
  const magic = MAGIC[name];
  return area.subarray(offsetBytes, offsetBytes + magic.length).equals(magic);
}

/** The version number after a magic at offset 0: 1 is LUKS1. Undefined if the area ends before it. */
export function headerVersion(area: Buffer): number | undefined {
  return area.length < FIELD.version.at + FIELD.version.bytes ? undefined : area.readUInt16BE(FIELD.version.at);
}

/**
 * One complete copy: `header.copyBytes` bytes with a new salt and its checksum.
 *
 * @param jsonText the JSON area's text; at least one NUL must fit behind it
 * @throws {VolsealError} `ERR_ARGUMENT` if a field or the text does not fit, or the specification does not have the
 * size
 */
export function encodeCopy(header: BinaryHeader, name: CopyName, jsonText: string): Buffer {
  const { copyBytes } = header;
  refuseUnlistedSize(copyBytes, 'ERR_ARGUMENT');
  if (!UUID.test(header.uuid)) throw new VolsealError('ERR_ARGUMENT', `LUKS2 header: ${JSON.stringify(header.uuid)} is not a UUID`);
  const json = Buffer.from(jsonText);
  const roomBytes = copyBytes - BINARY_HEADER_BYTES - 1;
  if (json.length > roomBytes) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `LUKS2 header: the metadata takes ${json.length} bytes and its area holds ${roomBytes}; shorten the encryption context or remove tokens`,
      { details: { jsonBytes: json.length, roomBytes } },
    );
  }
  const copy = Buffer.alloc(copyBytes);
  MAGIC[name].copy(copy);
  copy.writeUInt16BE(VERSION, FIELD.version.at);
  copy.writeBigUInt64BE(BigInt(copyBytes), FIELD.headerSize.at);
  copy.writeBigUInt64BE(header.sequence, FIELD.sequence.at);
  writeText(copy, FIELD.label, header.label);
  writeText(copy, FIELD.checksumAlgorithm, CHECKSUM_ALGORITHM);
  randomBytes(FIELD.salt.bytes).copy(copy, FIELD.salt.at);
  writeText(copy, FIELD.uuid, header.uuid);
  writeText(copy, FIELD.subsystem, header.subsystem);
  copy.writeBigUInt64BE(BigInt(name === 'primary' ? 0 : copyBytes), FIELD.headerOffset.at);
  json.copy(copy, BINARY_HEADER_BYTES);
  checksumOf(copy, CHECKSUM_ALGORITHM).copy(copy, FIELD.checksum.at);
  return copy;
}

/**
 * Reads the copy that begins at `offsetBytes` of `area`: magic, version, size, offset, checksum algorithm, checksum and
 * texts are all checked. `jsonArea` is a view into `area`.
 *
 * @throws {VolsealError} `ERR_HEADER_DAMAGED`; the message says in a few words what is wrong, without the name of the
 * file
 */
export function decodeCopy(area: Buffer, offsetBytes: number, name: CopyName): { header: BinaryHeader; jsonArea: Buffer } {
  const rest = area.subarray(offsetBytes);
  if (!carriesMagic(rest, 0, name)) throw damaged('no magic');
  if (rest.length < BINARY_HEADER_BYTES) throw damaged(`truncated: ${rest.length} of at least ${LUKS2_HEADER_SIZES[0]} bytes`);
  const version = rest.readUInt16BE(FIELD.version.at);
  if (version !== VERSION) throw damaged(`version ${version} is not 2`);
  const headerSize = rest.readBigUInt64BE(FIELD.headerSize.at);
  refuseUnlistedSize(headerSize, 'ERR_HEADER_DAMAGED');
  const copyBytes = Number(headerSize);
  const placedAt = rest.readBigUInt64BE(FIELD.headerOffset.at);
  if (placedAt !== BigInt(offsetBytes)) throw damaged(`it names the offset ${placedAt} and is at ${offsetBytes}`);
  if (name === 'secondary' && copyBytes !== offsetBytes) throw damaged(`header size ${copyBytes} at offset ${offsetBytes}`);
  if (rest.length < copyBytes) throw damaged(`truncated: ${rest.length} of ${copyBytes} bytes`);
  const algorithm = readText(rest, FIELD.checksumAlgorithm);
  if (!CHECKSUM_ALGORITHMS.includes(algorithm)) {
    throw damaged(`checksum algorithm ${JSON.stringify(algorithm)} is none of ${CHECKSUM_ALGORITHMS.join(', ')}`);
  }

  const copy = rest.subarray(0, copyBytes);
  const { at, bytes } = FIELD.checksum;
  // All 64 bytes of the field, so that every bit of a copy is checked.
  const expected = Buffer.alloc(bytes);
  checksumOf(copy, algorithm as LuksHash).copy(expected);
  if (!copy.subarray(at, at + bytes).equals(expected)) throw damaged('bad checksum');

  const uuid = readText(copy, FIELD.uuid);
  if (!UUID.test(uuid)) throw damaged(`${JSON.stringify(uuid)} is not a UUID`);
  const header = {
    uuid,
    label: readText(copy, FIELD.label),
    subsystem: readText(copy, FIELD.subsystem),
    sequence: copy.readBigUInt64BE(FIELD.sequence.at),
    copyBytes,
  };
  return { header, jsonArea: copy.subarray(BINARY_HEADER_BYTES) };
}

/** The checksum of a whole copy, with the checksum field read as zeros. */
function checksumOf(copy: Buffer, algorithm: LuksHash): Buffer {
  const { at, bytes } = FIELD.checksum;
  return native.publicDigest(algorithm, Buffer.from(copy).fill(0, at, at + bytes));
}

function refuseUnlistedSize(headerSize: number | bigint, code: 'ERR_ARGUMENT' | 'ERR_HEADER_DAMAGED'): void {
  if (!(LUKS2_HEADER_SIZES as readonly number[]).includes(Number(headerSize))) {
    throw new VolsealError(code, `header size ${headerSize} is none of LUKS2's (${LUKS2_HEADER_SIZES.join(', ')})`);
  }
}

function writeText(copy: Buffer, field: Field, text: string): void {
  const bytes = Buffer.from(text);
  // The last byte stays NUL: readers in C rely on it.
  if (bytes.length >= field.bytes || bytes.includes(0)) {
    throw new VolsealError('ERR_ARGUMENT', `LUKS2 header: ${JSON.stringify(text)} does not fit into ${field.bytes - 1} bytes of text`);
  }
  bytes.copy(copy, field.at);
}

function readText(copy: Buffer, field: Field): string {
  const bytes = copy.subarray(field.at, field.at + field.bytes);
  const end = bytes.indexOf(0);
  if (end < 0) throw damaged(`the text at offset ${field.at} does not end`);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, end));
  } catch {
    throw damaged(`the text at offset ${field.at} is not UTF-8`);
  }
}

const damaged = (what: string): VolsealError => new VolsealError('ERR_HEADER_DAMAGED', what);
