/** `volseal densify`: a sparse volume into a full one. */
import { Command } from 'commander';
import { type ExistingVolumeFlags, existingVolumeOptions, type Session, withExistingVolume, withProgress } from '../options.js';
import { withExamples } from '../output.js';
import { reportProgress } from '../progress.js';
import { exactSize } from '../sizes.js';

/** The command; `session` is what it runs with. */
export function densifyCommand({ output, signal }: Session): Command {
  const command = new Command('densify')
    .description('fill the holes of a sparse volume in place, so that nobody can see which sectors are in use; its contents stay the same')
    .argument('<volume>', 'the volume');
  withProgress(withExistingVolume(command));
  withExamples(command, ['volseal densify disk.vol']);
  return command.action(async (volume: string, flags: ExistingVolumeFlags & { progress?: boolean }) => {
    const { densifyVolume } = await import('../../jobs/densify.js');
    const progress = reportProgress(output, flags.progress === true, signal);
    const options = { ...existingVolumeOptions(flags), signal, onProgress: progress.onProgress };
    const full = await densifyVolume(volume, options).finally(progress.end);
    const done = full.wasSparse ? 'is full now: every sector is written' : 'was full already: nothing was changed';
    output.result(full, [`${volume} (${full.volumeId}) ${done}, ${exactSize(full.sizeBytes)}`]);
  });
}
