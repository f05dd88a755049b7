/** What to do about an image in the middle of a job in place. */
import { basename } from 'node:path';
import type { ErrorDetails } from '../../errors.js';
import { inPlaceJournalName } from '../../output/in-place-mark.js';
import { quoted, shown } from '../terminal/text.js';

/** They open such a volume themselves: where they are refused, its journal is missing or damaged. */
const OPENERS = ['decrypt', 'verify', 'read', 'write', 'attach', 'serve'];

/** How the job ends, of a command that it kept away. */
export function inPlaceHint({ path, kind, journal }: ErrorDetails, command: string): string {
  const image = shown(path, 'IMAGE');
  // Beside a file of another name, or elsewhere.
  const isUsual = typeof journal !== 'string' || (typeof path === 'string' && basename(journal) === inPlaceJournalName(path));
  const where = isUsual ? '' : ` --journal ${quoted(journal)}`;
  const job =
    kind === undefined
      ? `the command that began it (encrypt, decrypt or reencrypt) in place for ${image} again${where && `, with${where}`}`
      : `volseal ${String(kind)}${kind === 'reencrypt' ? '' : ' --in-place'} ${image}${where} again, with the options of the first time`;
  const meanwhile =
    kind === undefined || OPENERS.includes(command) ? '' : ' Until then decrypt, verify, read, write and attach open the volume.';
  return `Run ${job}: it goes on where it was stopped, and with --undo it takes back what was done. Keep the journal.${meanwhile}`;
}

/** Of a full disk. */
export const noRoomInPlaceHint = ({ inPlace }: ErrorDetails): string =>
  inPlace === true
    ? 'Free some space on that disk, then run the same command again; or with --undo.'
    : 'Nothing was changed. Free some space, or put the journal on another disk: --journal FILE. With the header in front the file grows by 1 MiB; with --header FILE it does not.';
