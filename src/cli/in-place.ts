/** What `encrypt`, `decrypt` and `reencrypt` have in common where they work in place. */
import type { Command } from 'commander';
import { VolsealError } from '../errors.js';
import type { InPlaceOutcome } from '../in-place/job.js';
import { exactSize, pace } from './terminal/sizes.js';

export interface InPlaceFlags {
  inPlace?: boolean;
  undo?: boolean;
  journal?: string;
}

/** `--undo` and `--journal`. */
export const withJournal = (command: Command): Command =>
  command
    .option('--undo', 'in place: take an unfinished job back, so that the file is as it was')
    .option('--journal <file>', 'in place: the file for the journal (default: .NAME.in-place beside the image; a device has no default)');

/** `--journal`, of what attaches a volume. */
export const withUnfinished = (command: Command): Command =>
  command.option('--journal <file>', 'the journal of an unfinished job in place, where it is not beside the volume');

/** `--in-place`, `--undo` and `--journal`. @param target the argument that is left out then */
export const withInPlace = (command: Command, target: string): Command =>
  withJournal(
    command.option('--in-place', `change the file or device itself, through a journal; without ${target}. If interrupted, run it again`),
  );

/**
 * Whether the command works in place.
 * @param others flags that make no sense then, by their names
 * @param allowed flags of a job in place that make sense without it @throws {VolsealError} `ERR_ARGUMENT`
 */
export function worksInPlace(
  flags: InPlaceFlags,
  target: string | undefined,
  others: Readonly<Record<string, unknown>>,
  allowed: readonly (keyof InPlaceFlags)[] = [],
): boolean {
  if (flags.inPlace !== true) {
    const { undo, journal } = flags;
    const needless = undo ? '--undo' : journal === undefined || allowed.includes('journal') ? undefined : '--journal';
    if (needless !== undefined) throw new VolsealError('ERR_ARGUMENT', `${needless} is for jobs with --in-place`);
    return false;
  }
  if (target !== undefined) throw new VolsealError('ERR_ARGUMENT', `--in-place changes the file itself: leave ${target} out`);
  refuseTogether('--in-place', others);
  return true;
}

/**
 * @param others flags that make no sense with `option`, by their names
 * @throws {VolsealError} `ERR_ARGUMENT` one is set
 */
export function refuseTogether(option: string, others: Readonly<Record<string, unknown>>): void {
  const given = Object.entries(others).find(([, value]) => value !== undefined && value !== false);
  if (given !== undefined) throw new VolsealError('ERR_ARGUMENT', `${given[0]} cannot be combined with ${option}`);
}

/** @throws {VolsealError} `ERR_ARGUMENT` where a target is missing */
export function requiredTarget(target: string | undefined, name: string): string {
  if (target !== undefined) return target;
  throw new VolsealError('ERR_ARGUMENT', `missing required argument '${name}': name the one to make, or use --in-place`);
}

/** @param done "encrypted", for example */
export function inPlaceLines(done: string, { path, volumeId, imageBytes, undone, wasResumed, dataSeconds }: InPlaceOutcome): string[] {
  if (undone) return [`took back what was ${done} of ${path} (${volumeId}): it is as it was, ${exactSize(imageBytes)}`];
  // A run that continued another one has moved only a part.
  const moved = wasResumed ? exactSize(imageBytes) : `${exactSize(imageBytes)} ${pace(imageBytes, dataSeconds)}`;
  return [`${done} ${path} (${volumeId}) in place: ${moved}`];
}
