/**
 * A file that comes to be all at once or not at all: written under another name beside its place, flushed, then renamed. Whatever happens
 * before `publish`, the place holds what it held.
 *
 * That other name is a random one, and goes when the job fails; or, for a job that is to be resumed, one that the next run finds.
 */
import { constants } from 'node:fs';
import { type FileHandle, link, open, rename, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from '../directories.js';
import { asVolsealError, namingPath, VolsealError, withPath } from '../errors.js';
import { native } from '../native.js';
import { openDeviceTarget } from './device.js';
import { checkpointPath, openPartial, partialPath } from './partial-file.js';
import { checkTarget, holdExisting, ifThere, type Place, targetExists } from './resolve-target.js';
import type { OpenTargetWish, TargetFile } from './target.js';
import { backupPath, removeLeftovers, temporaryPath } from './temporary-files.js';

/**
 * Opens a target: a block device itself, else a file beside its place.
 * @throws {VolsealError} as `checkTarget`; `ERR_STATE_BUSY` another run is at work on the same resumable job; `ERR_RESUME`; `ERR_ARGUMENT` a
 * device that is to be resumed
 */
export async function openTarget(path: string, wish: OpenTargetWish): Promise<TargetFile> {
  const place = await checkTarget(path, wish);
  if (place.isDevice) return openDeviceTarget(path, place, wish);
  await removeLeftovers(place.path);
  if (!wish.resume) await tellOfPartial(place.path, wish);
  const temporary = wish.resume ? partialPath(place.path) : temporaryPath(place.path);
  const file = wish.resume
    ? await openPartial(temporary)
    : await namingPath(path, () => open(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600));
  const hasBegun = wish.resume === true && (await file.stat()).size > 0;
  const target = targetBeside(path, place, temporary, file, hasBegun, wish);
  try {
    // Tells a file that is being written from one that a killed process left behind.
    if (!wish.resume) native.fileLock(file.fd, true);
    if (wish.force && (await ifThere(path, () => stat(place.path))) !== undefined) await target.holdOld();
  } catch (error) {
    await target[Symbol.asyncDispose]();
    throw withPath(error, path);
  }
  return target;
}

function targetBeside(
  path: string,
  place: Place,
  temporary: string,
  file: FileHandle,
  hasBegun: boolean,
  { force, fsync, onWarning }: OpenTargetWish,
): TargetFile & { holdOld(): Promise<void> } {
  let published = false;
  let kept = hasBegun;
  let old: FileHandle | undefined;
  const putInPlace = async (): Promise<void> => {
    if (fsync) await namingPath(path, () => file.sync());
    if (force) await namingPath(path, () => rename(temporary, place.path));
    else await publishNew(temporary, place.path, path, onWarning);
    published = true;
    if (fsync) await syncDirectory(dirname(place.path));
  };
  return {
    path,
    place,
    file,
    openPath: temporary,
    hasBegun,
    get isPublished() {
      return published;
    },
    async begin() {
      kept = false;
      await namingPath(path, () => file.truncate(0));
    },
    async flush() {
      if (fsync) await namingPath(path, () => file.datasync());
    },
    keepForResume() {
      kept = true;
    },
    /** Held to the end, so that nobody attaches for writing what is about to be replaced. */
    async holdOld() {
      old = await holdExisting(place.path, path);
    },
    async publish() {
      try {
        await putInPlace();
      } catch (error) {
        throw published ? notLasting(path, error) : error;
      }
    },
    async publishUndoably() {
      const backup = backupPath(temporary);
      const replaces = force && (await ifThere(path, () => stat(place.path))) !== undefined;
      if (replaces) await namingPath(path, () => link(place.path, backup));
      const undo = async (): Promise<void> => {
        try {
          await takeBack(place.path, temporary, replaces);
        } catch (error) {
          throw notUndone(path, replaces ? backup : undefined, error);
        }
        published = false;
      };
      try {
        await putInPlace();
      } catch (error) {
        if (published) await undo();
        else if (replaces) await unlink(backup);
        throw error;
      }
      const keep = async (): Promise<void> => {
        if (replaces)
          await unlink(backup).catch(() => onWarning?.(`${backup}: the file that was replaced could not be removed: remove it`));
      };
      return { undo, keep };
    },
    explained(error) {
      return kept && !published ? keptForResume(error, temporary) : error;
    },
    async [Symbol.asyncDispose]() {
      await old?.close().catch(() => {});
      if (!published && !kept) await unlink(temporary).catch(() => {});
      await file.close().catch(() => {});
    },
  };
}

/** Undoes a publication: the new file has its temporary name again, where a job that is to be resumed looks for it. @param hasBackup of what it replaced */
export async function takeBack(place: string, temporary: string, hasBackup: boolean): Promise<void> {
  if (!hasBackup) return rename(place, temporary);
  // The place is never empty. A killed run may have come as far as this.
  await unlink(temporary).catch(() => {});
  await link(place, temporary);
  await rename(backupPath(temporary), place);
}

/** Puts a file where nothing is. Unlike rename, link never replaces what has appeared in the meantime. */
async function publishNew(temporary: string, place: string, path: string, onWarning: OpenTargetWish['onWarning']): Promise<void> {
  try {
    await link(temporary, place);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw targetExists(path);
    if (!NO_HARD_LINKS.has(code)) throw asVolsealError(error, path);
    await checkTarget(path, { force: false });
    await namingPath(path, () => rename(temporary, place));
    return;
  }
  // The file is where it belongs, whatever becomes of its other name.
  await unlink(temporary).catch(() => onWarning?.(`${temporary}: could not be removed: it is a second name of ${path}; remove it`));
}

/** What link(2) says on a file system without hard links: FAT, some network file systems. */
const NO_HARD_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

function notLasting(path: string, error: unknown): unknown {
  if (!(error instanceof VolsealError)) return error;
  return new VolsealError(
    error.code,
    `${path}: is whole and in its place, but its folder could not be flushed: a power cut may bring back what was there before (${error.message})`,
    { cause: error, details: { ...error.details, path, published: true } },
  );
}

function notUndone(path: string, backup: string | undefined, error: unknown): unknown {
  const converted = asVolsealError(error, path);
  if (!(converted instanceof VolsealError)) return converted;
  const old = backup === undefined ? 'remove it' : `what it replaced is ${backup}: rename that back`;
  return new VolsealError(
    converted.code,
    `${path}: belongs to a volume that is not in its place, and could not be taken back: ${old} (${converted.message})`,
    {
      cause: error,
      details: converted.details,
    },
  );
}

function keptForResume(error: unknown, partial: string): unknown {
  if (!(error instanceof VolsealError) || error.code === 'ERR_RESUME') return error;
  const message = error.code === 'ERR_ABORTED' ? 'stopped on request' : error.message;
  return new VolsealError(error.code, `${message}; what was done is kept in ${partial}`, {
    cause: error.cause,
    details: { ...error.details, partial },
  });
}

async function tellOfPartial(place: string, { onWarning }: OpenTargetWish): Promise<void> {
  const partial = partialPath(place);
  if (onWarning === undefined || (await ifThere(partial, () => stat(partial))) === undefined) return;
  onWarning(`${partial} holds what an interrupted run has done: --resume goes on with it; else remove it and ${checkpointPath(place)}`);
}
