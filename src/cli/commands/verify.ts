/** `volseal verify`: whether a volume is whole, its owner's, and perhaps what an image says. */
import { Command } from 'commander';
import { type ExistingVolumeFlags, existingVolumeOptions, type Session, withExistingVolume, withProgress } from '../options.js';
import { withExamples } from '../output.js';
import { reportProgress } from '../progress.js';

/** The command; `session` is what it runs with. */
export function verifyCommand({ output, signal }: Session): Command {
  const command = new Command('verify')
    .description('check a volume: both header copies, the key, digest and MAC; with --against all of the data. Nothing is changed')
    .argument('<volume>', 'the volume')
    .option('--against <image>', 'a raw image that the data must be, byte for byte');
  withProgress(withExistingVolume(command));
  withExamples(command, ['volseal verify disk.vol --against disk.raw']);
  return command.action(async (volume: string, flags: ExistingVolumeFlags & { against?: string; progress?: boolean }) => {
    const { verifyVolume } = await import('../../jobs/verify.js');
    const progress = reportProgress(output.json, flags.progress === true, signal);
    const options = { ...existingVolumeOptions(flags), against: flags.against, signal, onProgress: progress.onProgress };
    const verified = await verifyVolume(volume, options).finally(progress.end);
    output.result(verified, [
      `${volume} (${verified.volumeId}): both header copies are whole, the key is its key, digest and MAC hold`,
      verified.against === null
        ? 'the data was not looked at: --against IMAGE compares it'
        : `its data is ${verified.against}, byte for byte: all ${verified.imageBytes} bytes`,
    ]);
  });
}
