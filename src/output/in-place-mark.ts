/**
 * The name of the journal beside an image that is being encrypted, decrypted or re-encrypted in place. While it is
 * there, the image is neither what it was nor what it will be, and only src/in-place opens it.
 */
import { lstat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Directory } from '../directory-entry.js';
import { VolsealError } from '../errors.js';
import { ifThere } from './named-file.js';

const ENDING = '.in-place';

/** The jobs in place, by the commands that begin them. */
export const IN_PLACE_KINDS = ['encrypt', 'decrypt', 'reencrypt'] as const;
export type InPlaceKind = (typeof IN_PLACE_KINDS)[number];

/** The usual name of the journal for an image `name`, in the same directory. */
export const inPlaceJournalName = (name: string): string => `.${basename(name)}${ENDING}`;

const ROOT = 0n;

/**
 * Refuses an image beside which a journal is. A journal of somebody else than the image's owner, the caller and root is
 * none.
 * @param owner uid of the image's owner
 * @throws {VolsealError} `ERR_STATE_INTERRUPTED`, with `details.journal`; `ERR_IO`
 */
export async function refuseInPlace(directory: Directory, name: string, path: string, owner: bigint): Promise<void> {
  const journal = join(directory.path, inPlaceJournalName(name));
  const found = await ifThere(journal, () => lstat(directory.at(inPlaceJournalName(name)), { bigint: true }));
  const owners = [owner, BigInt(process.geteuid!()), ROOT];
  if (found?.isFile() !== true || !owners.includes(found.uid)) return;
  throw inTheMiddle(path, journal);
}

/**
 * The error for an image in the middle of a job.
 * @param kind the job, where it is known
 */
export function inTheMiddle(path: string, journal: string | undefined, kind?: InPlaceKind): VolsealError {
  const where = journal === undefined ? '' : ` (journal: ${journal})`;
  const what = kind === undefined ? 'being encrypted, decrypted or re-encrypted' : DOING[kind];
  return new VolsealError(
    'ERR_STATE_INTERRUPTED',
    `${path}: is in the middle of ${what} in place${where}; finish that first, or take it back`,
    {
      details: { path, inPlace: true, ...(journal === undefined ? {} : { journal }), ...(kind === undefined ? {} : { kind }) },
    },
  );
}

const DOING: Readonly<Record<InPlaceKind, string>> = {
  encrypt: 'being encrypted',
  decrypt: 'being decrypted',
  reencrypt: 'being re-encrypted',
};
