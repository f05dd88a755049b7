/** Sizes and offsets as people write them. */
import { VolsealError } from './errors.js';

const UNIT_BYTES: Readonly<Record<string, bigint>> = { '': 1n, K: 1n << 10n, M: 1n << 20n, G: 1n << 30n, T: 1n << 40n };

/**
 * Parses digits and an optional letter K, M, G or T (powers of 1024, as in qemu-img), in upper or lower case, or the
 * unit as volseal prints it: `8MiB` or `8 MiB`. Units of 1000 (`8MB`) are refused: few people mean them.
 *
 * @returns bytes, an exact integer
 * @throws {VolsealError} `ERR_ARGUMENT`, also beyond JavaScript's exact integers (8 PiB)
 */
export function parseSize(text: string): number {
  const [, digits, unit] = /^([0-9]+)(?: ?([KMGT])iB|([KMGT]?))$/i.exec(text)?.filter((part) => part !== undefined) ?? [];
  if (digits === undefined || unit === undefined) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${JSON.stringify(text)} is not a number of bytes: expected digits and an optional K, M, G or T (powers of 1024: 8M is 8MiB)`,
    );
  }
  const bytes = BigInt(digits) * UNIT_BYTES[unit.toUpperCase()]!;
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(text)} is too large: the largest is ${Number.MAX_SAFE_INTEGER} bytes (8 PiB)`);
  }
  return Number(bytes);
}
