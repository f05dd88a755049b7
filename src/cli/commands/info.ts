/** `volseal info`: what a volume's header says. */
import { Command } from 'commander';
import { type Session, type StoreFlags, storeOptions, withHeader, withJson, withStore } from '../options.js';
import { withExamples } from '../terminal/output.js';
import { infoLines } from '../terminal/volume-lines.js';

/** The command; `session` is what it runs with. */
export function infoCommand({ output }: Session): Command {
  const command = new Command('info')
    .description("show what a volume's header says; needs no key and asks no KMS")
    .argument(
      '<volume>',
      'the volume, a header, its backup, or another LUKS2 volume: a file, a block device, s3://BUCKET/KEY or ebs:snap-...',
    );
  withStore(withJson(withHeader(command, 'the file with the header, if it is detached')));
  withExamples(command, ['volseal info disk.vol'], ['Which AES-XTS kernel the CPU of this machine runs: volseal kernels']);
  return command.action(async (volume: string, flags: { header?: string } & StoreFlags) => {
    const { describeAny } = await import('../../volume/any-info.js');
    const info = await describeAny(volume, { header: flags.header, ...storeOptions(flags) });
    output.result(info, infoLines(info));
  });
}
