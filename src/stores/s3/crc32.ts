/** CRC-32 of two pieces one behind the other, from the CRC-32 of each: what S3 says of a whole object. */

/** The polynomial of ISO 3309, bits reversed. */
const POLYNOMIAL = 0xedb88320;
const BITS = 32;

/** A linear map on 32 bits: what it makes of each bit. */
type BitMap = readonly number[];

function apply(map: BitMap, vector: number): number {
  let sum = 0;
  for (let bit = 0; bit < BITS; bit += 1) if ((vector >>> bit) & 1) sum ^= map[bit]!;
  return sum >>> 0;
}

const squared = (map: BitMap): BitMap => map.map((column) => apply(map, column));

/** What one zero bit behind the data does to its CRC. */
const ONE_ZERO_BIT: BitMap = [POLYNOMIAL, ...Array.from({ length: BITS - 1 }, (_, bit) => 2 ** bit)];

/** What one zero byte does: three squarings of one bit. */
const ONE_ZERO_BYTE = squared(squared(squared(ONE_ZERO_BIT)));

/** The CRC-32 of what `first` is of, followed by `secondBytes` bytes whose CRC-32 is `second`. */
export function combineCrc32(first: number, second: number, secondBytes: number): number {
  let moved = first;
  let map = ONE_ZERO_BYTE;
  for (let left = secondBytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) moved = apply(map, moved);
    map = squared(map);
  }
  return (moved ^ second) >>> 0;
}

/** As S3 writes it: base64 of four bytes, most significant first. */
export function crc32Text(crc32: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc32);
  return bytes.toString('base64');
}

/** What `crc32Text` wrote; undefined where it is no such text. */
export function parseCrc32(text: string | undefined): number | undefined {
  const bytes = Buffer.from(text ?? '', 'base64');
  return bytes.length === 4 && bytes.toString('base64') === text ? bytes.readUInt32BE() : undefined;
}
