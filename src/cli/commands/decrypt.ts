/** `volseal decrypt`: a volume into a raw image. */
import { Command } from 'commander';
import { isStored } from '../../stores/location.js';
import { type InPlaceFlags, inPlaceLines, requiredTarget, withInPlace, worksInPlace } from '../in-place.js';
import {
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  type StoreFlags,
  sha256Lines,
  storeOptions,
  targetStreamOr,
  withExistingVolume,
  withForce,
  withNoFsync,
  withProgress,
  withResume,
  withSha256,
  withStore,
} from '../options.js';
import { type SnapshotFlags, snapshotLines, snapshotOptions, withParent, withSnapshot } from '../snapshot-options.js';
import { withExamples } from '../terminal/output.js';
import { reportProgress } from '../terminal/progress.js';
import { exactSize, pace } from '../terminal/sizes.js';

/** The command; `session` is what it runs with. */
export function decryptCommand({ output, signal }: Session): Command {
  const command = new Command('decrypt')
    .description('decrypt a volume into a raw image of the original length; the volume is not changed, unless --in-place says so')
    .argument('<volume>', 'the volume: a file, a block device, s3://BUCKET/KEY or ebs:snap-...')
    .argument('[image]', 'the raw image to make: a file, a block device, s3://BUCKET/KEY, ebs:new, or - for standard output');
  withStore(withResume(withSha256(withProgress(withNoFsync(withForce(withExistingVolume(command)))))))
    .option(
      '--sparse',
      'leave blocks of zeros as holes in the image (always so for a sparse volume); discard them on a block device; leave them out of a snapshot',
    )
    .option('--as-is', 'into a store: the volume as it is, encrypted; needs no key')
    .option('--target-is-zero', 'the block device reads as zeros from beginning to end: leave out blocks of zeros');
  withParent(withSnapshot(withInPlace(command, 'an image')));
  withExamples(command, [
    'volseal decrypt disk.vol copy.raw',
    'volseal decrypt disk.vol - | zstd > disk.raw.zst',
    'volseal decrypt --in-place disk.vol',
  ]);
  return command.action(
    async (volume: string, image: string | undefined, flags: ExistingVolumeFlags & DecryptFlags & StoreFlags & SnapshotFlags) => {
      const others = {
        '--sha256': flags.sha256,
        '--resume': flags.resume,
        '--force': flags.force,
        '--sparse': flags.sparse,
        '--as-is': flags.asIs,
        '--target-is-zero': flags.targetIsZero,
        '--no-fsync': flags.fsync === false,
      };
      if (worksInPlace(flags, image, others, ['journal'])) return decryptedInPlace(volume, flags, { output, signal });
      const target = targetStreamOr(requiredTarget(image, 'image'));
      const { decryptImage } = await import('../../in-place/read-image.js');
      const progress = reportProgress(output, flags.progress === true, signal);
      const { force, fsync, resume, sha256, sparse, targetIsZero, asIs, journal } = flags;
      const reports = { onProgress: progress.onProgress, onWarning: output.warning };
      const read = { ...existingVolumeOptions(flags, output), ...storeOptions(flags), ...snapshotOptions(flags) };
      const options = { ...read, force, fsync, resume, sha256, sparse, targetIsZero, asIs, journal, signal, ...reports };
      const decrypt = async () => {
        if (typeof target === 'string' || !isStored(volume) || asIs === true) return await decryptImage(volume, target, options);
        const { decryptStoredTo } = await import('../../jobs/stored/stored-decrypt.js');
        return await decryptStoredTo(volume, target.name, options, (pieces) => output.data(pieces, signal));
      };
      const made = await decrypt().finally(progress.end);
      const size = exactSize(made.imageBytes);
      // A run that continued another one has moved only a part.
      const moved = resume ? size : `${size} ${pace(made.imageBytes, made.dataSeconds)}`;
      const lines = [
        `${asIs ? 'copied' : 'decrypted'} ${volume} (${made.volumeId}) into ${made.path}: ${moved}`,
        ...sha256Lines(made),
        ...snapshotLines(made),
      ];
      // Standard output carries the image.
      if (typeof target === 'string') output.result(made, lines);
      else output.aside(made, lines);
    },
  );
}

async function decryptedInPlace(
  volume: string,
  flags: ExistingVolumeFlags & DecryptFlags,
  { output, signal }: Pick<Session, 'output' | 'signal'>,
): Promise<void> {
  const { decryptInPlace } = await import('../../in-place/decrypt.js');
  const progress = reportProgress(output, flags.progress === true, signal);
  const { undo, journal } = flags;
  const reports = { onProgress: progress.onProgress, onWarning: output.warning };
  const options = { ...existingVolumeOptions(flags), undo, journal, signal, ...reports };
  const outcome = await decryptInPlace(volume, options).finally(progress.end);
  output.result(outcome, inPlaceLines('decrypted', outcome));
}

interface DecryptFlags extends InPlaceFlags {
  force?: boolean;
  fsync?: boolean;
  resume?: boolean;
  progress?: boolean;
  sha256?: boolean;
  sparse?: boolean;
  targetIsZero?: boolean;
  asIs?: boolean;
}
