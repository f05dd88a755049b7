/**
 * The name of the journal beside an image that is being encrypted, decrypted or re-encrypted in place. While it is
 * there, the image is neither what it was nor what it will be, and only src/in-place opens it. Where the journal is
 * elsewhere, a symbolic link of that name leads to it.
 */
import { lstat, readlink, rm, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Directory, findEntry } from '../directory-entry.js';
import { namingPath, VolsealError } from '../errors.js';
import { ifThere } from './named-file.js';

const ENDING = '.in-place';

/** The jobs in place, by the commands that begin them. */
export const IN_PLACE_KINDS = ['encrypt', 'decrypt', 'reencrypt'] as const;
export type InPlaceKind = (typeof IN_PLACE_KINDS)[number];

/** The usual name of the journal for an image `name`, in the same directory. */
export const inPlaceJournalName = (name: string): string => `.${basename(name)}${ENDING}`;

/** Whether a name may be that of a journal. */
export const isInPlaceJournalName = (name: string): boolean => name.startsWith('.') && name.endsWith(ENDING);

const ROOT = 0n;

/**
 * Refuses an image beside which a journal is. A journal of somebody else than the image's owner, the caller and root is
 * none.
 * @param owner uid of the image's owner
 * @throws {VolsealError} `ERR_STATE_INTERRUPTED`, with `details.journal`; `ERR_IO`
 */
export async function refuseInPlace(directory: Directory, name: string, path: string, owner: bigint): Promise<void> {
  const mark = inPlaceJournalName(name);
  const journal = join(directory.path, mark);
  const found = await ifThere(journal, () => lstat(directory.at(mark), { bigint: true }));
  const owners = [owner, BigInt(process.geteuid!()), ROOT];
  if (found === undefined || !(found.isFile() || found.isSymbolicLink()) || !owners.includes(found.uid)) return;
  throw inTheMiddle(path, (found.isSymbolicLink() && (await leadsTo(directory, mark))) || journal);
}

/** Where the link leads, undefined where there is none. */
async function leadsTo(directory: Directory, mark: string): Promise<string | undefined> {
  const target = () =>
    readlink(directory.at(mark)).catch((error: NodeJS.ErrnoException) => (error.code === 'EINVAL' ? undefined : Promise.reject(error)));
  return await ifThere(mark, target);
}

/**
 * Leaves a link beside an image to its journal, which is elsewhere: nothing in the image itself says that `encrypt` is
 * in the middle of it. What is there already stays.
 * @param journal its real path @throws {VolsealError} `ERR_IO` the directory cannot be written to, or knows no links
 */
export async function markJournal(imagePath: string, journal: string): Promise<void> {
  await using entry = await findEntry(imagePath, 'write');
  const { directory } = entry;
  const mark = inPlaceJournalName(entry.name);
  const path = join(directory.path, mark);
  if (path === journal || (await ifThere(path, () => lstat(directory.at(mark)))) !== undefined) return;
  await namingPath(path, () => symlink(journal, directory.at(mark)));
  await directory.sync();
}

/**
 * Removes that link, once the job is done: whatever it leads to, the journal was perhaps moved meanwhile.
 * @throws {VolsealError} `ERR_IO`
 */
export async function unmarkJournal(imagePath: string): Promise<void> {
  await using entry = await findEntry(imagePath, 'write');
  const { directory } = entry;
  const mark = inPlaceJournalName(entry.name);
  if ((await leadsTo(directory, mark)) === undefined) return;
  await namingPath(join(directory.path, mark), () => rm(directory.at(mark), { force: true }));
  await directory.sync();
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
