/**
 * Names that files have beside their place until they are whole, or until their successor is; and what killed runs leave under such names.
 * The files of one job, a volume and its detached header, share the job's name.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readdir, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { namingPath } from '../errors.js';
import { native } from '../native.js';
import { partialPath } from './partial.js';

const JOB_NAME = /^[0-9a-f]{12}$/;

/** What the temporary files of one job are named by: twelve hexadecimal digits. */
export const newJobName = (): string => randomBytes(6).toString('hex');

/** @param place free of symbolic links @param job as `newJobName` makes it */
export const temporaryPath = (place: string, job: string): string => beside(place, `${job}.partial`);

/** What stood in a place, while it is not sure yet that its successor stays. @param temporary the successor's name until then */
export const backupPath = (temporary: string): string => `${temporary}.old`;

const beside = (place: string, suffix: string): string => join(dirname(place), `.${basename(place)}.${suffix}`);

/** The temporary files beside `place` that earlier runs for this target may have left when they were killed: their paths. @throws {VolsealError} `ERR_IO` */
export async function leftoversOf(place: string): Promise<string[]> {
  return (await jobsBeside(place, '.partial')).map((job) => temporaryPath(place, job));
}

/** A pair of files of which a killed run may have replaced the one and not the other. */
export interface ReplacedPair {
  /** What stood in the first one's place. */
  backup: string;
  /** What was to come into the second one's. */
  successor: string;
  /** Whether the same job can go on. */
  resumable: boolean;
}

/** Lets go of what killed runs kept of `first`, once it and its `second` are new. Never throws: a leftover takes nothing from that. */
export async function forgetReplacedPairs(first: string, second: string): Promise<void> {
  for (const { backup, successor } of await replacedPairs(first, second).catch(() => [])) {
    if (await isHeld(successor)) continue;
    await unlink(backup).catch(() => {});
  }
}

/** Whether a run is at work on it. */
async function isHeld(path: string): Promise<boolean> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    native.fileLock(file.fd, true);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

/** The pairs of which `first` may be in its place without its `second`. @throws {VolsealError} `ERR_IO` */
export async function replacedPairs(first: string, second: string): Promise<ReplacedPair[]> {
  const jobs = await jobsBeside(first, '.partial.old');
  const pairs = jobs.map((job) => ({
    backup: backupPath(temporaryPath(first, job)),
    successor: temporaryPath(second, job),
    resumable: false,
  }));
  return [...pairs, { backup: backupPath(partialPath(first)), successor: partialPath(second), resumable: true }];
}

async function jobsBeside(place: string, suffix: string): Promise<string[]> {
  const names = await namingPath(place, () => readdir(dirname(place)));
  const prefix = `.${basename(place)}.`;
  return names
    .filter((name) => name.startsWith(prefix) && name.endsWith(suffix))
    .map((name) => name.slice(prefix.length, -suffix.length))
    .filter((job) => JOB_NAME.test(job));
}

/** A younger one may have been made a moment ago and not be locked yet. */
const LEFTOVER_AGE_MS = 60_000;

/** Removes temporary files that are old and that nobody holds. @throws {VolsealError} `ERR_IO` */
export async function removeLeftovers(place: string): Promise<void> {
  for (const leftover of await leftoversOf(place)) {
    try {
      await using file = await open(leftover, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      const found = await file.stat();
      if (!found.isFile() || Date.now() - found.mtimeMs < LEFTOVER_AGE_MS) continue;
      native.fileLock(file.fd, true);
      await unlink(leftover);
    } catch {
      // In use, gone already, or not ours to remove: it costs room, not this run.
    }
  }
}
