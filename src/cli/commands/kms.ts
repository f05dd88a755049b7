/** `volseal kms`: keys and aliases of a KMS; the embedded one as a server, and its principals. */
import { Command } from 'commander';
import type { Kms } from '../../kms/client/calls.js';
import { type KmsFlags, type Session, withJson, withKms } from '../options.js';
import { alignedRows, withExamples } from '../terminal/output.js';
import { principalCommands } from './kms-principals.js';
import { serveCommand } from './kms-serve.js';
import { backupCommand, initCommand } from './kms-store.js';

/** The command with its subcommands; `session` is what they run with. */
export function kmsCommand(session: Session): Command {
  const command = new Command('kms').description('keys and aliases of a KMS; the embedded KMS as a server, and who may ask it');
  for (const make of [
    serveCommand,
    createKeyCommand,
    listKeysCommand,
    enableKeyCommand,
    disableKeyCommand,
    createAliasCommand,
    updateAliasCommand,
    deleteAliasCommand,
    listAliasesCommand,
    initCommand,
    backupCommand,
  ]) {
    command.addCommand(make(session));
  }
  for (const subcommand of principalCommands(session)) command.addCommand(subcommand);
  return withExamples(command, ['volseal kms list-keys']);
}

/** Prints the new key's ARN alone, for `$(...)`. */
function createKeyCommand({ output, signal }: Session): Command {
  const command = new Command('create-key')
    .description('make a KMS key and print its ARN')
    .option('--description <text>', 'what the key is for');
  withJson(withKms(command, 'embedded'));
  withExamples(command, ["volseal kms create-key --description 'disks of team A'"]);
  return command.action(async (flags: KmsFlags & { description?: string }) => {
    const { description } = flags;
    const key = await withKmsOf(flags, signal, (kms) => kms.createKey(description === undefined ? {} : { description }), true);
    output.result(key, [key.keyArn]);
  });
}

function listKeysCommand({ output, signal }: Session): Command {
  const command = new Command('list-keys').description('list the keys of a KMS');
  withJson(withKms(command, 'embedded'));
  withExamples(command, ['volseal kms list-keys']);
  return command.action(async (flags: KmsFlags) => {
    const keys = await withKmsOf(flags, signal, (kms) => kms.listKeys());
    if (keys.length === 0) output.warning('there is no key yet: volseal kms create-key makes one');
    output.result({ keys }, alignedRows(keys.map(({ keyId, keyArn }) => [keyId, keyArn])));
  });
}

function enableKeyCommand({ output, signal }: Session): Command {
  const command = new Command('enable-key').description('let a disabled KMS key work again').argument('<key>', 'id or ARN of the key');
  withJson(withKms(command, 'embedded'));
  withExamples(command, ['volseal kms enable-key "$(volseal kms create-key)"']);
  return command.action(async (keyId: string, flags: KmsFlags) => {
    await withKmsOf(flags, signal, (kms) => kms.enableKey({ keyId }));
    output.result({ keyId, state: 'Enabled' }, [`${keyId} is enabled`]);
  });
}

function disableKeyCommand({ output, signal }: Session): Command {
  const command = new Command('disable-key')
    .description('let nobody use a KMS key until it is enabled again; volumes that are attached stay so')
    .argument('<key>', 'id or ARN of the key');
  withJson(withKms(command, 'embedded'));
  withExamples(command, ['volseal kms disable-key "$(volseal kms create-key)"']);
  return command.action(async (keyId: string, flags: KmsFlags) => {
    await withKmsOf(flags, signal, (kms) => kms.disableKey({ keyId }));
    output.result({ keyId, state: 'Disabled' }, [
      `${keyId} is disabled; volumes under it cannot be opened: volseal kms enable-key ${keyId}`,
    ]);
  });
}

function createAliasCommand({ output, signal }: Session): Command {
  const command = new Command('create-alias')
    .description('give a KMS key a name')
    .argument('<alias>', 'alias/NAME')
    .argument('<key>', 'id or ARN of the key');
  withJson(withKms(command, 'embedded'));
  withExamples(command, ['volseal kms create-alias alias/disks "$(volseal kms create-key)"']);
  return command.action(async (aliasName: string, keyId: string, flags: KmsFlags) => {
    await withKmsOf(flags, signal, (kms) => kms.createAlias({ aliasName, keyId }));
    output.result({ aliasName, keyId }, [`${aliasName} now names ${keyId}`]);
  });
}

function updateAliasCommand({ output, signal }: Session): Command {
  const command = new Command('update-alias')
    .description('have an alias name another KMS key; volumes stay under the key that they have')
    .argument('<alias>', 'alias/NAME')
    .argument('<key>', 'id or ARN of the key');
  withJson(withKms(command, 'embedded'));
  withExamples(command, [
    'volseal kms create-alias alias/team "$(volseal kms create-key)"',
    'volseal kms update-alias alias/team "$(volseal kms create-key)"',
  ]);
  return command.action(async (aliasName: string, keyId: string, flags: KmsFlags) => {
    await withKmsOf(flags, signal, (kms) => kms.updateAlias({ aliasName, keyId }));
    output.result({ aliasName, keyId }, [`${aliasName} now names ${keyId}`]);
  });
}

function deleteAliasCommand({ output, signal }: Session): Command {
  const command = new Command('delete-alias')
    .description('remove an alias; its KMS key and the volumes under that stay')
    .argument('<alias>', 'alias/NAME');
  withJson(withKms(command, 'embedded'));
  withExamples(command, ['volseal kms create-alias alias/gone "$(volseal kms create-key)"', 'volseal kms delete-alias alias/gone']);
  return command.action(async (aliasName: string, flags: KmsFlags) => {
    await withKmsOf(flags, signal, (kms) => kms.deleteAlias({ aliasName }));
    output.result({ deleted: aliasName }, [`${aliasName} is gone`]);
  });
}

function listAliasesCommand({ output, signal }: Session): Command {
  const command = new Command('list-aliases').description('list the aliases of a KMS and the keys they name');
  withJson(withKms(command, 'embedded'));
  withExamples(command, ['volseal kms list-aliases']);
  return command.action(async (flags: KmsFlags) => {
    const aliases = await withKmsOf(flags, signal, (kms) => kms.listAliases());
    if (aliases.length === 0) output.warning('there is no alias yet: volseal kms create-alias makes one');
    const listed = aliases.map((alias) => ({ ...alias, keyId: alias.keyId ?? null }));
    output.result({ aliases: listed }, alignedRows(listed.map(({ aliasName, keyId }) => [aliasName, keyId ?? 'no key yet'])));
  });
}

async function withKmsOf<Result>(
  flags: KmsFlags,
  signal: AbortSignal,
  use: (kms: Kms) => Promise<Result>,
  makesKey = false,
): Promise<Result> {
  const [{ openKms }, { chooseKms, forNewKeys }] = await Promise.all([
    import('../../kms/client/calls.js'),
    import('../../kms/shared/endpoint.js'),
  ]);
  const endpoint = chooseKms(flags);
  const kms = openKms(makesKey ? forNewKeys(endpoint) : endpoint, signal);
  try {
    return await use(kms);
  } finally {
    kms.close();
  }
}
