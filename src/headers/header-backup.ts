/**
 * A copy of a volume's header in a file: whoever loses both copies of the header, and has no other, loses the volume.
 */

import { constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import { openDataFile } from '../output/data-file.js';
import { refuseHalfReplaced } from '../output/pair-journal.js';
import { readHeaderArea, writeHeaderFile } from '../volume/header-area.js';
import { claimsOf } from '../volume/volume-file.js';

/** Options of `backupHeader`. */
export interface BackupHeaderOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /** Replaces an existing backup, once the new one is complete. */
  force?: boolean | undefined;
}

/** What `backupHeader` made. */
export interface HeaderBackup {
  /** Path of the volume. */
  volume: string;
  /** Path of the backup. */
  backup: string;
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** UUID of the LUKS2 header. */
  uuid: string;
  /** Bytes of the backup. */
  sizeBytes: number;
}

/**
 * Copies the header of a volume, with its keyslots, into a file with mode 0600. Needs no key, asks no KMS, and works
 * while the volume is attached. Both copies are good in the backup, also where one of the volume's is damaged.
 *
 * The backup is a detached header: `header` of every other function takes it, and so does cryptsetup.
 *
 * @throws {VolsealError} `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_STATE_INTERRUPTED`, `ERR_TARGET_EXISTS`,
 * `ERR_ARGUMENT`, `ERR_IO`
 */
export async function backupHeader(volume: string, backup: string, options: BackupHeaderOptions = {}): Promise<HeaderBackup> {
  const { header: headerPath, force = false } = options;
  await using source = await openDataFile(headerPath ?? volume, constants.O_RDONLY);
  if (headerPath !== undefined) await refuseHalfReplaced(source, volume);
  if (await source.isAt(backup)) {
    throw new VolsealError('ERR_ARGUMENT', `${backup}: is the file with the header itself; name another file`, {
      details: { path: backup },
    });
  }
  const { found, area } = await readHeaderArea(source);
  const { volumeId } = claimsOf(found, source.path).token;
  await writeHeaderFile(backup, area, force, found.header.uuid);
  return { volume, backup, volumeId, uuid: found.header.uuid, sizeBytes: area.length };
}
