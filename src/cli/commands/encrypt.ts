/** `volseal encrypt`: a raw image into a new volume. */
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import { isStored } from '../../stores/location.js';
import type { SourceChunks, SourceStream } from '../../transfer/image-stream.js';
import { type InPlaceFlags, inPlaceLines, refuseTogether, requiredTarget, withInPlace, worksInPlace } from '../in-place.js';
import {
  type NewVolumeFlags,
  newVolumeOptions,
  type Session,
  STREAM_ARGUMENT,
  type StoreFlags,
  sha256Lines,
  sizeArgument,
  storeOptions,
  targetStreamOr,
  withNewVolume,
  withResume,
  withSha256,
  withStore,
} from '../options.js';
import { type SnapshotFlags, snapshotLines, snapshotOptions, withSnapshot } from '../snapshot-options.js';
import { withExamples } from '../terminal/output.js';
import { reportProgress } from '../terminal/progress.js';
import { pace } from '../terminal/sizes.js';
import { STANDARD_INPUT, standardInput } from '../terminal/standard-streams.js';
import { newVolumeLines, updatedVolumeLines } from '../terminal/volume-lines.js';

/** The command; `session` is what it runs with. */
export function encryptCommand({ output, signal }: Session): Command {
  const command = new Command('encrypt')
    .description('encrypt a raw image into a new volume with its own data key; the image is not changed, unless --in-place says so')
    .argument('<image>', 'raw disk image: a regular file, a block device, s3://BUCKET/KEY, ebs:snap-..., or - for standard input')
    .argument('[volume]', 'the volume to make: a file, a block device, s3://BUCKET/KEY, ebs:new, or - for standard output');
  withNewVolume(command)
    .option('--pad', 'fill the last sector with zeros; decrypting gives back the exact length')
    .option('--raw', 'take the image as it is, even if it looks like a qcow2, VHDX, VMDK, VDI, compressed or LUKS file')
    .option('--sparse', 'leave zeros of the image as holes: small and fast, but it shows which blocks are in use')
    .option(
      '--size <size>',
      'size of an image on standard input (not needed into S3), or on a device in place: bytes, or with K, M, G, T',
      sizeArgument,
    );
  command.option('--since <snapshot>', 'change a volume that was made from this snapshot (snap-...): only blocks that differ are read');
  withSnapshot(withInPlace(withStore(withResume(withSha256(command))), 'a volume'));
  withExamples(command, [
    'volseal encrypt disk.raw disk.vol --context user=alice',
    'volseal encrypt disk.raw - | cat > streamed.vol',
    'zstdcat disk.raw.zst | volseal encrypt - piped.vol --size 10G',
    'volseal encrypt --in-place disk.raw',
  ]);
  return command.action(
    async (image: string, volume: string | undefined, flags: NewVolumeFlags & EncryptFlags & StoreFlags & SnapshotFlags) => {
      const { sha256: hash, resume: continues, force, fsync } = flags;
      const others = { '--since': flags.since, '--sha256': hash, '--resume': continues, '--force': force, '--no-fsync': fsync === false };
      if (worksInPlace(flags, volume, others)) return encryptedInPlace(image, flags, { output, signal });
      if (flags.since !== undefined) return updated(image, volume, { ...flags, since: flags.since }, { output, signal });
      const target = targetStreamOr(requiredTarget(volume, 'volume'));
      const source = sourceOf(image, flags.size, typeof target === 'string' && isStored(target));
      const { encryptImage } = await import('../../jobs/encrypt.js');
      const progress = reportProgress(output, flags.progress === true, signal);
      const { pad, raw, sha256, resume } = flags;
      const reports = { onProgress: progress.onProgress, onWarning: output.warning };
      const options = {
        ...newVolumeOptions(flags),
        ...storeOptions(flags),
        ...snapshotOptions(flags),
        pad,
        raw,
        sha256,
        resume,
        signal,
        ...reports,
      };
      const info = await encryptImage(source, target, options).finally(progress.end);
      const name = typeof source === 'string' ? source : STANDARD_INPUT;
      const done = `encrypted ${name} into ${info.path}`;
      // A run that continued another one has moved only a part.
      const moved = resume ? done : `${done} ${pace(info.imageBytes, info.dataSeconds)}`;
      const lines = [...newVolumeLines(moved, info), ...sha256Lines(info), ...snapshotLines(info)];
      // Standard output carries the volume.
      if (typeof target === 'string') output.result(info, lines);
      else output.aside(info, lines);
    },
  );
}

/** A volume that is there already is brought to another snapshot. */
async function updated(
  snapshot: string,
  volume: string | undefined,
  flags: NewVolumeFlags & EncryptFlags & StoreFlags & SnapshotFlags & { since: string },
  { output, signal }: Pick<Session, 'output' | 'signal'>,
): Promise<void> {
  const { pad, raw, size, sha256, resume, undo, journal, key, sectorSize, sparse, full, force, fsync } = flags;
  const { description, tag, snapshotKey } = flags;
  refuseTogether('--since', {
    ...{ '--pad': pad, '--raw': raw, '--size': size, '--sha256': sha256, '--resume': resume, '--undo': undo, '--journal': journal },
    ...{ '--key': key, '--sector-size': sectorSize, '--sparse': sparse, '--full': full, '--force': force },
    ...{ '--no-fsync': fsync === false, '--description': description, '--tag': tag, '--snapshot-key': snapshotKey },
  });
  const { updateVolume } = await import('../../jobs/stored/update-volume.js');
  const progress = reportProgress(output, flags.progress === true, signal);
  const { kms, header, context: encryptionContext, since } = flags;
  const reports = { onProgress: progress.onProgress, onWarning: output.warning };
  const options = { kms, header, encryptionContext, since, ...storeOptions(flags), signal, ...reports };
  const info = await updateVolume(snapshot, requiredTarget(volume, 'volume'), options).finally(progress.end);
  output.result(info, updatedVolumeLines(snapshot, info));
}

async function encryptedInPlace(
  image: string,
  flags: NewVolumeFlags & EncryptFlags,
  { output, signal }: Pick<Session, 'output' | 'signal'>,
): Promise<void> {
  const { encryptInPlace } = await import('../../in-place/encrypt.js');
  const progress = reportProgress(output, flags.progress === true, signal);
  const { force: _, fsync: __, ...volume } = newVolumeOptions(flags);
  const { pad, raw, size: sizeBytes, undo, journal } = flags;
  const reports = { onProgress: progress.onProgress, onWarning: output.warning };
  const outcome = await encryptInPlace(image, { ...volume, pad, raw, sizeBytes, undo, journal, signal, ...reports }).finally(progress.end);
  output.result(outcome, inPlaceLines('encrypted', outcome));
}

interface EncryptFlags extends InPlaceFlags {
  pad?: boolean;
  raw?: boolean;
  resume?: boolean;
  size?: number;
  sha256?: boolean;
  since?: string;
}

/** @throws {VolsealError} `ERR_ARGUMENT` for a stream without a size, or a file with one */
function sourceOf(image: string, sizeBytes: number | undefined, intoStore: boolean): string | SourceStream | SourceChunks {
  if (image !== STREAM_ARGUMENT) {
    if (sizeBytes === undefined) return image;
    throw new VolsealError('ERR_ARGUMENT', `--size is for an image on standard input (${STREAM_ARGUMENT}): ${image} has a size of its own`);
  }
  if (intoStore) return { chunks: standardInput(), sizeBytes, name: STANDARD_INPUT };
  if (sizeBytes === undefined) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      'an image on standard input needs --size, unless the volume goes to S3: the volume is laid out before the image ends',
    );
  }
  return { fd: 0, sizeBytes, name: STANDARD_INPUT };
}
