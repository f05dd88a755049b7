/** What to do where header and data do not belong together (hints.ts has the other hints). */
import type { ErrorDetails } from '../errors.js';
import { quoted } from './text.js';

/** For `ERR_DATA_MISMATCH`. */
export function dataMismatchHint({ details, command }: { details: ErrorDetails; command: string }): string {
  const { header, isOldCopy, volumeId } = details;
  if (isOldCopy === true) return 'Leave out the option for the header: the volume has the header that belongs to its data.';
  if (command === 'adopt')
    return 'Name the data of this header; nothing was changed. If you know that it is, because the volume is empty or its contents are encrypted once more: --any-data';
  return `Name the header of this data, or the data of this header. Keep ${typeof header === 'string' ? quoted(header) : 'HEADER'}: without it the data of ${volumeId ?? 'its volume'} is lost. Only if you know that the two belong together, and the image is random and was rewritten by other tools: --any-data`;
}
