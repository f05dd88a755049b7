/** `volseal rewrap`: volumes under another KMS key. */
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import type { RewrappedVolume } from '../../headers/rewrap.js';
import { type FailedVolume, failedVolume, tellFailed } from '../many-volumes.js';
import {
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  type StoreFlags,
  storeOptions,
  withAllowNoLock,
  withExistingVolume,
  withStore,
} from '../options.js';
import { withExamples } from '../terminal/output.js';

interface RewrapFlags extends ExistingVolumeFlags, StoreFlags {
  key: string;
  dryRun?: boolean;
}

/** Volumes in progress at once: each calls KMS four times and writes 32 KiB. */
const VOLUMES_AT_ONCE = 8;

/** The command; `session` is what it runs with. */
export function rewrapCommand({ output, signal }: Session): Command {
  const command = new Command('rewrap')
    .description(
      'wrap the data keys of volumes under another KMS key, inside KMS; the data is not touched (after a key rotation in KMS no rewrap is needed)',
    )
    .argument('<volume...>', 'the volumes: files, block devices, s3://BUCKET/KEY')
    .requiredOption('--key <key>', 'the new KMS key: id, ARN or alias, in the same KMS and region')
    .option('--dry-run', 'only ask KMS whether it would do it; change nothing');
  withStore(withAllowNoLock(withExistingVolume(command)));
  withExamples(command, ['volseal rewrap disk.vol --key alias/aws/ebs --dry-run', 'volseal rewrap disk.vol --key alias/aws/ebs']);
  return command.action(async (paths: string[], { key, dryRun = false, ...flags }: RewrapFlags) => {
    if (flags.header !== undefined && paths.length > 1) {
      throw new VolsealError('ERR_ARGUMENT', '--header names the header of one volume; rewrap those with detached headers one by one');
    }
    const [{ rewrapVolume }, { default: pLimit }] = await Promise.all([import('../../headers/rewrap.js'), import('p-limit')]);
    const options = { ...existingVolumeOptions(flags, output), ...storeOptions(flags), key, dryRun, signal };
    const limit = pLimit(VOLUMES_AT_ONCE);
    const outcomes = await limit.map(paths, (path) => rewrapVolume(path, options).catch((error: unknown) => failedVolume(path, error)));
    const done = outcomes.filter((outcome): outcome is RewrappedVolume => !('error' in outcome));
    const failed = outcomes.filter((outcome): outcome is FailedVolume => 'error' in outcome);
    const volumes = outcomes.map((outcome) => ('error' in outcome ? { path: outcome.path, error: outcome.error.toPlain() } : outcome));
    const lines = done.map(({ path, volumeId, toKeyArn }) =>
      dryRun ? `${path} (${volumeId}): KMS would wrap its key under ${toKeyArn}` : `${path} (${volumeId}) is now under ${toKeyArn}`,
    );
    if (failed.length === 0 || paths.length > 1) output.result({ volumes, rewrapped: dryRun ? 0 : done.length }, lines);
    tellFailed(output, failed, { all: paths.length, done: done.length }, 'rewrapped');
  });
}
