/**
 * What a volume's header says, for people and programs. Needs no key and asks no KMS: so it is what the header claims,
 * and only attaching or decrypting proves it.
 */
import { type KeyslotInfo, listKeyslots } from '../luks2/known-keyslots.js';
import { ENCRYPTION } from '../luks2/metadata.js';
import type { Luks2Metadata } from '../luks2/metadata-object.js';
import type { Allocation } from '../luks2/token.js';
import { type HeaderContents, type OpenFiles, openVolumeFile } from './volume-file.js';

/** What a header says of its volume. */
export interface VolumeInfo {
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** UUID of the LUKS2 header. */
  uuid: string;
  /** Path of the file or device with the data; the name of a stream. */
  path: string;
  /** The file with the header, where that is detached. */
  header: string | null;
  /** ARN of the KMS key. */
  keyId: string;
  /** Base64 of KMS's CiphertextBlob. */
  encryptedDataKey: string;
  /** The encryption context under which KMS wrapped the data key. */
  encryptionContext: Readonly<Record<string, string>>;
  /** The cipher by its LUKS2 name. */
  cipher: string;
  /**
   * Bytes of the data key, which the keyslots say: 64 for AES-256, 32 for AES-128. Null without keyslots: volseal's own
   * keys have 64.
   */
  keyBytes: number | null;
  /** Bytes of a sector. */
  sectorBytes: number;
  /** Where the first sector of ciphertext lies in its file. */
  dataOffsetBytes: number;
  /** Bytes of the attached volume. */
  sizeBytes: number;
  /** Bytes of the image that was encrypted: less than `sizeBytes` where it was padded. */
  imageBytes: number;
  /** `sparse`: sectors that are not in use may be holes. */
  allocation: Allocation;
  /** Bytes that the file with the data takes on the disk; null where that is a block device or a stream. */
  allocatedBytes: number | null;
  /**
   * Whether the file has holes where its data is. A full volume has none, unless something else than volseal made them
   * (`fallocate`, a guest that discards): they show what is not in use, and read as noise. Null where that cannot be
   * told: a block device, a stream.
   */
  hasHoles: boolean | null;
  /**
   * The EBS snapshot (`snap-...`) whose image the data is: it was encrypted from there, and not written to since. Null
   * where that is not known.
   */
  snapshot: string | null;
  /** Where the data is being brought to `snapshot` from another one, and is a mixture of both: that one; else null. */
  updatingSince: string | null;
  /** Where the key was wrapped. */
  kms: string;
  /** ISO 8601, UTC. */
  created: string;
  /** State of the two header copies, in words. */
  headerCopies: { primary: string; secondary: string };
  /** How many keyslots there are. */
  keyslots: number;
  /** The keyslots, and which of them volseal has added. */
  keyslotList: KeyslotInfo[];
}

/** What `st_blocks` counts in, whatever the file system's own blocks are (stat(2)). */
const STAT_BLOCK_BYTES = 512;

/**
 * Reads the header of a volume that is a file or device (describe.ts has both).
 *
 * @throws {VolsealError} `ERR_IO`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`
 */
export async function describeVolumeFile(path: string, options: { header?: string | undefined } = {}): Promise<VolumeInfo> {
  const volume = await openVolumeFile(path, 'none', options.header);
  try {
    return await describeContents(volume);
  } finally {
    await volume.close();
  }
}

/** The same of files that are open, and of a header that was read or written before. @throws {VolsealError} `ERR_IO` */
export async function describeContents(volume: OpenFiles & HeaderContents): Promise<VolumeInfo> {
  const { data, header } = volume;
  const file = await data.stat();
  const allocatedBytes = file.isFile() ? Number(file.blocks) * STAT_BLOCK_BYTES : null;
  const hasHoles = file.isFile() ? data.hasHole(volume.segment.offsetBytes, volume.sizeBytes) : null;
  return describeHeader(volume, { path: data.path, header: header === data ? null : header.path, allocatedBytes, hasHoles });
}

/** What a header says, with what is known of the files. */
export function describeHeader(
  { found, token, segment, sizeBytes }: HeaderContents,
  files: Pick<VolumeInfo, 'path' | 'header' | 'allocatedBytes' | 'hasHoles'>,
): VolumeInfo {
  return {
    volumeId: token.volumeId,
    uuid: found.header.uuid,
    path: files.path,
    header: files.header,
    keyId: token.keyId,
    encryptedDataKey: token.encryptedDataKey.toString('base64'),
    encryptionContext: token.encryptionContext,
    cipher: ENCRYPTION,
    keyBytes: keyBytesOf(found.header.metadata),
    sectorBytes: segment.sectorBytes,
    dataOffsetBytes: segment.offsetBytes,
    sizeBytes,
    imageBytes: token.imageBytes,
    allocation: token.allocation,
    allocatedBytes: files.allocatedBytes,
    hasHoles: files.hasHoles,
    snapshot: token.snapshot?.id ?? null,
    updatingSince: token.snapshot?.since ?? null,
    kms: token.kms,
    created: token.created,
    headerCopies: { ...found.copies },
    keyslots: Object.keys(found.header.metadata.keyslots).length,
    keyslotList: listKeyslots(found.header.metadata, token.keyslots),
  };
}

/** Of the keyslots whose digest proves the key of segment 0. */
function keyBytesOf({ digests, keyslots }: Luks2Metadata): number | null {
  const ofData = Object.values(digests).find(({ segments }) => segments.includes('0'));
  const name = ofData?.keyslots[0];
  return name === undefined ? null : (keyslots[name]?.key_size ?? null);
}
