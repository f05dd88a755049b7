/**
 * A LUKS2 header: two copies of the same content. The newest valid copy is used.
 *
 * LUKS2 On-Disk Format Specification, section 2 ("LUKS2 On-Disk Format").
 */
import { VolsealError } from '../errors.js';
import { EMBEDDED_DATA_OFFSET_BYTES, LUKS2_HEADER_SIZES } from '../limits.js';
import {
  BINARY_HEADER_BYTES,
  type BinaryHeader,
  type CopyName,
  carriesMagic,
  decodeCopy,
  encodeCopy,
  headerVersion,
} from './binary-header.js';
import { dataDigests, parseMetadata } from './metadata.js';
import type { Luks2Metadata } from './metadata-object.js';

/** The content of a header, from either copy. */
export interface Luks2Header extends BinaryHeader {
  metadata: Luks2Metadata;
}

const GOOD = 'good';

/** A header as found in a file. */
export interface FoundHeader {
  header: Luks2Header;
  from: CopyName;
  /** Each copy's state in words: `good`, `bad checksum`, `older than the other copy` ... */
  copies: Readonly<Record<CopyName, string>>;
  /**
   * The copy that `repairHeader` should rewrite. Undefined if both are whole and equally new (also if they differ:
   * nobody can tell which is right), or if something else is at its position.
   */
  stale: CopyName | undefined;
}

/** A header that was just written, as reading it back would return it. */
export const intactHeader = (header: Luks2Header): FoundHeader => ({
  header,
  from: 'primary',
  copies: { primary: GOOD, secondary: GOOD },
  stale: undefined,
});

/** The largest header: two copies of the largest size. A reader needs no more than this. */
export const HEADER_BYTES_MAX = 2 * Math.max(...LUKS2_HEADER_SIZES);

/**
 * The sequence number of a header's next version: after 2^64 - 1 comes 0, as cryptsetup counts. While one copy still
 * has the old number, that copy is the header, as if the new version had not been written.
 */
export const nextSequence = ({ sequence }: BinaryHeader): bigint => BigInt.asUintN(64, sequence + 1n);

/**
 * One copy of the header with its own salt, to be written at offset 0 (secondary: at `copyBytes`).
 *
 * @throws {VolsealError} `ERR_ARGUMENT` if something does not fit, or if `decodeHeader` would not accept the copy
 */
export function encodeHeaderCopy(header: Luks2Header, name: CopyName): Buffer {
  const copy = encodeCopy(header, name, JSON.stringify(header.metadata));
  try {
    parseMetadata(copy.subarray(BINARY_HEADER_BYTES));
  } catch (cause) {
    if (!(cause instanceof VolsealError)) throw cause;
    throw new VolsealError('ERR_ARGUMENT', `LUKS2 header to write: ${cause.message}`, { cause });
  }
  return copy;
}

/**
 * Both copies, one behind the other: `2 * header.copyBytes` bytes for the start of the file.
 *
 * @throws {VolsealError} `ERR_ARGUMENT` as `encodeHeaderCopy`
 */
export function encodeHeader(header: Luks2Header): Buffer {
  return Buffer.concat([encodeHeaderCopy(header, 'primary'), encodeHeaderCopy(header, 'secondary')]);
}

/**
 * Finds the header in the first bytes of a file: the newest valid copy, the primary if both are equally new. Without a
 * valid primary, the secondary is searched at every offset that the specification allows.
 *
 * This checks for accidents only: anybody who can write the file can write a valid header. `verifyHeader` proves who
 * wrote it.
 *
 * @param area the file's first `HEADER_BYTES_MAX` bytes, or all it has
 * @param path the file, for messages
 * @throws {VolsealError} `ERR_NOT_A_VOLUME` no copy has its magic; `ERR_HEADER_DAMAGED` no copy is good
 * (`details.copies`)
 */
export function decodeHeader(area: Buffer, path: string): FoundHeader {
  const primary = tryCopy(area, 0, 'primary');
  // Before the secondary is used: an older LUKS2 header may have left one behind.
  if (primary.present && headerVersion(area) === 1) throw notAVolume(area, path);
  const secondary = findSecondary(area, primary.header);
  if (primary.header === undefined && secondary.header === undefined) {
    if (!primary.present && !secondary.present) throw notAVolume(area, path);
    const copies = { primary: primary.state, secondary: secondary.state };
    throw new VolsealError(
      'ERR_HEADER_DAMAGED',
      `${path}: neither copy of the LUKS2 header is good (primary: ${copies.primary}; secondary: ${copies.secondary})`,
      { details: { path, copies } },
    );
  }
  const found = choose(primary, secondary);
  const other = primary.present ? undefined : foreignContent(area);
  // Somebody may have put something else over the start of the volume: a repair would destroy that.
  return other === undefined ? found : { ...found, copies: { ...found.copies, primary: `overwritten by ${other}` }, stale: undefined };
}

/**
 * The header in `area`, if both copies are in it, good and equal: then nothing behind `area` can change the result of
 * `decodeHeader`. Otherwise undefined.
 */
export function decodeIntactHeader(area: Buffer): FoundHeader | undefined {
  const primary = tryCopy(area, 0, 'primary');
  if (primary.header === undefined) return undefined;
  const found = choose(primary, findSecondary(area, primary.header));
  return found.stale === undefined ? found : undefined;
}

interface Copy {
  present: boolean;
  state: string;
  header: Luks2Header | undefined;
}

function choose(primary: Copy, secondary: Copy): FoundHeader {
  const copies = { primary: primary.state, secondary: secondary.state };
  if (primary.header === undefined) return { header: secondary.header!, from: 'secondary', copies, stale: 'primary' };
  if (secondary.header === undefined) return { header: primary.header, from: 'primary', copies, stale: 'secondary' };
  const older = 'older than the other copy';
  if (secondary.header.sequence > primary.header.sequence) {
    return { header: secondary.header, from: 'secondary', copies: { ...copies, primary: older }, stale: 'primary' };
  }
  if (secondary.header.sequence < primary.header.sequence) {
    return { header: primary.header, from: 'primary', copies: { ...copies, secondary: older }, stale: 'secondary' };
  }
  if (!sameContent(primary.header, secondary.header)) {
    const differs = 'differs from the primary copy of the same sequence number';
    return { header: primary.header, from: 'primary', copies: { ...copies, secondary: differs }, stale: undefined };
  }
  return { header: primary.header, from: 'primary', copies, stale: undefined };
}

function sameContent(one: Luks2Header, other: Luks2Header): boolean {
  const content = ({ uuid, label, subsystem, metadata }: Luks2Header): string => JSON.stringify([uuid, label, subsystem, metadata]);
  return content(one) === content(other);
}

/** Whether both are headers of the same data: with the same data keys, and the same place and form of it. */
export function describeSameData(one: Luks2Header, other: Luks2Header): boolean {
  const ofData = ({ metadata, copyBytes }: Luks2Header): string =>
    JSON.stringify([copyBytes, metadata.segments, Object.values(dataDigests(metadata))]);
  return ofData(one) === ofData(other);
}

function findSecondary(area: Buffer, primary: Luks2Header | undefined): Copy {
  if (primary !== undefined) return tryCopy(area, primary.copyBytes, 'secondary');
  const found = LUKS2_HEADER_SIZES.map((size) => tryCopy(area, size, 'secondary'));
  return (
    found.find(({ header }) => header !== undefined) ??
    found.find(({ present }) => present) ?? { present: false, state: 'not at any offset that a secondary copy may have', header: undefined }
  );
}

function tryCopy(area: Buffer, offsetBytes: number, name: CopyName): Copy {
  const present = carriesMagic(area, offsetBytes, name);
  try {
    const { header, jsonArea } = decodeCopy(area, offsetBytes, name);
    return { present, state: GOOD, header: { ...header, metadata: parseMetadata(jsonArea) } };
  } catch (error) {
    if (!(error instanceof VolsealError)) throw error;
    return { present, state: error.message, header: undefined };
  }
}

const LOOKS: readonly { name: string; at: number; magic: Buffer }[] = [
  { name: 'a qcow2 image (convert it first: qemu-img convert -O raw)', at: 0, magic: Buffer.from('QFI\xfb', 'latin1') },
  { name: 'a VMDK image (convert it first: qemu-img convert -O raw)', at: 0, magic: Buffer.from('KDMV') },
  { name: 'a gzip file', at: 0, magic: Buffer.from('1f8b', 'hex') },
  { name: 'an xz file', at: 0, magic: Buffer.from('fd377a585a00', 'hex') },
  { name: 'a zstd file', at: 0, magic: Buffer.from('28b52ffd', 'hex') },
  { name: 'a raw disk image with a partition table', at: 510, magic: Buffer.from('55aa', 'hex') },
  { name: 'a raw ext2/3/4 file system', at: 1080, magic: Buffer.from('53ef', 'hex') },
];

function notAVolume(area: Buffer, path: string): VolsealError {
  const kind = isLuks1(area) ? { kind: 'LUKS1' } : {};
  return new VolsealError('ERR_NOT_A_VOLUME', `${path}: not a LUKS2 volume: ${appearance(area)}`, { details: { path, ...kind } });
}

/**
 * What else than a LUKS header the first bytes of a file look like, in words; undefined where nothing is recognised.
 */
export function foreignContent(area: Buffer): string | undefined {
  return LOOKS.find(({ at, magic }) => area.subarray(at, at + magic.length).equals(magic))?.name;
}

/** Of an area that `readHeader` refuses: a LUKS2 header begins alike. */
const isLuks1 = (area: Buffer): boolean => area.length > 0 && carriesMagic(area, 0, 'primary');

function appearance(area: Buffer): string {
  if (area.length === 0) return 'the file is empty';
  if (isLuks1(area)) return 'it has a LUKS1 header; once cryptsetup has converted that, volseal adopt takes the volume';
  const content = foreignContent(area);
  if (content !== undefined) return `it looks like ${content}`;
  if (area.length < EMBEDDED_DATA_OFFSET_BYTES) return `no header in its ${area.length} bytes`;
  if (area.equals(Buffer.alloc(area.length))) return 'it begins with zeros';
  return 'it has no header (if the header is in a file of its own, name that file)';
}
