/** `volseal reencrypt`: volumes under new data keys. */
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import type { ReencryptOptions } from '../../jobs/reencrypt.js';
import {
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  withExistingVolume,
  withForce,
  withNoFsync,
  withProgress,
} from '../options.js';
import { withExamples } from '../output.js';
import { reportProgress } from '../progress.js';
import { exactSize, pace } from '../sizes.js';

interface ReencryptFlags extends ExistingVolumeFlags {
  out: string;
  outHeader?: string;
  key?: string;
  dryRun?: boolean;
  force?: boolean;
  fsync?: boolean;
  progress?: boolean;
}

/** The command; `session` is what it runs with. */
export function reencryptCommand({ output, signal }: Session): Command {
  const command = new Command('reencrypt')
    .description('make a new volume of the same data under a new data key, in one pass; the old volume is only read')
    .argument('<volume...>', 'the volumes')
    .requiredOption('--out <path>', 'the new volume; for several volumes the directory for new ones of the same names')
    .option('--out-header <file>', 'write the new header to a file of its own')
    .option('--key <key>', 'the KMS key of the new data key: id, ARN or alias (default: that of the old one)')
    .option('--dry-run', 'only open the volumes and ask KMS whether it would make the keys; make nothing');
  withProgress(withNoFsync(withForce(withExistingVolume(command))));
  withExamples(
    command,
    ['volseal reencrypt disk.vol --out new.vol --dry-run', 'volseal reencrypt disk.vol --out new.vol --key alias/aws/ebs'],
    ['The old data key still opens the old volume, every copy of it, and backups of its header. Keyslots are not taken along.'],
  );
  return command.action(async (paths: string[], { out, outHeader, key, dryRun, force, fsync, progress, ...flags }: ReencryptFlags) => {
    const targets = await targetsOf(paths, out);
    if (paths.length > 1 && (flags.header ?? outHeader) !== undefined)
      throw new VolsealError('ERR_ARGUMENT', '--header and --out-header name the header of one volume; reencrypt those volumes one by one');
    const { reencryptVolume, tryReencrypt } = await import('../../jobs/reencrypt.js');
    const common: ReencryptOptions = { ...existingVolumeOptions(flags), newHeader: outHeader, key, force, fsync, signal };
    const volumes: object[] = [];
    const lines: string[] = [];
    // One after the other: each one uses the whole disk.
    for (const [index, path] of paths.entries()) {
      const target = targets[index]!;
      if (dryRun) {
        const preview = await tryReencrypt(path, target, common);
        volumes.push(preview);
        lines.push(`${path} (${preview.volumeId}) would become ${target}: ${exactSize(preview.imageBytes)}, under ${preview.toKey}`);
        continue;
      }
      const bar = reportProgress(output, progress === true, signal);
      const made = await reencryptVolume(path, target, { ...common, onProgress: bar.onProgress, onWarning: output.warning })
        .finally(bar.end)
        .catch((error: unknown) => {
          throw volumes.length === 0 ? error : afterOthers(error, volumes.length, paths.length);
        });
      volumes.push(made);
      lines.push(
        `reencrypted ${path} (${made.volumeId}) into ${made.path}: ${exactSize(made.imageBytes)} ${pace(made.imageBytes, made.dataSeconds)}`,
      );
      if (made.oldKeyslots > 0)
        output.warning(`the recovery keys and passphrases of ${path} do not open ${target}: volseal recovery add makes new ones`);
    }
    output.result({ volumes, dryRun: dryRun === true }, lines);
  });
}

async function targetsOf(paths: readonly string[], out: string): Promise<string[]> {
  if (paths.length === 1) return [out];
  const isDirectory = await stat(out).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isDirectory)
    throw new VolsealError('ERR_ARGUMENT', `${out}: several volumes need an existing directory as --out`, { details: { path: out } });
  const names = paths.map((path) => basename(path));
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined)
    throw new VolsealError('ERR_ARGUMENT', `two of the volumes are named ${twice}: in ${out} one would replace the other`);
  return names.map((name) => join(out, name));
}

function afterOthers(error: unknown, done: number, all: number): unknown {
  if (!(error instanceof VolsealError)) return error;
  return new VolsealError(error.code, `${error.message}; before that ${done} of ${all} volumes were reencrypted`, {
    cause: error,
    details: error.details,
  });
}
