/** `volseal recovery`: ways into a volume without KMS. */
import { isatty } from 'node:tty';
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import {
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  type StoreFlags,
  storeOptions,
  withExistingVolume,
  withHeader,
  withJson,
  withStore,
} from '../options.js';
import { withExamples } from '../terminal/output.js';
import { openQrCode } from '../terminal/qr-code.js';
import { isOutputLost, STANDARD_OUTPUT } from '../terminal/standard-streams.js';
import { keyslotLine } from '../terminal/volume-lines.js';

/** The command with its subcommands; `session` is what they run with. */
export function recoveryCommand(session: Session): Command {
  const command = new Command('recovery').description('recovery keys and passphrases: ways into a volume when KMS is gone');
  for (const make of [addCommand, listCommand, testCommand, removeCommand]) command.addCommand(make(session));
  return withExamples(command, ['volseal recovery add disk.vol --out recovery.key']);
}

interface AddFlags extends ExistingVolumeFlags, StoreFlags {
  out?: string;
  qr?: boolean;
}

function addCommand({ output, signal }: Session): Command {
  const command = new Command('add')
    .description('add a keyslot for a new recovery key and print the key once; stock cryptsetup takes its text as the passphrase')
    .argument('<volume>', 'the volume: a file, a block device or s3://BUCKET/KEY')
    .option('--out <file>', 'write the recovery key to this new file, with mode 0600, instead of printing it')
    .option('--qr', 'also draw the key as a QR code in the terminal (needs qrencode)')
    .option('--passphrase-file <file>', 'add a keyslot for the passphrase in this file instead (at least 2 s of PBKDF2)');
  withStore(withExistingVolume(command, { passphrase: false }));
  withExamples(
    command,
    ['volseal recovery add disk.vol --out recovery.key', 'volseal recovery test disk.vol --recovery-key-file recovery.key'],
    ['Whoever has the recovery key and the volume has the data. Keep the key where the volume is not, and not on the same machine.'],
  );
  return command.action(async (volume: string, { out, qr, passphraseFile, ...flags }: AddFlags) => {
    const { addPassphrase, addRecoveryKey } = await import('../../headers/recovery.js');
    const options = { ...existingVolumeOptions(flags, output), ...storeOptions(flags), signal };
    if (passphraseFile !== undefined) {
      if (out !== undefined || qr)
        throw new VolsealError('ERR_ARGUMENT', '--out and --qr are for a recovery key: a passphrase is in its file already');
      const added = await addPassphrase(volume, passphraseFile, options);
      output.result(added, [`${volume} (${added.volumeId}) has the keyslot ${keyslotLine(added)}`]);
      return;
    }
    if (out === undefined && output.json)
      throw new VolsealError('ERR_ARGUMENT', '--json prints no recovery key: name a file for it with --out');
    if (qr && output.json) throw new VolsealError('ERR_ARGUMENT', '--qr draws for people: leave out --json');
    // The keyslot would be one that nobody can open.
    if (out === undefined && isOutputLost())
      throw new VolsealError('ERR_ARGUMENT', `${STANDARD_OUTPUT} is closed or /dev/null: name a file for the recovery key with --out`);
    const code = qr ? openQrCode() : undefined;
    const added = await addRecoveryKey(volume, out ?? { fd: 1, name: STANDARD_OUTPUT }, { ...options, alsoTo: code }).catch(
      (error: unknown) => {
        code?.close();
        throw error;
      },
    );
    const lines = [`${volume} (${added.volumeId}) has the keyslot ${keyslotLine(added)}`];
    if (out === undefined) output.text('\n');
    if (code !== undefined) {
      if (!code.draw()) output.warning('the QR code could not be drawn');
      code.close();
    }
    if (out === undefined) lines.push('This is the only time that the key is shown: write it down, with its hyphens.');
    if (out === undefined) output.aside(added, lines);
    else output.result({ ...added, out }, lines);
    if (out === undefined && !isatty(1)) output.warning('the recovery key went into a pipe or a file: mind who can read that');
  });
}

function listCommand({ output }: Session): Command {
  const command = new Command('list')
    .description("list a volume's keyslots; needs no key and asks no KMS, so nothing is proved")
    .argument('<volume>', 'the volume: a file, a block device, s3://BUCKET/KEY or ebs:snap-...');
  withStore(withJson(withHeader(command, 'the file with the header, if it is detached')));
  withExamples(command, ['volseal recovery list disk.vol']);
  return command.action(async (volume: string, flags: { header?: string } & StoreFlags) => {
    const { describeVolume } = await import('../../volume/describe.js');
    const { volumeId, keyslotList: keyslots } = await describeVolume(volume, { header: flags.header, ...storeOptions(flags) });
    const lines = keyslots.length === 0 ? [`${volume} (${volumeId}) has no keyslot: only KMS opens it`] : keyslots.map(keyslotLine);
    output.result({ path: volume, volumeId, keyslots }, lines);
  });
}

function testCommand({ output, signal }: Session): Command {
  const command = new Command('test')
    .description('try a recovery key or a passphrase: which keyslot does it open? Nothing is changed, and KMS is not asked')
    .argument('<volume>', 'the volume: a file, a block device, s3://BUCKET/KEY or ebs:snap-...');
  withStore(withExistingVolume(command));
  withExamples(command, [
    'volseal recovery add disk.vol --out recovery.key',
    'volseal recovery test disk.vol --recovery-key-file recovery.key',
  ]);
  return command.action(async (volume: string, flags: ExistingVolumeFlags & StoreFlags) => {
    const { testKeyslot } = await import('../../headers/recovery.js');
    const opened = await testKeyslot(volume, { ...existingVolumeOptions(flags, output), ...storeOptions(flags), signal });
    output.result(opened, [`it opens ${volume} (${opened.volumeId}) by the keyslot ${keyslotLine(opened)}`]);
  });
}

function removeCommand({ output, signal }: Session): Command {
  const command = new Command('remove')
    .description('remove a keyslot and overwrite its area; backups of the header still open by it')
    .argument('<volume>', 'the volume: a file, a block device or s3://BUCKET/KEY')
    .argument('<keyslot>', 'its number: see recovery list');
  withStore(withExistingVolume(command));
  withExamples(command, ['volseal recovery add disk.vol --out recovery.key', 'volseal recovery remove disk.vol 0']);
  return command.action(async (volume: string, keyslot: string, flags: ExistingVolumeFlags & StoreFlags) => {
    const { removeKeyslot } = await import('../../headers/recovery.js');
    const removed = await removeKeyslot(volume, keyslot, { ...existingVolumeOptions(flags, output), ...storeOptions(flags), signal });
    output.result(removed, [`removed from ${volume} (${removed.volumeId}) the keyslot ${keyslotLine(removed)}`]);
  });
}
