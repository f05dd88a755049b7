/**
 * What the header in a file says, for a look at it: of a volume, of a header without its data, and of LUKS2 volumes
 * that volseal does not attach. Needs no key and asks no KMS.
 */
import { constants } from 'node:fs';
import { isError, type VolsealError } from '../errors.js';
import type { FoundHeader } from '../luks2/header.js';
import type { Luks2Metadata } from '../luks2/metadata-object.js';
import { readHeader } from '../luks2/store.js';
import { openDataFile } from '../output/data-file.js';
import { isStored } from '../stores/location.js';
import { type DescribeOptions, describeVolume } from './describe.js';
import { describeHeader, type VolumeInfo } from './info.js';
import { claimsOf } from './volume-file.js';

/** What a header says whose data is elsewhere: a detached header, or the backup of one. */
export interface HeaderInfo extends VolumeInfo {
  headerOnly: true;
}

/** What the header of a LUKS2 volume says that volseal does not attach. */
export interface ForeignInfo {
  /** Why volseal does not attach it, in words. */
  notAttached: string;
  /** The file with the header. */
  path: string;
  /** UUID of the LUKS2 header. */
  uuid: string;
  /** A name for people; empty for none. */
  label: string;
  /** State of the two header copies, in words. */
  headerCopies: { primary: string; secondary: string };
  /** What a reader has to understand before it may open the volume. */
  requirements: string[];
  /** Ranges of the file that hold data. */
  segments: ForeignSegment[];
  /** Places of the volume key. */
  keyslots: ForeignKeyslot[];
}

/** A segment of a foreign volume. Null is what the header does not say. */
export interface ForeignSegment {
  /** Its LUKS2 name, a number. */
  segment: string;
  /** `crypt`, `linear` ... */
  type: string;
  /** The cipher by its LUKS2 name. */
  cipher: string | null;
  /** Bytes of a sector. */
  sectorBytes: number | null;
  /** Where it begins in its file; a decimal string, it may exceed 2^53. */
  offsetBytes: string;
  /** Its bytes, a decimal string; `dynamic`: to the end of the file. */
  sizeBytes: string;
  /** Whether sectors are authenticated, too. */
  integrity: boolean;
}

/** A keyslot of a foreign volume. */
export interface ForeignKeyslot {
  /** Its LUKS2 name, a number. */
  keyslot: string;
  /** `luks2` for a passphrase, `reencrypt` ... */
  type: string;
  /** Bytes of the key in it. */
  keyBytes: number;
  /** How a passphrase becomes a key: `argon2id`, `pbkdf2`; null where it does not. */
  kdf: string | null;
}

/** What no fault of the files is: another maker's volume. */
const FOREIGN: readonly unknown[] = ['ERR_HEADER_UNSUPPORTED', 'ERR_HEADER_TOKEN'];

/**
 * Describes whatever LUKS2 header is in the file. An object of a store is a volume of volseal's, or an error.
 *
 * @throws {VolsealError} as `describeVolume`, but for volumes that volseal does not attach
 */
export async function describeAny(path: string, options: DescribeOptions = {}): Promise<VolumeInfo | HeaderInfo | ForeignInfo> {
  if (isStored(path)) return describeVolume(path, options);
  try {
    return (options.header === undefined ? await describeHeaderAlone(path) : undefined) ?? (await describeVolume(path, options));
  } catch (error) {
    if (!isError(error) || !FOREIGN.includes((error as VolsealError).code)) throw error;
    return await describeForeign(options.header ?? path, error.message);
  }
}

/** Undefined where there is more in the file than a header. */
async function describeHeaderAlone(path: string): Promise<HeaderInfo | undefined> {
  await using file = await openDataFile(path, constants.O_RDONLY);
  const contents = claimsOf(await readHeader(file.handle, file.path), file.path);
  const { offsetBytes } = contents.segment;
  // Data at 0 is in another file; and a backup ends where the data of its volume begins.
  if (offsetBytes !== 0 && file.sizeBytes() > offsetBytes) return undefined;
  const info = describeHeader(contents, { path: file.path, header: file.path, allocatedBytes: null, hasHoles: null });
  return { ...info, headerOnly: true };
}

async function describeForeign(path: string, message: string): Promise<ForeignInfo> {
  await using file = await openDataFile(path, constants.O_RDONLY);
  const found = await readHeader(file.handle, file.path);
  return foreignInfo(found, file.path, message.startsWith(`${file.path}: `) ? message.slice(file.path.length + 2) : message);
}

function foreignInfo({ header, copies }: FoundHeader, path: string, notAttached: string): ForeignInfo {
  const { uuid, label, metadata } = header;
  const { mandatory = [], ...others } = metadata.config.requirements ?? {};
  return {
    notAttached,
    path,
    uuid,
    label,
    headerCopies: { ...copies },
    requirements: [...mandatory, ...Object.keys(others)],
    segments: Object.entries(metadata.segments).map(foreignSegment),
    keyslots: Object.entries(metadata.keyslots).map(foreignKeyslot),
  };
}

function foreignSegment([segment, value]: [string, Luks2Metadata['segments'][string]]): ForeignSegment {
  return {
    segment,
    type: value.type,
    cipher: typeof value.encryption === 'string' ? value.encryption : null,
    sectorBytes: typeof value.sector_size === 'number' ? value.sector_size : null,
    offsetBytes: value.offset,
    sizeBytes: value.size,
    integrity: value.integrity !== undefined,
  };
}

function foreignKeyslot([keyslot, value]: [string, Luks2Metadata['keyslots'][string]]): ForeignKeyslot {
  const { kdf } = value as { kdf?: { type?: unknown } };
  return { keyslot, type: value.type, keyBytes: value.key_size, kdf: typeof kdf?.type === 'string' ? kdf.type : null };
}
