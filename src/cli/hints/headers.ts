/** What to do about a header, a backup of it, or its keyslots (hints.ts has the other hints). */
import type { ErrorDetails } from '../../errors.js';
import { shown } from '../terminal/text.js';

interface HeaderRequest {
  readonly details: ErrorDetails;
  readonly command: string;
}

/** The header in use may be the only one that opens the data: an older one must not simply replace it. */
export const KEEP_HEADER = 'Keep a copy of the header as it is (dd if=VOLUME of=COPY bs=1M count=16 conv=excl).';

/** Of `header restore`: what is wrong is wrong with the backup. */
const OTHER_BACKUP = 'The file that was named as the backup is none, or only a part of one: name another. Nothing was written.';

/** For `ERR_DATA_MISMATCH`. */
export function dataMismatchHint({ details, command }: HeaderRequest): string {
  const { header, isOldCopy, volumeId } = details;
  if (isOldCopy === true) return 'Leave out the option for the header: the volume has the header that belongs to its data.';
  if (command === 'adopt')
    return 'Name the data of this header; nothing was changed. If you know that it is, because the volume is empty or its contents are encrypted once more: --any-data';
  return `Name the header of this data, or the data of this header. Keep ${shown(header, 'HEADER')}: without it the data of ${volumeId ?? 'its volume'} is lost. Only if you know that the two belong together, and the image is random and was rewritten by other tools: --any-data`;
}

/** For `ERR_NOT_A_VOLUME`. */
export function notAVolumeHint({ details, command }: HeaderRequest): string {
  const { path, backup, isBackup } = details;
  const volume = shown(path, 'VOLUME');
  if (isBackup === true) return OTHER_BACKUP;
  if (details.kind === 'LUKS1') return luks1Hint(volume);
  if (command === 'header restore' && typeof backup === 'string')
    return `To see whether the backup fits, without a change: volseal decrypt ${volume} copy.raw --header ${shown(backup, 'BACKUP')}. If it does, restore it with --force.`;
  return `If its header is detached, name the header with --header FILE. If the header was lost and you have a backup: volseal header restore ${volume} BACKUP. If it is a raw image, encrypt it: volseal encrypt ${shown(path, 'IMAGE')} VOLUME`;
}

/** cryptsetup itself refuses a volume that is open, and a file for the backup that exists. */
const luks1Hint = (volume: string): string =>
  [
    'With a copy of its header, cryptsetup converts it:',
    `cryptsetup luksHeaderBackup ${volume} --header-backup-file ${volume}.luks1`,
    `cryptsetup convert --type luks2 ${volume}`,
    `volseal adopt ${volume} --passphrase-file FILE`,
  ].join('\n');

/** For `ERR_HEADER_DAMAGED`. */
export function headerDamagedHint({ details }: HeaderRequest): string {
  const { path, header, copies, isBackup } = details;
  if (isBackup === true) return OTHER_BACKUP;
  if (Object.values(copies ?? {}).includes('good'))
    return `Attaching for writing repairs it from the other copy: volseal write ${shown(path, 'VOLUME')}${header === undefined ? '' : ` --header ${shown(header, 'HEADER')}`} < /dev/null`;
  return `Keep a copy of the file as it is, then restore the header from a backup of this very volume: volseal header restore ${shown(path, 'VOLUME')} BACKUP. Nothing else tells which key the data has.`;
}

/** For `ERR_HEADER_UNSUPPORTED`. */
export const unsupportedHint = ({ details, command }: HeaderRequest): string =>
  command === 'adopt'
    ? `What is in it can be encrypted anew, as root: cryptsetup open ${shown(details.path, 'VOLUME')} NAME, then volseal encrypt /dev/mapper/NAME NEW_VOLUME.`
    : 'volseal reads LUKS2 with aes-xts-plain64 and one data segment. Open other volumes with cryptsetup.';

/** For `ERR_KEYSLOT`. */
export function keyslotHint({ details: { path, foreign }, command }: HeaderRequest): string {
  const volume = shown(path, 'VOLUME');
  if (command === 'adopt')
    return `cryptsetup luksDump ${volume} shows the keyslots. The file has the passphrase alone, or with one line end.`;
  return `volseal recovery list ${volume} shows the keyslots.${
    Array.isArray(foreign) && foreign.length > 0
      ? ' If you know who added the others: --any-keyslot tries them too. What volseal cannot open (Argon2, other hashes), cryptsetup open does.'
      : ' With KMS the volume opens without a recovery key.'
  }`;
}

/** For `ERR_KEY_DIGEST`. */
export function keyDigestHint({ details, command }: HeaderRequest): string {
  if (command === 'adopt') return 'Name the key of this very volume, or one of its passphrases: --passphrase-file FILE';
  if (Number(details.keyslots) > 0)
    return 'The volume has passphrases: it was perhaps re-encrypted with cryptsetup. Do not restore an older header, because that would make the data unreadable. A passphrase opens it: cryptsetup open VOLUME NAME';
  return `${KEEP_HEADER} Then restore the header from a backup of this very volume, made after its last re-encryption, and compare the data before you use it.`;
}
