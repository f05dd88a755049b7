/** `volseal policy`: prints the permissions that a key needs, and checks whether a principal has them. */

import { Command } from 'commander';
import { VOLUME_ID_CONTEXT_KEY } from '../../context-keys.js';
import { VolsealError } from '../../errors.js';
import type { PermissionCheck } from '../../kms/client/permissions.js';
import { parseKeyArn } from '../../kms/shared/arn.js';
import type { EncryptionContext } from '../../kms/shared/encryption-context.js';
import { type KmsFlags, type Session, withContext, withJson, withKms } from '../options.js';
import { withExamples } from '../terminal/output.js';

/** The command with its subcommands; `session` is what they run with. */
export function policyCommand(session: Session): Command {
  const command = new Command('policy').description('permissions on KMS keys: what to allow, and what a principal may do');
  command.addCommand(administratorCommand(session));
  command.addCommand(checkCommand(session));
  return withExamples(command, ['volseal policy check --as user/anna --key alias/aws/ebs']);
}

function administratorCommand({ output }: Session): Command {
  const command = new Command('administrator')
    .description('print the permissions that an administrator of WorkSpaces needs, or with --stores what S3 and EBS need')
    .option('--key <arn>', 'ARN of the KMS key; with --stores only where EBS encrypts snapshots under it')
    .option('--as <arn>', "the administrator (default: a role WorkSpacesAdministrator of the key's account)")
    .option('--console', 'also what the console needs to show a list of keys')
    .option('--stores', 'the identity policy that images and volumes in S3 and EBS snapshots need')
    .option('--bucket <name>', 'with --stores: of this bucket only');
  withJson(command);
  withExamples(command, [
    'volseal policy administrator --key "$(volseal kms create-key)"',
    'volseal policy administrator --stores --bucket images',
  ]);
  return command.action(async ({ key, as, console: withConsole = false, stores = false, bucket }: AdministratorFlags) => {
    if (stores) {
      const policy = await storesPolicy(bucket, key);
      return output.result(policy, JSON.stringify(policy, undefined, 2).split('\n'));
    }
    if (key === undefined || bucket !== undefined)
      throw new VolsealError('ERR_ARGUMENT', key === undefined ? '--key is missing: the ARN of the KMS key' : '--bucket is for --stores');
    const { administratorPolicies } = await import('../../kms/client/policy-documents.js');
    const policies = administratorPolicies(key, as, withConsole);
    const text = (value: unknown) => JSON.stringify(value, undefined, 2).split('\n');
    output.result(policies, [
      'Part 1: add these statements to the policy of the key',
      ...text(policies.keyPolicyStatements),
      '',
      'Part 2: give the administrator this identity policy',
      ...text(policies.identityPolicy),
    ]);
  });
}

interface AdministratorFlags {
  key?: string;
  as?: string;
  console?: boolean;
  stores?: boolean;
  bucket?: string;
}

/** @throws {VolsealError} `ERR_ARGUMENT` */
async function storesPolicy(bucket: string | undefined, key: string | undefined) {
  if (key !== undefined && parseKeyArn(key) === undefined)
    throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(key)} is not the ARN of a key; policies name keys by ARN`);
  const [{ storePolicy }, { s3Location }] = await Promise.all([
    import('../../stores/policy-statements.js'),
    import('../../stores/location.js'),
  ]);
  if (bucket !== undefined) s3Location(`s3://${bucket}/key`);
  return storePolicy(bucket, key);
}

interface CheckFlags extends KmsFlags {
  as: string;
  key: string;
  context?: EncryptionContext;
  workspaces?: boolean;
}

function checkCommand({ output, signal }: Session): Command {
  const command = new Command('check')
    .description('tell whether a principal may create and attach volumes, and print the statements that are missing; nothing is made')
    .requiredOption('--as <principal>', 'embedded: user/NAME, role/NAME, an ARN or a service; AWS: the ARN of a role that can be assumed')
    .requiredOption('--key <key>', 'KMS key id, ARN or alias')
    .option('--workspaces', 'also what it takes to make and terminate WorkSpaces');
  withContext(command, `pair of the encryption context, besides ${VOLUME_ID_CONTEXT_KEY}; repeatable`);
  withJson(withKms(command, 'embedded'));
  withExamples(command, ['volseal policy check --as user/anna --key alias/aws/ebs']);
  return command.action(async ({ as, key, context = {}, workspaces, ...flags }: CheckFlags) => {
    const [{ checkPermissions }, { chooseKms }] = await Promise.all([
      import('../../kms/client/permissions.js'),
      import('../../kms/shared/endpoint.js'),
    ]);
    const endpoint = chooseKms(flags);
    // A key's ARN names the account, where another than the default was chosen.
    const accountId = parseKeyArn(key)?.accountId ?? '000000000000';
    const principal = endpoint.kind === 'embedded' && /^(root$|user\/|role\/)/.test(as) ? `arn:aws:iam::${accountId}:${as}` : as;
    const checks = await checkPermissions(endpoint, { principal, keyId: key, contextPairs: context, workspaces, signal });
    const denied = checks.filter(({ allowed }) => allowed === false);
    output.result({ principal, key, allowed: denied.length === 0, checks }, checks.flatMap(linesOf));
    if (denied.length === 0) return;
    const names = [...new Set(denied.map(({ action }) => `kms:${action}`))].join(', ');
    throw new VolsealError('ERR_KMS_DENIED', `${principal} may not do everything: ${names}`, {
      details: { name: 'PolicyCheck', principal },
    });
  });
}

function linesOf({ purpose, action, allowed, reason, missing }: PermissionCheck): string[] {
  const answer = allowed === undefined ? 'not tried' : allowed ? 'allowed' : 'DENIED';
  return [
    `${purpose.padEnd(10)} kms:${action.padEnd(32)} ${answer}`,
    ...(reason === undefined ? [] : [`${''.padEnd(11)}${reason}`]),
    ...(missing === undefined ? [] : [`${''.padEnd(11)}missing: ${JSON.stringify(missing)}`]),
  ];
}
