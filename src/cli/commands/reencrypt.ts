/** `volseal reencrypt`: volumes under new data keys. */
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import type { ReencryptOptions } from '../../jobs/reencrypt.js';
import { inPlaceLines, refuseTogether, withJournal } from '../in-place.js';
import { type FailedVolume, failedVolume, tellFailed } from '../many-volumes.js';
import {
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  withExistingVolume,
  withForce,
  withNoFsync,
  withProgress,
} from '../options.js';
import { withExamples } from '../terminal/output.js';
import { reportProgress } from '../terminal/progress.js';
import { exactSize, pace } from '../terminal/sizes.js';

interface ReencryptFlags extends ExistingVolumeFlags {
  out?: string;
  undo?: boolean;
  journal?: string;
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
    .description(
      'give volumes a new data key: in place through a journal, or as new volumes with --out; if interrupted in place, run it again',
    )
    .argument('<volume...>', 'the volumes')
    .option('--out <path>', 'make a new volume and only read the old one; for several volumes the directory for new ones')
    .option('--out-header <file>', 'write the new header to a file of its own')
    .option('--key <key>', 'the KMS key of the new data key: id, ARN or alias (default: that of the old one)')
    .option('--dry-run', 'only open the volumes and ask KMS whether it would make the keys; make nothing');
  withJournal(withProgress(withNoFsync(withForce(withExistingVolume(command)))));
  withExamples(
    command,
    ['volseal reencrypt disk.vol --dry-run', 'volseal reencrypt disk.vol --out new.vol --key alias/aws/ebs', 'volseal reencrypt disk.vol'],
    ['The old data key still opens the old volume, every copy of it, and backups of its header. Keyslots are not taken along.'],
  );
  return command.action(async (paths: string[], flags: ReencryptFlags) => {
    if (paths.length > 1 && (flags.header ?? flags.outHeader ?? flags.journal) !== undefined) {
      const message = '--header, --out-header and --journal name a file of one volume; reencrypt those volumes one by one';
      throw new VolsealError('ERR_ARGUMENT', message);
    }
    if (flags.dryRun) refuseTogether('--dry-run', { '--undo': flags.undo });
    const way = flags.out === undefined ? inPlace(flags) : await intoNew(paths, flags.out, flags);
    const volumes: object[] = [];
    const failed: FailedVolume[] = [];
    const lines: string[] = [];
    // One after the other: each one uses the whole disk.
    for (const path of paths) {
      const bar = reportProgress(output, flags.progress === true, signal);
      const one = { signal, onProgress: bar.onProgress, onWarning: output.warning };
      try {
        const { volume, line, warning } = await (flags.dryRun ? way.preview : way.work)(path, one).finally(bar.end);
        volumes.push(volume);
        lines.push(line);
        if (warning !== undefined) output.warning(warning);
      } catch (thrown) {
        const failure = await failedVolume(path, thrown);
        failed.push(failure);
        volumes.push({ path, error: failure.error.toPlain() });
        if (signal.aborted) break;
      }
    }
    const done = volumes.length - failed.length;
    if (done > 0) output.result({ volumes, dryRun: flags.dryRun === true }, lines);
    tellFailed(output, failed, { all: paths.length, done }, 'reencrypted');
  });
}

/** What has become of a volume, or would. */
interface Reported {
  readonly volume: object;
  readonly line: string;
  readonly warning?: string;
}

type Work = (path: string, job: Pick<ReencryptOptions, 'signal' | 'onProgress' | 'onWarning'>) => Promise<Reported>;
interface Way {
  readonly preview: Work;
  readonly work: Work;
}

async function intoNew(paths: readonly string[], out: string, flags: ReencryptFlags): Promise<Way> {
  const { outHeader: newHeader, key, force, fsync, undo, journal, ...existing } = flags;
  if (undo || journal !== undefined) throw new VolsealError('ERR_ARGUMENT', '--undo and --journal are for volumes in place, without --out');
  const targets = await targetsOf(paths, out);
  const targetOf = (path: string): string => targets[paths.indexOf(path)]!;
  const { reencryptVolume, tryReencrypt } = await import('../../jobs/reencrypt.js');
  const common: ReencryptOptions = { ...existingVolumeOptions(existing), newHeader, key, force, fsync };
  return {
    async preview(path, { signal }) {
      const volume = await tryReencrypt(path, targetOf(path), { ...common, signal });
      const what = `${exactSize(volume.imageBytes)}, under ${volume.toKey}`;
      return { volume, line: `${path} (${volume.volumeId}) would become ${volume.path}: ${what}` };
    },
    async work(path, job) {
      const made = await reencryptVolume(path, targetOf(path), { ...common, ...job });
      const moved = `${exactSize(made.imageBytes)} ${pace(made.imageBytes, made.dataSeconds)}`;
      const lost = `the recovery keys and passphrases of ${path} do not open ${made.path}: volseal recovery add makes new ones`;
      const line = `reencrypted ${path} (${made.volumeId}) into ${made.path}: ${moved}`;
      return { volume: made, line, ...(made.oldKeyslots > 0 ? { warning: lost } : {}) };
    },
  };
}

function inPlace(flags: ReencryptFlags): Way {
  const { outHeader, key, force, fsync, undo, journal, ...existing } = flags;
  const given = outHeader !== undefined ? '--out-header' : force ? '--force' : fsync === false ? '--no-fsync' : undefined;
  if (given !== undefined) throw new VolsealError('ERR_ARGUMENT', `${given} is for new volumes, with --out`);
  const common = { ...existingVolumeOptions(existing), key };
  return {
    async preview(path, { signal }) {
      const { tryReencrypt } = await import('../../jobs/reencrypt.js');
      const volume = await tryReencrypt(path, undefined, { ...common, signal });
      const what = `${exactSize(volume.imageBytes)}, under ${volume.toKey}`;
      return { volume, line: `${path} (${volume.volumeId}) would be reencrypted in place: ${what}` };
    },
    async work(path, job) {
      const { reencryptInPlace } = await import('../../in-place/reencrypt.js');
      const volume = await reencryptInPlace(path, { ...common, undo, journal, ...job });
      const lost = `the recovery keys and passphrases of ${path} are gone with its old key: volseal recovery add makes new ones`;
      const [line] = inPlaceLines('reencrypted', volume);
      return { volume, line: line!, ...(volume.oldKeyslots > 0 && !volume.undone ? { warning: lost } : {}) };
    },
  };
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
