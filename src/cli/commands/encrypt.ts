/** `volseal encrypt`: a raw image into a new volume. */
import { Command } from 'commander';
import { type NewVolumeFlags, newVolumeOptions, type Session, withNewVolume } from '../options.js';
import { withExamples } from '../output.js';
import { reportProgress } from '../progress.js';
import { newVolumeLines } from '../volume-lines.js';

/** The command; `session` is what it runs with. */
export function encryptCommand({ output, signal }: Session): Command {
  const command = new Command('encrypt')
    .description('encrypt a raw image into a new volume with a data key of its own; the image is only read')
    .argument('<image>', 'raw disk image: a regular file or a block device')
    .argument('<volume>', 'the volume to make');
  withNewVolume(command).option('--pad', 'fill an image up to whole sectors; decrypting gives back its exact length');
  withExamples(command, ['volseal encrypt disk.raw disk.vol --context user=alice']);
  return command.action(async (image: string, volume: string, flags: NewVolumeFlags & { pad?: boolean }) => {
    const { encryptImage } = await import('../../volume/create.js');
    const progress = reportProgress(output.json, flags.progress === true, signal);
    const options = { ...newVolumeOptions(flags), pad: flags.pad, signal, onProgress: progress.onProgress };
    const info = await encryptImage(image, volume, options).finally(progress.end);
    output.result(info, newVolumeLines(`encrypted ${image} into ${volume}`, info));
  });
}
