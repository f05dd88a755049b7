/**
 * What an image file holds, by its first bytes: containers and compressed files are no raw images, and encrypting one
 * as if it were gives a volume that no machine can start from.
 *
 * Sources: QEMU, interop/qcow2.txt in its documentation; Microsoft, "Virtual Hard Disk Image Format Specification" and
 * [MS-VHDX], 2.2.1; VMware, "Virtual Disk Format 5.0"; VirtualBox, VDICore.h; RFC 1952, 8478; the xz and lz4 frame
 * formats; LUKS2 On-Disk Format, 2.1.
 */
import { VolsealError } from '../errors.js';

/** How a format is turned into a raw image. */
export type Conversion = 'qemu-img' | 'decompress' | 'simg2img' | 'luks';

interface Format {
  /** With its article. */
  readonly name: string;
  readonly conversion: Conversion;
  /** Where the magic is, from the start of the file; negative: from its end. */
  readonly atByte: number;
  readonly magic: Buffer;
  /** The program that writes the content to standard output, where there is one of its own. */
  readonly program?: string;
}

const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
const text = (ascii: string): Buffer => Buffer.from(ascii, 'latin1');

const FORMATS: readonly Format[] = [
  { name: 'a qcow2 image', conversion: 'qemu-img', atByte: 0, magic: bytes('514649fb') },
  { name: 'a QED image', conversion: 'qemu-img', atByte: 0, magic: text('QED\0') },
  { name: 'a VHDX image', conversion: 'qemu-img', atByte: 0, magic: text('vhdxfile') },
  { name: 'a VHD image', conversion: 'qemu-img', atByte: 0, magic: text('conectix') },
  // A fixed VHD is a raw image with a footer.
  { name: 'a VHD image', conversion: 'qemu-img', atByte: -512, magic: text('conectix') },
  { name: 'a VMDK image', conversion: 'qemu-img', atByte: 0, magic: text('KDMV') },
  { name: 'a VMDK image', conversion: 'qemu-img', atByte: 0, magic: text('COWD') },
  { name: 'a VMDK descriptor', conversion: 'qemu-img', atByte: 0, magic: text('# Disk DescriptorFile') },
  { name: 'a VDI image', conversion: 'qemu-img', atByte: 64, magic: bytes('7f10dabe') },
  { name: 'a Parallels image', conversion: 'qemu-img', atByte: 0, magic: text('WithoutFreeSpace') },
  { name: 'a Parallels image', conversion: 'qemu-img', atByte: 0, magic: text('WithouFreSpacExt') },
  { name: 'a DMG image', conversion: 'qemu-img', atByte: -512, magic: text('koly') },
  { name: 'an Android sparse image', conversion: 'simg2img', atByte: 0, magic: bytes('3aff26ed') },
  { name: 'a gzip file', conversion: 'decompress', atByte: 0, magic: bytes('1f8b08'), program: 'gzip' },
  { name: 'an xz file', conversion: 'decompress', atByte: 0, magic: bytes('fd377a585a00'), program: 'xz' },
  { name: 'a Zstandard file', conversion: 'decompress', atByte: 0, magic: bytes('28b52ffd'), program: 'zstd' },
  { name: 'a bzip2 file', conversion: 'decompress', atByte: 0, magic: text('BZh'), program: 'bzip2' },
  { name: 'a lz4 file', conversion: 'decompress', atByte: 0, magic: bytes('04224d18'), program: 'lz4' },
  { name: 'a 7-Zip archive', conversion: 'decompress', atByte: 0, magic: bytes('377abcaf271c') },
  { name: 'a ZIP archive', conversion: 'decompress', atByte: 0, magic: bytes('504b0304') },
  { name: 'a compressed ISO image', conversion: 'decompress', atByte: 0, magic: text('CISO') },
  { name: 'a LUKS volume', conversion: 'luks', atByte: 0, magic: bytes('4c554b53babe') },
];

/** What a format or a partition table can be recognised by. */
export interface ImageEdges {
  /**
   * The first bytes of the image: to the end of a GPT header's signature in sectors of 4096 bytes, or all of a shorter
   * image.
   */
  readonly head: Buffer;
  /** The last 512 bytes, or all of a shorter image. */
  readonly tail: Buffer;
}

const HEAD_BYTES = 4096 + 8;
const TAIL_BYTES = 512;

/** A file or an object, as far as it is looked at. */
export interface Readable {
  /** Up to `bytesMax` bytes from `offsetBytes` on. */
  read(offsetBytes: number, bytesMax: number): Promise<Buffer>;
}

/** Reads both. @param sizeBytes of the file @throws {VolsealError} `ERR_IO` */
export async function readEdges(file: Readable, sizeBytes: number): Promise<ImageEdges> {
  const head = await file.read(0, Math.min(HEAD_BYTES, sizeBytes));
  const tailBytes = Math.min(TAIL_BYTES, sizeBytes);
  return { head, tail: await file.read(sizeBytes - tailBytes, tailBytes) };
}

/** A magic from the end is at the start of the tail; one in a shorter file is none. */
function holds({ head, tail }: ImageEdges, { atByte, magic }: Format): boolean {
  const area = atByte < 0 ? tail.subarray(Math.max(tail.length + atByte, 0)) : head.subarray(atByte);
  return area.subarray(0, magic.length).equals(magic);
}

/**
 * Refuses an image file that is not raw by what it begins or ends with. A raw disk can look like that by chance or on
 * purpose (a disk that is one LUKS volume): callers have an option that insists.
 *
 * @param path for the message
 * @throws {VolsealError} `ERR_ARGUMENT`, with `details.format`, `details.conversion` and perhaps `details.program`
 */
export function refuseOtherFormats(edges: ImageEdges, path: string): void {
  const format = FORMATS.find((candidate) => holds(edges, candidate));
  if (format === undefined) return;
  const { name, conversion, program = '' } = format;
  throw new VolsealError('ERR_ARGUMENT', `${path}: is ${name}, not a raw image`, { details: { path, format: name, conversion, program } });
}
