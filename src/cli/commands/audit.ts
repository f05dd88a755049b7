/** `volseal audit`: the recorded calls to KMS. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import type { AuditRecord } from '../../audit/record.js';
import type { LogOwner } from '../../audit/state.js';
import { VOLUME_ID_CONTEXT_KEY } from '../../context-keys.js';
import { VolsealError } from '../../errors.js';
import { type Session, withJson } from '../options.js';
import { withExamples } from '../terminal/output.js';

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
  command.addCommand(restartCommand(session));
  return command.action(async ({ volume, key, event, since, follow = false }: AuditFlags) => {
    const { contextOf, readAudit } = await import('../../audit/read.js');
    const question = { volumeId: volume, key, eventName: event, sinceMs: since };
    try {
      for await (const record of readAudit(await directories(), question, { follow, signal })) {
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
    const logs: ({ directory: string } & Awaited<ReturnType<typeof verifyAudit>>)[] = [];
    await eachLog(async (directory, owner) => void logs.push({ directory, ...(await verifyAudit(directory, owner)) }));
    const lines = logs.map(({ directory, records, begunAfter, tornLines, authenticated }) => {
      const begun = begunAfter === 0 ? '' : `; begun anew after record ${begunAfter}`;
      const torn = tornLines === 0 ? '' : `; ${tornLines} cut off by a kill or a power cut, in audit.torn-*`;
      return `${directory}: ${records} records in order${authenticated ? ', authenticated by the root key' : ''}${begun}${torn}`;
    });
    output.result({ logs }, lines);
    const bad = logs.find(({ broken }) => broken !== undefined);
    if (bad?.broken === undefined) return;
    const { line, problem } = bad.broken;
    throw new VolsealError('ERR_AUDIT', `${join(bad.directory, 'audit.jsonl')}: line ${line} ${problem}`, {
      details: { path: bad.directory, line },
    });
  });
}

function restartCommand({ output }: Session): Command {
  const command = new Command('restart').description('begin a new log where verify fails; what is left of the old one is kept beside it');
  withExamples(command, ['volseal audit restart']);
  return command.action(async () => {
    const [{ verifyAudit }, { AuditLog }] = await Promise.all([import('../../audit/verify.js'), import('../../audit/log.js')]);
    const restarted: string[] = [];
    await eachLog(async (directory, owner) => {
      const proof = await verifyAudit(directory, owner).catch((error: unknown) => ({ broken: error }));
      if (proof.broken === undefined) return;
      new AuditLog(directory, owner).restart();
      restarted.push(directory);
    });
    const lines = restarted.map((directory) => `${directory}: a new log; the old one is kept as audit-until-*.jsonl`);
    output.result({ restarted }, lines.length === 0 ? ['nothing to do: every log is whole'] : lines);
  });
}

async function home(): Promise<string> {
  const { defaultHome } = await import('../../kms/shared/environment.js');
  return defaultHome();
}

async function directories(): Promise<[embedded: string, calls: string]> {
  const { auditDirectory } = await import('../../audit/log.js');
  const place = await home();
  return [auditDirectory(place, 'embedded'), auditDirectory(place, 'calls')];
}

/** Both logs of the home, each with its owner. Where the embedded KMS has no store, none is made. */
async function eachLog(use: (directory: string, owner: LogOwner) => Promise<void>): Promise<void> {
  const [embedded, calls] = await directories();
  const { fileOwner } = await import('../../audit/log.js');
  const place = await home();
  if (existsSync(join(place, 'kms', 'store.mdb'))) {
    const { administerKms } = await import('../../kms/embedded/administration.js');
    const kms = administerKms(place);
    try {
      await use(embedded, kms.auditOwner);
    } finally {
      await kms.close();
    }
  } else await use(embedded, { state: { read: () => undefined, write() {} } });
  await use(calls, fileOwner(calls));
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
