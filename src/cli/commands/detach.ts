/** `volseal detach`: ends what `volseal attach` began. */
import { Command } from 'commander';
import { type Session, withJson } from '../options.js';
import { ownRuntimeDirectory } from '../runtime.js';
import { withExamples } from '../terminal/output.js';

/** The command; `session` is what it runs with. */
export function detachCommand({ output }: Session): Command {
  const command = new Command('detach')
    .description('detach a volume: flush it and wipe its key; refused while clients are connected')
    .argument('<volume>', 'its path, its id (vol-...) or its URI')
    .option('--force', 'also while clients are connected: their requests get 5 s, then they are cut off');
  withJson(command);
  withExamples(command, ['volseal detach disk.vol']);
  return command.action(async (volume: string, { force = false }: { force?: boolean }) => {
    const { detachVolume } = await import('../../attached/attachments.js');
    const { volumeId, path } = await detachVolume(ownRuntimeDirectory(), volume, force);
    output.result({ volumeId, path, detached: true }, [`detached ${path} (${volumeId}), flushed`]);
  });
}
