/** `volseal verify`: checks a volume with its key, and its data against an image. */
import { Command } from 'commander';
import type { VerifiedVolume } from '../../jobs/verify.js';
import { withUnfinished } from '../in-place.js';
import {
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  type StoreFlags,
  storeOptions,
  withExistingVolume,
  withProgress,
  withStore,
} from '../options.js';
import { withExamples } from '../terminal/output.js';
import { reportProgress } from '../terminal/progress.js';

const UNBOUND = 'nothing tells whether this data belongs to the header, which is in another file: --against IMAGE does';

/** The command; `session` is what it runs with. */
export function verifyCommand({ output, signal }: Session): Command {
  const command = new Command('verify')
    .description('check a volume: both header copies, key, digest and MAC, and all data with --against; changes nothing')
    .argument('<volume>', 'the volume: a file, a block device, s3://BUCKET/KEY or ebs:snap-...')
    .option('--against <image>', 'compare the data with this raw image, byte by byte');
  withUnfinished(withStore(withProgress(withExistingVolume(command))));
  withExamples(command, ['volseal verify disk.vol --against disk.raw']);
  return command.action(async (volume: string, flags: ExistingVolumeFlags & VerifyFlags & StoreFlags) => {
    const { verifyVolume } = await import('../../in-place/read-image.js');
    const progress = reportProgress(output, flags.progress === true, signal);
    const read = { ...existingVolumeOptions(flags, output), ...storeOptions(flags) };
    const options = { ...read, against: flags.against, journal: flags.journal, signal, onProgress: progress.onProgress };
    const verified = await verifyVolume(volume, options).finally(progress.end);
    output.result(verified, [
      `${volume} (${verified.volumeId}): ${headLine(verified)}`,
      ...(verified.dataBound ? [] : [UNBOUND]),
      verified.against === null
        ? 'the data was not checked: --against IMAGE compares it'
        : `all ${verified.imageBytes} bytes of its data are equal to ${verified.against}`,
    ]);
  });
}

interface VerifyFlags {
  against?: string;
  progress?: boolean;
  journal?: string;
}

const headLine = ({ inPlace }: VerifiedVolume): string =>
  inPlace === null
    ? 'both header copies are good; key, digest and MAC match'
    : `in the middle of ${inPlace} in place: both header copies in its journal are good; keys, digests, MACs and record match`;
