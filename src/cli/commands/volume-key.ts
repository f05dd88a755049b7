/** `volseal volume-key`: hands a volume's data key to another program. */
import { Command, InvalidArgumentError } from 'commander';
import { type ExistingVolumeFlags, existingVolumeOptions, type Session, withExistingVolume } from '../options.js';
import { isInherited } from '../terminal/inherited-descriptor.js';
import { withExamples } from '../terminal/output.js';

interface VolumeKeyFlags extends ExistingVolumeFlags {
  toFd: number;
}

/** The command; `session` is what it runs with. */
export function volumeKeyCommand({ output, signal }: Session): Command {
  const command = new Command('volume-key')
    .description('hand the data key of a volume to another program: whoever gets it opens the volume for ever, without KMS')
    .argument('<volume>', 'the volume')
    .requiredOption('--to-fd <number>', 'write the bytes of the key to this open file descriptor: a pipe, not a terminal', descriptor);
  withExistingVolume(command, { keyslots: false });
  withExamples(
    command,
    ['volseal volume-key disk.vol --to-fd 1 | cryptsetup open --test-passphrase --volume-key-file /dev/stdin --key-size 512 disk.vol'],
    [
      'The call to KMS is in the audit log. Use a pipe: a key in a file on a disk stays there. Standard output carries the key alone, where it is the descriptor.',
    ],
  );
  return command.action(async (volume: string, { toFd, ...flags }: VolumeKeyFlags) => {
    const { handOverVolumeKey } = await import('../../headers/volume-key.js');
    output.warning(`the data key of ${volume} leaves volseal's hands: rewrapping or disabling its KMS key does not take it back`);
    const target = { fd: toFd, name: `file descriptor ${toFd}` };
    const made = await handOverVolumeKey(volume, target, { ...existingVolumeOptions(flags, output), signal });
    output.aside({ path: volume, ...made, toFd }, [
      `wrote the key of ${volume} (${made.volumeId}), ${made.keyBytes} bytes, to descriptor ${toFd}`,
    ]);
  });
}

/** Looked at before anything is opened: a key must not get into a descriptor of Node, or into a file of volseal. */
function descriptor(text: string): number {
  if (!/^[0-9]{1,6}$/.test(text) || !isInherited(Number(text)))
    throw new InvalidArgumentError('Expected the number of a file descriptor that the caller has opened.');
  return Number(text);
}
