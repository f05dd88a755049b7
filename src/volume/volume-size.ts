/** Which sizes a volume can have. */
import { VOLUME_BYTES_MAX } from '../limits.js';

/**
 * What is wrong with a size, in words that follow a path and a colon; undefined for a size that a volume can have.
 *
 * @param sectorBytes 1 for an image that is padded
 */
export function sizeProblem(sizeBytes: number, sectorBytes: number): string | undefined {
  if (sizeBytes === 0) return 'a size of 0 bytes: it would be empty';
  if (!Number.isFinite(sizeBytes) || sizeBytes < 0) return `a size of ${sizeBytes} bytes is not possible`;
  if (sizeBytes > VOLUME_BYTES_MAX)
    return `a size of ${sizeBytes} bytes is too large: a volume has at most ${VOLUME_BYTES_MAX} bytes (8 PiB)`;
  if (sizeBytes % sectorBytes === 0) return undefined;
  return `a size of ${sizeBytes} bytes is not a whole number of ${sectorBytes}-byte sectors`;
}
