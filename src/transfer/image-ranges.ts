/** One image in ranges, each of which is a job of its own, on any machine. */
import { VolsealError } from '../errors.js';
import { RANGES_MAX, RESUME_UNIT_BYTES } from '../limits.js';

/** Part of an image, by its bytes. */
export interface ImageRange {
  /** Counts the ranges of the image, from 0. */
  readonly index: number;
  /** Its first byte: a multiple of 1 MiB. */
  readonly startByte: number;
  /** The byte behind its last one. */
  readonly endByte: number;
}

/**
 * Cuts an image into ranges that meet, of one length but for the last one.
 * @param rangeBytes whole MiB: whole sectors of every size, and what the engine moves at once
 * @param name of the image, for the message @throws {VolsealError} `ERR_ARGUMENT` there would be too many
 */
export function cutIntoRanges(imageBytes: number, rangeBytes: number, name: string): ImageRange[] {
  if (rangeBytes <= 0 || rangeBytes % RESUME_UNIT_BYTES !== 0) throw new Error(`ranges of ${rangeBytes} bytes are not whole MiB`);
  const count = Math.ceil(imageBytes / rangeBytes);
  if (count > RANGES_MAX)
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${name}: ${imageBytes} bytes in ranges of ${rangeBytes} are ${count} ranges; there are at most ${RANGES_MAX}: make them larger`,
      { details: { path: name, ranges: count, rangesMax: RANGES_MAX } },
    );
  return Array.from({ length: count }, (_, index) => ({
    index,
    startByte: index * rangeBytes,
    endByte: Math.min((index + 1) * rangeBytes, imageBytes),
  }));
}
