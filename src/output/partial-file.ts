/**
 * The file that a resumable job writes to: `.NAME.resume` in the directory of its target, and its checkpoint
 * `.NAME.resume.json`. The run that holds its lock owns both.
 *
 * In a directory that others may write to, another user may have taken these names. Then random ones are used, which a
 * later run finds: `.NAME.RANDOM.resume`, and the same with `.RANDOM.json`. What is not this user's own is never read,
 * and blocks nobody.
 */
import { randomBytes } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { lstat, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Directory } from '../directory-entry.js';
import { VolsealError } from '../errors.js';
import { ifThere, NamedFile } from './named-file.js';

/** The usual name of the partial file for a target `name`. */
export const partialName = (name: string): string => `.${name}.resume`;

/** Whether `name` is one of a partial file for `target`. */
export const isPartialName = (name: string, target: string): boolean => isOneOf(name, `.${target}`, '.resume');

/**
 * The name of the partial file for `target`: one that this user's interrupted run has left, or a new one. @throws
 * {VolsealError} `ERR_IO`
 */
export const choosePartialName = (directory: Directory, target: string): Promise<string> => chooseName(directory, `.${target}`, '.resume');

/** The same for a record beside it, of the partial file or of a part of it. @throws {VolsealError} `ERR_IO` */
export const chooseRecordName = (directory: Directory, stem: string): Promise<string> => chooseName(directory, stem, '.json');

/** The same, and whether such a record of this user's is there. @throws {VolsealError} `ERR_IO` */
export const findRecord = (directory: Directory, stem: string): Promise<OwnName> => findName(directory, stem, '.json');

/** A name that this user may use. */
interface OwnName {
  readonly name: string;
  /** Whether a file of this user's has it. */
  readonly isThere: boolean;
}

const isOneOf = (name: string, stem: string, ending: string): boolean =>
  name === stem + ending ||
  (name.startsWith(`${stem}.`) && name.endsWith(ending) && /^\.[0-9a-f]{12}$/.test(name.slice(stem.length, -ending.length)));

/**
 * The name of this user's own file `stem` + `ending` in a directory that others may write to: the one that is there, or
 * one that nobody has taken. @throws {VolsealError} `ERR_IO`
 */
export const chooseName = async (directory: Directory, stem: string, ending: string): Promise<string> =>
  (await findName(directory, stem, ending)).name;

async function findName(directory: Directory, stem: string, ending: string): Promise<OwnName> {
  const usual = stem + ending;
  const found = await lookAt(directory, usual);
  if (found !== undefined && (await isOwnFile(directory, found))) return { name: usual, isThere: true };
  // Nobody else can have taken it. A list of the names takes the longer, the more images the directory has.
  if (found === undefined && directory.isPrivate) return { name: usual, isThere: false };
  const taken = (await directory.names()).filter((name) => isOneOf(name, stem, ending)).sort((one, other) => one.length - other.length);
  for (const name of taken) if (await isOwn(directory, name)) return { name, isThere: true };
  return { name: taken.includes(usual) ? `${stem}.${randomBytes(6).toString('hex')}${ending}` : usual, isThere: false };
}

/** Whether a later run of this user may use it; another user's link is not this user's. */
export async function isOwn(directory: Directory, name: string): Promise<boolean> {
  const found = await lookAt(directory, name);
  return found !== undefined && (await isOwnFile(directory, found));
}

const lookAt = (directory: Directory, name: string): Promise<BigIntStats | undefined> =>
  ifThere(join(directory.path, name), () => lstat(directory.at(name), { bigint: true }));

const isOwnFile = async (directory: Directory, found: BigIntStats): Promise<boolean> =>
  found.isFile() && (await isOwner(directory, found.uid));

/**
 * Whether files of this process have the owner `uid` in the directory: a shared file system may give them another one
 * (NFS with `all_squash`), the same on every machine.
 */
async function isOwner(directory: Directory, uid: bigint): Promise<boolean> {
  if (uid === BigInt(process.geteuid!())) return true;
  // Only a file that is made here tells; where none can be made, there is nothing to go on with either.
  const path = directory.at(`.volseal-owner.${randomBytes(6).toString('hex')}`);
  try {
    await using file = await NamedFile.open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
    return (await file.stat()).uid === uid;
  } catch {
    return false;
  } finally {
    await rm(path, { force: true }).catch(() => {});
  }
}

/**
 * Opens and locks what an interrupted run has left, or makes it.
 * @throws {VolsealError} `ERR_STATE_BUSY` another run works on it; `ERR_RESUME` other users may write to it; `ERR_IO`
 */
export function openPartial(directory: Directory, name: string): Promise<NamedFile> {
  return openOwnFile(directory, name, constants.O_CREAT, 'always', (why) => cannotResume(join(directory.path, name), why));
}

/**
 * Opens what another run has left, to write a part of it beside others; the lock keeps away whoever would publish it,
 * or begin it anew, until the file is closed.
 * @throws {VolsealError} `ERR_IO` (`details.errno` is `ENOENT` where there is none); as `openPartial`
 */
export function openSharedPartial(directory: Directory, name: string): Promise<NamedFile> {
  return openOwnFile(directory, name, 0, 'shared', (why) => cannotResume(join(directory.path, name), why));
}

/**
 * Opens for reading and writing, and locks, a file that only this user can change.
 * @param create `constants.O_CREAT` to make a missing file; 0: a missing file is an `ERR_IO`
 * @param notOwn makes the error for a file that others can write to
 * @param lock `always` alone; `shared` with others who share it; `ifPossible` alone, and goes on where the file system
 * has no locks; `none` where another lock keeps others away
 * @throws {VolsealError} `ERR_STATE_BUSY` another run holds it; what `notOwn` makes; `ERR_IO`
 */
export async function openOwnFile(
  directory: Directory,
  name: string,
  create: number,
  lock: 'always' | 'shared' | 'ifPossible' | 'none',
  notOwn: (why: string) => VolsealError,
): Promise<NamedFile> {
  const path = join(directory.path, name);
  const file = await openPrivate(directory, name, create, notOwn);
  try {
    if (lock === 'always') file.lock('exclusive');
    else if (lock === 'shared') file.lock('shared');
    else if (lock === 'ifPossible') file.lockIfPossible('exclusive');
    const found = await file.stat();
    // In a directory that others may write to, somebody may have made the file, to read or to change what is written to
    // it.
    if (!found.isFile() || !(await isOwner(directory, found.uid)) || (found.mode & 0o077n) !== 0n || found.nlink > 1n) {
      throw notOwn(`it is not a file of this user alone (its owner has uid ${found.uid}; wanted are mode 0600 and a single name)`);
    }
    // The run that held it may have published or removed it in the meantime.
    if (!(await file.isAt(directory.at(name), found))) throw inUse(path);
    return file;
  } catch (error) {
    await file.close();
    if (error instanceof VolsealError && error.code === 'ERR_STATE_BUSY') throw inUse(path, error);
    throw error;
  }
}

/** Another user's file cannot be opened, or its lock is held for ever: who made it says more than either. */
async function openPrivate(directory: Directory, name: string, create: number, notOwn: (why: string) => VolsealError): Promise<NamedFile> {
  const found = await lookAt(directory, name);
  if (found !== undefined && !(await isOwner(directory, found.uid))) throw notOwn(`it belongs to another user (uid ${found.uid})`);
  return NamedFile.openIn(directory, name, constants.O_RDWR | create);
}

const inUse = (path: string, cause?: unknown): VolsealError =>
  new VolsealError('ERR_STATE_BUSY', `${path}: another run is at work on this job`, { cause, details: { path } });

/** @param partial the file that an interrupted run has left @param why what does not fit, and what was expected */
export function cannotResume(partial: string, why: string): VolsealError {
  return new VolsealError(
    'ERR_RESUME',
    `${partial}: the interrupted job cannot be resumed: ${why}; remove this file and ${partial}.json, or run without --resume`,
    { details: { path: partial } },
  );
}
