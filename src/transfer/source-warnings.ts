/** What an image tells about itself that a user should know before it is encrypted, and that does not stop the job. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { NamedFile } from '../output/named-file.js';
import type { ImageEdges } from './image-format.js';

const GPT_SIGNATURE = Buffer.from('EFI PART', 'latin1');
const MBR_BYTES = 512;
/** Four entries of 16 bytes, then the signature. */
const MBR_ENTRIES_AT = 446;

/** A boot sector ends like a partition table; a table has entries with a status of 0 or 0x80, and a type. */
function isMbr(sector: Buffer): boolean {
  if (sector.length < MBR_BYTES || sector.readUInt16LE(510) !== 0xaa55) return false;
  const entries = [0, 1, 2, 3].map((index) => sector.subarray(MBR_ENTRIES_AT + 16 * index, MBR_ENTRIES_AT + 16 * (index + 1)));
  return entries.every(([status]) => status === 0 || status === 0x80) && entries.some((entry) => entry[4] !== 0);
}

/**
 * The sector size that an image's partition table counts in: GPT's header is in the second sector (UEFI Specification,
 * 5.3.2); an MBR does not say, and nearly all count in 512 bytes.
 *
 * @returns undefined where there is no partition table
 */
function partitionSectorBytes({ head }: ImageEdges): number | undefined {
  const isGpt = (sectorBytes: number): boolean => head.subarray(sectorBytes, sectorBytes + GPT_SIGNATURE.length).equals(GPT_SIGNATURE);
  return [512, 4096].find(isGpt) ?? (isMbr(head.subarray(0, MBR_BYTES)) ? 512 : undefined);
}

/**
 * Whether a block device is mounted, or in use by another driver: nobody else may open it exclusively then (open(2),
 * O_EXCL).
 */
async function isInUse(path: string): Promise<boolean> {
  try {
    await (await open(path, constants.O_RDONLY | constants.O_EXCL | constants.O_NONBLOCK)).close();
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EBUSY';
  }
}

/**
 * The warnings about an open image: a partition table that counts in other sectors than the volume will have, and a
 * block device that somebody may be writing to.
 *
 * @param sectorBytes of the volume that is made of it
 * @throws {VolsealError} `ERR_IO`
 */
export async function sourceWarnings(file: NamedFile, edges: ImageEdges, sectorBytes: number): Promise<string[]> {
  const { path } = file;
  const warnings: string[] = [];
  const tableSectorBytes = partitionSectorBytes(edges);
  if (tableSectorBytes !== undefined && tableSectorBytes !== sectorBytes) {
    warnings.push(
      `${path}: its partition table counts in sectors of ${tableSectorBytes} bytes, the volume has sectors of ${sectorBytes}: ` +
        `a kernel device of the volume will not show its partitions; use --sector-size ${tableSectorBytes} where that matters`,
    );
  }
  if ((await file.stat()).isBlockDevice() && (await isInUse(path))) {
    warnings.push(
      `${path}: is in use (mounted, or part of another device): what is written to it meanwhile makes a torn image; ` +
        'encrypt a snapshot instead (lvcreate --snapshot, btrfs or ZFS snapshot), or freeze the file system first (fsfreeze --freeze)',
    );
  }
  return warnings;
}
