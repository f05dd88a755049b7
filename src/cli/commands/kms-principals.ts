/** `volseal kms create-principal` and its like: who may ask the embedded KMS over HTTP, and what each may do. */
import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { namingPath } from '../../errors.js';
import type { KmsAdministration } from '../../kms/embedded/administration.js';
import { type Session, withJson } from '../options.js';
import { alignedRows, withExamples } from '../terminal/output.js';

const PRINCIPAL = 'user/NAME, role/NAME or an ARN of the embedded account';

/** The commands; `session` is what they run with. */
export const principalCommands = (session: Session): Command[] =>
  [createPrincipalCommand, listPrincipalsCommand, deletePrincipalCommand, createAccessKeyCommand, deleteAccessKeyCommand].map((make) =>
    make(session),
  );

function createPrincipalCommand({ output }: Session): Command {
  const command = new Command('create-principal')
    .description('make a user or a role of the embedded KMS, or give one other policies')
    .argument('<principal>', PRINCIPAL)
    .option('--policy <file>', 'identity policy, JSON; repeatable; without one only key policies and grants count', collect, []);
  withJson(command);
  withExamples(command, ['volseal kms create-principal user/anna']);
  return command.action(async (name: string, { policy }: { policy: string[] }) => {
    const policies = await Promise.all(policy.map((path) => namingPath(path, () => readFile(path, 'utf8'))));
    const principalArn = await administered('create', (kms) => kms.putPrincipal(name, policies));
    output.result({ principalArn, policies: policies.length }, [principalArn]);
  });
}

function listPrincipalsCommand({ output }: Session): Command {
  const command = new Command('list-principals').description('list the principals of the embedded KMS and their access keys');
  withJson(command);
  withExamples(command, ['volseal kms list-principals']);
  return command.action(async () => {
    const principals = await administered('existing', (kms) => kms.principals());
    if (principals.length === 0) output.warning('there is no principal but root yet: volseal kms create-principal makes one');
    const rows = principals.map(
      ({ principalArn, policies, accessKeyIds }) =>
        [principalArn, `policies: ${policies.length}; access keys: ${accessKeyIds.join(' ') || 'none'}`] as const,
    );
    output.result({ principals }, alignedRows(rows));
  });
}

function deletePrincipalCommand({ output }: Session): Command {
  const command = new Command('delete-principal')
    .description('remove a principal of the embedded KMS, its policies and access keys')
    .argument('<principal>', PRINCIPAL);
  withJson(command);
  withExamples(command, ['volseal kms delete-principal user/anna']);
  return command.action(async (name: string) => {
    await administered('existing', (kms) => kms.removePrincipal(name));
    output.result({ deleted: name }, [`${name} is gone`]);
  });
}

/** Prints what a shell can evaluate: the AWS command line and every SDK read these variables. */
function createAccessKeyCommand({ output }: Session): Command {
  const command = new Command('create-access-key')
    .description('make an access key of the embedded KMS and print it, this once')
    .argument('<principal>', `root, ${PRINCIPAL}`);
  withJson(command);
  withExamples(command, ['volseal kms create-access-key root > root.env  # then: . ./root.env']);
  return command.action(async (name: string) => {
    const key = await administered('create', (kms) => kms.createAccessKey(name));
    output.result(key, [`export AWS_ACCESS_KEY_ID=${key.accessKeyId}`, `export AWS_SECRET_ACCESS_KEY=${key.secretAccessKey}`]);
  });
}

function deleteAccessKeyCommand({ output }: Session): Command {
  const command = new Command('delete-access-key')
    .description('remove an access key of the embedded KMS: nothing signed with it is answered any more')
    .argument('<id>', 'its id, VSIA...');
  withJson(command);
  withExamples(command, ['volseal kms delete-access-key "$AWS_ACCESS_KEY_ID"']);
  return command.action(async (accessKeyId: string) => {
    await administered('existing', (kms) => kms.removeAccessKey(accessKeyId));
    output.result({ deleted: accessKeyId }, [`${accessKeyId} is gone`]);
  });
}

async function administered<Result>(mode: 'create' | 'existing', use: (kms: KmsAdministration) => Result): Promise<Result> {
  const [{ administerKms }, { defaultHome }] = await Promise.all([
    import('../../kms/embedded/administration.js'),
    import('../../kms/shared/environment.js'),
  ]);
  const kms = administerKms(defaultHome(), mode);
  try {
    return use(kms);
  } finally {
    await kms.close();
  }
}

const collect = (value: string, before: string[]): string[] => [...before, value];
