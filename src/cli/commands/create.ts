/** `volseal create`: a new volume that reads as zeros. */
import { Command, Option } from 'commander';
import {
  type NewVolumeFlags,
  newVolumeOptions,
  type Session,
  type StoreFlags,
  sizeArgument,
  storeOptions,
  withNewVolume,
  withStore,
} from '../options.js';
import { type SnapshotFlags, snapshotLines, snapshotOptions, withSnapshot } from '../snapshot-options.js';
import { withExamples } from '../terminal/output.js';
import { reportProgress } from '../terminal/progress.js';
import { newVolumeLines } from '../terminal/volume-lines.js';

/** The command; `session` is what it runs with. */
export function createCommand({ output, signal }: Session): Command {
  const command = new Command('create')
    .description('make a new, empty volume with its own data key; it reads as zeros')
    .argument('<volume>', 'the volume to make: a file, a block device, s3://BUCKET/KEY or ebs:new')
    .requiredOption('--size <size>', 'bytes, or with K, M, G, T (powers of 1024)', sizeArgument);
  withSnapshot(withStore(withNewVolume(command)))
    .addOption(
      new Option(
        '--sparse',
        'sectors take space only when they are written, which shows which ones are in use (default, except on a block device)',
      ),
    )
    .addOption(new Option('--full', 'write every sector now, so that nobody can see which ones are in use').conflicts('sparse'));
  withExamples(command, ['volseal create data.vol --size 64M', 'volseal create data.vol --size 64M --full --force']);
  return command.action(async (volume: string, flags: NewVolumeFlags & StoreFlags & SnapshotFlags & { size: number }) => {
    const { createVolume } = await import('../../jobs/encrypt.js');
    const progress = reportProgress(output, flags.progress === true, signal);
    const options = {
      ...newVolumeOptions(flags),
      ...storeOptions(flags),
      ...snapshotOptions(flags),
      sizeBytes: flags.size,
      signal,
      onProgress: progress.onProgress,
      onWarning: output.warning,
    };
    const info = await createVolume(volume, options).finally(progress.end);
    output.result(info, [...newVolumeLines(`created ${info.path}`, info), ...snapshotLines(info)]);
  });
}
