/**
 * What an image file holds, by its first bytes: containers and compressed files are no raw images, and encrypting one as if it were
 * gives a volume that no machine can start from.
 *
 * Sources: QEMU, docs/interop/qcow2.txt; Microsoft, "Virtual Hard Disk Image Format Specification" and [MS-VHDX], 2.2.1; VMware,
 * "Virtual Disk Format 5.0"; VirtualBox, VDICore.h; RFC 1952, 8478; the xz and lz4 frame formats; LUKS2 On-Disk Format, 2.1.
 */
import type { FileHandle } from 'node:fs/promises';
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

async function holds(file: FileHandle, sizeBytes: number, { atByte, magic }: Format): Promise<boolean> {
  const offsetBytes = atByte < 0 ? sizeBytes + atByte : atByte;
  if (offsetBytes < 0 || offsetBytes + magic.length > sizeBytes) return false;
  const { buffer, bytesRead } = await file.read(Buffer.alloc(magic.length), 0, magic.length, offsetBytes);
  return bytesRead === magic.length && buffer.equals(magic);
}

/**
 * Refuses an image file that is not raw by what it begins or ends with. A raw disk can look like that by chance or on purpose (a disk
 * that is one LUKS volume): callers have an option that insists.
 *
 * @param sizeBytes of the file
 * @throws {VolsealError} `ERR_ARGUMENT`, with `details.format`, `details.conversion` and perhaps `details.program`; `ERR_IO`
 */
export async function refuseOtherFormats(file: FileHandle, path: string, sizeBytes: number): Promise<void> {
  for (const format of FORMATS) {
    if (!(await holds(file, sizeBytes, format))) continue;
    const { name, conversion, program = '' } = format;
    throw new VolsealError('ERR_ARGUMENT', `${path}: is ${name}, not a raw image`, {
      details: { path, format: name, conversion, program },
    });
  }
}
