/** `volseal decrypt`: a volume back into the raw image. */
import { Command } from 'commander';
import { type ExistingVolumeFlags, existingVolumeOptions, type Session, withExistingVolume, withForce, withProgress } from '../options.js';
import { withExamples } from '../output.js';
import { reportProgress } from '../progress.js';
import { exactSize } from '../sizes.js';

/** The command; `session` is what it runs with. */
export function decryptCommand({ output, signal }: Session): Command {
  const command = new Command('decrypt')
    .description('decrypt a volume into a raw image of its exact old length; the volume is only read')
    .argument('<volume>', 'the volume')
    .argument('<image>', 'the raw image to make');
  withProgress(withForce(withExistingVolume(command)));
  withExamples(command, ['volseal decrypt disk.vol copy.raw']);
  return command.action(async (volume: string, image: string, flags: ExistingVolumeFlags & { force?: boolean; progress?: boolean }) => {
    const { decryptImage } = await import('../../volume/decrypt.js');
    const progress = reportProgress(output.json, flags.progress === true, signal);
    const options = { ...existingVolumeOptions(flags), force: flags.force, signal, onProgress: progress.onProgress };
    const made = await decryptImage(volume, image, options).finally(progress.end);
    output.result(made, [`decrypted ${volume} (${made.volumeId}) into ${image}: ${exactSize(made.imageBytes)}`]);
  });
}
