/** `volseal densify`: a sparse volume into a full one. */
import { Command } from 'commander';
import type { DensifiedVolume } from '../../jobs/densify.js';
import {
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  withAllowNoLock,
  withExistingVolume,
  withProgress,
} from '../options.js';
import { withExamples } from '../terminal/output.js';
import { reportProgress } from '../terminal/progress.js';
import { exactSize } from '../terminal/sizes.js';

/** The command; `session` is what it runs with. */
export function densifyCommand({ output, signal }: Session): Command {
  const command = new Command('densify')
    .description('fill the holes of a sparse volume in place, so that nobody can see which sectors are in use; its contents stay the same')
    .argument('<volume>', 'the volume');
  withProgress(withAllowNoLock(withExistingVolume(command)));
  withExamples(command, ['volseal densify disk.vol']);
  return command.action(async (volume: string, flags: ExistingVolumeFlags & { progress?: boolean }) => {
    const { densifyVolume } = await import('../../jobs/densify.js');
    const progress = reportProgress(output, flags.progress === true, signal);
    const options = { ...existingVolumeOptions(flags, output), signal, onProgress: progress.onProgress };
    const full = await densifyVolume(volume, options).finally(progress.end);
    output.result(full, [`${volume} (${full.volumeId}) ${outcome(full)}, ${exactSize(full.sizeBytes)}`]);
  });
}

function outcome({ wasSparse, hadHoles }: DensifiedVolume): string {
  if (wasSparse) return 'is full now: every sector is written';
  if (hadHoles) return 'is full again: it had holes, whose contents were gone; they read as zeros now';
  return 'was full already: nothing was changed';
}
