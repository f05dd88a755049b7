/** `volseal header`: a backup of a volume's header, the way back from it, and a look at it. */
import { Command } from 'commander';
import { type ExistingVolumeFlags, existingVolumeOptions, type Session, withExistingVolume, withHeader, withJson } from '../options.js';
import { alignedRows, withExamples } from '../terminal/output.js';
import { exactSize } from '../terminal/sizes.js';

/** The command with its subcommands; `session` is what they run with. */
export function headerCommand(session: Session): Command {
  const command = new Command('header').description("back up and restore a volume's header: without any header the volume is lost");
  for (const make of [backupCommand, restoreCommand, showCommand]) command.addCommand(make(session));
  return withExamples(command, ['volseal header backup disk.vol disk.header']);
}

const DETACHED = 'the file with the header, if it is detached';

function backupCommand({ output }: Session): Command {
  const command = new Command('backup')
    .description("copy a volume's header and keyslots into a file; needs no key and asks no KMS")
    .argument('<volume>', 'the volume')
    .argument('<file>', 'the backup to make')
    .option('--force', 'replace an existing backup, once the new one is complete');
  withJson(withHeader(command, DETACHED));
  withExamples(
    command,
    ['volseal header backup disk.vol disk.header', 'volseal verify disk.vol --header disk.header'],
    ['Whoever has a backup can open the volume with any key or passphrase that it opened with then.'],
  );
  return command.action(async (volume: string, file: string, flags: { header?: string; force?: boolean }) => {
    const { backupHeader } = await import('../../headers/header-backup.js');
    const made = await backupHeader(volume, file, flags);
    output.result(made, [`${file} is the header of ${volume} (${made.volumeId}): ${exactSize(made.sizeBytes)}`]);
  });
}

interface RestoreFlags extends ExistingVolumeFlags {
  proof: boolean;
  force?: boolean;
}

function restoreCommand({ output, signal }: Session): Command {
  const command = new Command('restore')
    .description('write a backup of its header into a volume, once KMS has proved the backup; a backup of another volume is refused')
    .argument('<volume>', 'the volume')
    .argument('<file>', 'the backup')
    .option(
      '--no-proof',
      'do not ask KMS: a backup that was forged or damaged then makes the volume unreadable, or puts it under a key that somebody else knows',
    )
    .option('--force', 'also where nothing is left of the header, and where it says that the data is a mixture of two snapshots');
  withExistingVolume(command);
  withExamples(command, ['volseal header backup disk.vol disk.header', 'volseal header restore disk.vol disk.header']);
  return command.action(async (volume: string, file: string, flags: RestoreFlags) => {
    const { restoreHeader } = await import('../../headers/header-restore.js');
    const { proof: prove, force } = flags;
    const restored = await restoreHeader(volume, file, {
      ...existingVolumeOptions(flags, output),
      prove,
      force,
      signal,
      onWarning: output.warning,
    });
    output.result(restored, [
      `${volume} (${restored.volumeId}) has the header of ${file}${restored.proved ? ', which its key proved' : ', which nothing proved'}`,
    ]);
  });
}

function showCommand({ output }: Session): Command {
  const command = new Command('show')
    .description('show the header of any LUKS2 volume, detached header or backup, with all of its JSON; needs no key')
    .argument('<file>', 'the volume, header or backup')
    .option('--raw', 'the JSON area alone, for other programs');
  withJson(command);
  withExamples(command, ['volseal header show disk.vol', "volseal header show disk.vol --raw | jq '.segments'"]);
  return command.action(async (path: string, { raw }: { raw?: boolean }) => {
    const { readHeaderText } = await import('../../volume/header-text.js');
    const header = await readHeaderText(path);
    const json = JSON.stringify(header.metadata, undefined, 2).split('\n');
    const { primary, secondary } = header.headerCopies;
    const rows = alignedRows([
      ['file', header.path],
      ['uuid', header.uuid],
      ...(header.label === '' ? [] : [['label', header.label] as const]),
      ...(header.subsystem === '' ? [] : [['subsystem', header.subsystem] as const]),
      ['version', `${header.sequence} (each change of the header counts it up)`],
      ['copies', primary === secondary ? `both ${primary}` : `first ${primary}, second ${secondary}`],
      ['with keyslots', exactSize(header.areaBytes)],
    ]);
    output.result(raw ? header.metadata : header, raw ? json : [...rows, '', ...json]);
  });
}
