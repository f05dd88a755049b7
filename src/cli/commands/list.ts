/** `volseal list`: the volumes of a directory. */
import { Command } from 'commander';
import { type Session, withJson } from '../options.js';
import { alignedRows, withExamples } from '../terminal/output.js';
import { humanSize } from '../terminal/sizes.js';

/** The command; `session` is what it runs with. */
export function listCommand({ output, signal }: Session): Command {
  const command = new Command('list')
    .description('list the volumes in a directory by their headers; needs no key and asks no KMS')
    .argument('[directory]', 'the directory; directories in it are not entered', '.');
  withJson(command);
  withExamples(command, ['volseal list']);
  return command.action(async (directory: string) => {
    const { listVolumes } = await import('../../volume/list.js');
    const listed = await listVolumes(directory, { signal });
    if (listed.length === 0) output.warning(`${directory}: no volumes in it`);
    const volumes = listed.map(({ path, info, error }) =>
      info === undefined ? { path, error: { code: error.code, message: error.message } } : info,
    );
    const rows = listed.map(({ path, info, error }) => {
      if (info === undefined) return [path, `cannot be described: ${error.message}`] as const;
      return [path, `${info.volumeId}  ${humanSize(info.sizeBytes)}  ${info.allocation}  ${info.keyId}`] as const;
    });
    output.result({ volumes }, rows.length === 0 ? [] : alignedRows(rows));
  });
}
