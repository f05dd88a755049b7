/** Volume ids, in the shape that EBS gives them: `vol-` and 17 hexadecimal digits. */
import { randomBytes } from 'node:crypto';

const VOLUME_ID = /^vol-[0-9a-f]{17}$/;

/** Whether `text` has the shape of a volume id. */
export const isVolumeId = (text: string): boolean => VOLUME_ID.test(text);

/** A new id. Its first digit is 0, as EBS's are; the other 16 are random: two volumes of a fleet never share one. */
export function newVolumeId(): string {
  return `vol-0${randomBytes(8).toString('hex')}`;
}
