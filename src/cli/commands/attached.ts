/** `volseal attached`: the volumes that this user has attached. */
import { Command } from 'commander';
import type { Attachment } from '../../attached/attachments.js';
import { type Session, withJson } from '../options.js';
import { ownRuntimeDirectory } from '../runtime.js';
import { alignedRows, withExamples } from '../terminal/output.js';
import { humanSize } from '../terminal/sizes.js';

/** The command; `session` is what it runs with. */
export function attachedCommand({ output }: Session): Command {
  const command = new Command('attached').description('list the volumes that this user has attached');
  withExamples(withJson(command), ['volseal attached']);
  return command.action(async () => {
    const { listAttachments } = await import('../../attached/attachments.js');
    const attached = await listAttachments(ownRuntimeDirectory());
    if (attached.length === 0) output.warning('no volume is attached: volseal attach VOLUME attaches one');
    output.result({ attached }, attached.flatMap(linesOf));
  });
}

function linesOf(attachment: Attachment): string[] {
  const { volumeId, path, uri, pid, readOnly, since, device, mountedFile, metrics, status } = attachment;
  const optional = { device, file: mountedFile, metrics };
  return [
    volumeId,
    ...alignedRows([
      ['  volume', path],
      ['  uri', uri],
      ...Object.entries(optional).flatMap(([label, value]) => (value === null ? [] : [[`  ${label}`, value] as const])),
      ['  process', `${pid}, since ${since}${readOnly ? ', read-only' : ''}`],
      ['  clients', status === null ? 'unknown: the process does not answer' : trafficOf(status)],
    ]),
  ];
}

function trafficOf({ clients, requests, readBytes, writtenBytes, errors }: NonNullable<Attachment['status']>): string {
  const failed = errors === 0 ? '' : `, ${errors} failed`;
  return `${clients} now; ${requests} requests${failed}, ${humanSize(readBytes)} read, ${humanSize(writtenBytes)} written`;
}
