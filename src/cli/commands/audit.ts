/** `volseal audit`: the recorded calls to KMS. */

import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import type { AuditRecord } from '../../audit/record.js';
import { VOLUME_ID_CONTEXT_KEY } from '../../context-keys.js';
import { VolsealError } from '../../errors.js';
import { embeddedHome, type Session, withJson } from '../options.js';
import { withExamples } from '../output.js';

interface AuditFlags {
  volume?: string;
  key?: string;
  event?: string;
  since?: number;
  follow?: boolean;
}

/** The command with its subcommand; `session` is what they run with. */
export function auditCommand(session: Session): Command {
  const { output, signal } = session;
  const command = new Command('audit')
    .description('list the calls to KMS that this home made or its embedded KMS answered: when, what, who, which volume')
    .option('--volume <id>', 'of this volume: vol-...')
    .option('--key <key>', 'of this key: ARN or id')
    .option('--event <name>', 'Decrypt, CreateGrant ...')
    .option('--since <time>', 'from this time on: 2026-11-24 or 2026-11-24T07:00:00Z', timeArgument)
    .option('--follow', 'continue with new records until Ctrl-C')
    .option('--json', "one record a line, in CloudTrail's shape");
  withExamples(command, ['volseal audit', 'volseal audit --event Decrypt --json']);
  command.addCommand(verifyCommand(session));
  return command.action(async ({ volume, key, event, since, follow = false }: AuditFlags) => {
    const { contextOf, readAudit } = await import('../../audit/read.js');
    const question = { volumeId: volume, key, eventName: event, sinceMs: since };
    try {
      for await (const record of readAudit(await folders(), question, { follow, signal })) {
        output.result(record, [lineOf(record, contextOf(record)[VOLUME_ID_CONTEXT_KEY])]);
        await output.settled();
        signal.throwIfAborted();
      }
    } catch (error) {
      throw signal.aborted ? new VolsealError('ERR_ABORTED', 'stopped on request', { cause: error }) : error;
    }
  });
}

function verifyCommand({ output }: Session): Command {
  const command = new Command('verify').description('prove that no record was changed, removed, added or cut off');
  withJson(command);
  withExamples(command, ['volseal audit verify']);
  return command.action(async () => {
    const { verifyAudit } = await import('../../audit/verify.js');
    const logs: ({ folder: string } & Awaited<ReturnType<typeof verifyAudit>>)[] = [];
    const [embedded, calls] = await folders();
    logs.push({ folder: embedded, ...(await withAuditKey((authenticate) => verifyAudit(embedded, authenticate))) });
    logs.push({ folder: calls, ...(await verifyAudit(calls)) });
    const lines = logs.map(({ folder, records, tornLines, authenticated }) => {
      const torn = tornLines === 0 ? '' : `; ${tornLines} set aside: half written by killed processes`;
      return `${folder}: ${records} records in order${authenticated ? ', authenticated by the root key' : ''}${torn}`;
    });
    output.result({ logs }, lines);
    const bad = logs.find(({ broken }) => broken !== undefined);
    if (bad?.broken === undefined) return;
    const { line, problem } = bad.broken;
    throw new VolsealError('ERR_AUDIT', `${join(bad.folder, 'audit.jsonl')}: line ${line} ${problem}`, {
      details: { path: bad.folder, line },
    });
  });
}

async function home(): Promise<string> {
  const { defaultHome } = await import('../../kms/shared/endpoint.js');
  return resolve(embeddedHome() ?? defaultHome());
}

async function folders(): Promise<[embedded: string, calls: string]> {
  const { auditFolder } = await import('../../audit/log.js');
  const place = await home();
  return [auditFolder(place, 'embedded'), auditFolder(place, 'calls')];
}

/** Without a store there is no key, and nothing to authenticate: looking must not make one. */
async function withAuditKey<Result>(use: (authenticate?: (message: Uint8Array) => Buffer) => Promise<Result>): Promise<Result> {
  const place = await home();
  if (!existsSync(join(place, 'kms'))) return use();
  const { administerKms } = await import('../../kms/embedded/administration.js');
  const kms = administerKms(place);
  try {
    return await use(kms.auditKey);
  } finally {
    await kms.close();
  }
}

/** One record as a line: time, event, outcome, who, volume, key, and the grant that allowed it. */
function lineOf(record: AuditRecord, volumeId = ''): string {
  const { arn, invokedBy, accessKeyId } = record.userIdentity;
  const who = [arn ?? accessKeyId, arn === undefined ? invokedBy : invokedBy && `through ${invokedBy}`].filter(Boolean).join(' ');
  const grantId = record.volseal.grantId ?? record.additionalEventData?.grantId;
  return [
    record.eventTime,
    record.eventName.padEnd(15),
    record.errorCode ?? 'done',
    who,
    volumeId,
    ...record.resources.map(({ ARN }) => ARN),
    grantId === undefined ? '' : `grant ${String(grantId).slice(0, 12)}`,
  ]
    .filter((part) => part !== '')
    .join('  ');
}

/** @throws {InvalidArgumentError} */
function timeArgument(text: string): number {
  const time = Date.parse(text);
  if (Number.isNaN(time)) throw new InvalidArgumentError('Expected a time such as 2026-11-24 or 2026-11-24T07:00:00Z.');
  return time;
}
