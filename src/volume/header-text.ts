/** A LUKS2 header for a look at it: everything that its copies say, of any cipher and any maker. */
import { constants } from 'node:fs';
import { headerAreaBytes } from '../luks2/metadata.js';
import type { Luks2Metadata } from '../luks2/metadata-object.js';
import { readHeader } from '../luks2/store.js';
import { openDataFile } from '../output/data-file.js';

/** What is in a header. Nothing of it is proved. */
export interface HeaderText {
  /** The file. */
  path: string;
  /** UUID of the LUKS2 header. */
  uuid: string;
  /** A name for people; empty for none. */
  label: string;
  /** Which program the volume belongs to; empty for none. */
  subsystem: string;
  /** Grows with each change of the header; a decimal string, it may exceed 2^53. */
  sequence: string;
  /** State of the two copies, in words. */
  headerCopies: { primary: string; secondary: string };
  /** Bytes of both copies and of the room for keyslots. */
  areaBytes: number;
  /** The JSON area. */
  metadata: object;
}

/**
 * Reads the header of any LUKS2 volume, of a detached header or of a backup; needs no key and asks no KMS.
 *
 * @throws {VolsealError} `ERR_IO`, `ERR_ARGUMENT`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_DAMAGED`
 */
export async function readHeaderText(path: string): Promise<HeaderText> {
  await using file = await openDataFile(path, constants.O_RDONLY);
  const { header, copies } = await readHeader(file.handle, file.path);
  const { uuid, label, subsystem, sequence } = header;
  const metadata: Luks2Metadata = header.metadata;
  return {
    path,
    uuid,
    label,
    subsystem,
    sequence: String(sequence),
    headerCopies: { ...copies },
    areaBytes: headerAreaBytes(metadata),
    metadata,
  };
}
