/** `volseal kms init` and `volseal kms backup`: the embedded KMS's root key and its copies. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import { type Session, withJson } from '../options.js';
import { withExamples } from '../terminal/output.js';

interface InitFlags {
  passphraseFile?: string;
  command?: boolean;
  region?: string;
  account?: string;
}

/** Makes a KMS whose root key does not lie beside its store; without it the first use makes one with a key file. */
export function initCommand({ output }: Session): Command {
  const command = new Command('init')
    .description('make the embedded KMS of $VOLSEAL_HOME with a root key that does not lie in a file beside it')
    .option(
      '--passphrase-file <file>',
      'seal the root key under the passphrase in the first line of this file, which has to be there later too',
    )
    .option('--region <name>', 'the region that its ARNs name instead of local')
    .option('--account <number>', 'the account that its ARNs name instead of 000000000000')
    .option('--command', 'the command that follows prints the root key: 32 bytes in base64, the same each time')
    .argument('[command...]', 'a program and its arguments, run without a shell');
  withJson(command);
  withExamples(command, [
    'volseal kms init --command -- cat /run/keys/volseal.base64',
    'volseal kms init --passphrase-file ~/.volseal-passphrase',
    'volseal kms init --region eu-west-1 --account 111122223333',
  ]);
  return command.action(async (words: string[], { passphraseFile, command: isCommand = false, region, account }: InitFlags) => {
    const isChosen = region !== undefined || account !== undefined;
    const isFile = passphraseFile !== undefined;
    if ((isFile && isCommand) || isCommand !== words.length > 0 || !(isFile || isCommand || isChosen)) {
      throw new VolsealError('ERR_ARGUMENT', 'the root key comes from --passphrase-file FILE or from --command -- PROGRAM ARGUMENTS');
    }
    const { initialiseKms } = await import('../../kms/embedded/administration.js');
    const home = await homeDirectory();
    const choice = isFile ? { passphraseFile: resolve(passphraseFile) } : isCommand ? { command: words } : undefined;
    const chosen = { ...(region === undefined ? {} : { region }), ...(account === undefined ? {} : { accountId: account }) };
    await initialiseKms(home, choice, chosen);
    output.result({ home }, [`the embedded KMS in ${home} is made`]);
  });
}

/** The store as it is at one moment, for `cp -a` back into a home. */
export function backupCommand({ output }: Session): Command {
  const command = new Command('backup')
    .description(
      'copy the embedded KMS of $VOLSEAL_HOME to a new directory, while it is in use; to restore, copy that directory to $VOLSEAL_HOME/kms',
    )
    .argument('<directory>', 'the new directory')
    .option('--with-root-key', 'also copy the key file: whoever has that copy has every key in it');
  withJson(command);
  withExamples(command, ['volseal kms backup kms-backup']);
  return command.action(async (directory: string, { withRootKey = false }: { withRootKey?: boolean }) => {
    const { administerKms } = await import('../../kms/embedded/administration.js');
    const kms = administerKms(await homeDirectory(), 'existing');
    try {
      const { rootKey } = await kms.backUp(resolve(directory), withRootKey);
      const other =
        rootKey === undefined
          ? 'with its root key: keep it as safe as the keys themselves'
          : `without its root key: keep that apart, ${rootKey}`;
      output.result({ directory: resolve(directory), rootKey: rootKey ?? null }, [`${directory} is a copy of the embedded KMS, ${other}`]);
    } finally {
      await kms.close();
    }
  });
}

async function homeDirectory(): Promise<string> {
  const { defaultHome } = await import('../../kms/shared/environment.js');
  return defaultHome();
}
