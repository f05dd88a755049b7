/**
 * Whether the data of a volume is that of its header, where the samples of the header do not tell: data under the right
 * key is what people keep on disks, and data under another one is random.
 */
import { VolsealError } from '../errors.js';
import { EXTENT_COUNT_MAX } from '../limits.js';
import { type DeviceHandle, type KeyHandle, native } from '../native.js';
import { countMatches, type DataRun, type DataSamples, spreadOver, takeSamples } from '../output/data-samples.js';
import { isDetachedHeader } from '../output/detached-header.js';
import { type HeaderContents, isDataOf, type OpenFiles, otherData, type VolumeFile } from './volume-file.js';
import { writeToken } from './write-token.js';

/** What one look takes, in bytes: a page of the disk. */
const LOOK_BYTES = 4096;
const LOOKS = 32;
/** Partition tables, file systems and volume groups begin in here; btrfs comes last, at 64 KiB. */
const HEAD_BYTES = 68 * 1024;
const BLOCK_BYTES = 512;
/**
 * Random bytes have no structure. Of 512 of them a given value comes up 24 times with a probability of 4e-18 (Poisson,
 * mean 2), any of 256 values in any of 256 blocks with 3e-13. Fewer than 140 of 512 have the top bit set with less than
 * 1e-24.
 */
const COUNT_OF_ONE_VALUE = 24;
const TOP_BITS_MIN = 140;

/**
 * Where the volume may have data.
 * @param sizeBytes of the volume @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
 */
export async function dataRuns(device: DeviceHandle, sizeBytes: number): Promise<DataRun[]> {
  const runs: DataRun[] = [];
  for (let at = 0; at < sizeBytes; ) {
    const extents = await native.deviceExtents(device, at, sizeBytes - at, EXTENT_COUNT_MAX);
    runs.push(...extents.filter(({ zero }) => !zero));
    const last = extents.at(-1)!;
    at = last.offsetBytes + last.lengthBytes;
  }
  return runs;
}

/**
 * Whether what the volume reads as has a structure that random bytes do not have: text, a partition table, a file
 * system, programs. Compressed and encrypted contents have none. It looks at the beginning, where most of a large
 * volume was perhaps never written, and at pages all over it.
 * @param device reads with the key of the header
 * @param sparse whether zeros are perhaps no ciphertext, and so say nothing of the key
 * @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
 */
export async function hasStructure(device: DeviceHandle, sizeBytes: number, sparse: boolean): Promise<boolean> {
  const head = Array.from({ length: Math.ceil(Math.min(HEAD_BYTES, sizeBytes) / LOOK_BYTES) }, (_, index) => index * LOOK_BYTES);
  const positions = [...head, ...spreadOver(await dataRuns(device, sizeBytes), LOOKS)];
  const pages = new Set(positions.map((at) => at - (at % LOOK_BYTES)));
  for (const at of pages) {
    const page = await native.deviceRead(device, at, Math.min(LOOK_BYTES, sizeBytes - at));
    for (let start = 0; start < page.length; start += BLOCK_BYTES)
      if (isStructured(page.subarray(start, start + BLOCK_BYTES), sparse)) return true;
  }
  return false;
}

/** The same of 512 bytes. */
export function isStructured(block: Uint8Array, sparse: boolean): boolean {
  const counts = new Uint16Array(256);
  let topBits = 0;
  for (const byte of block) {
    counts[byte]! += 1;
    topBits += byte >> 7;
  }
  if (counts[0] === block.length) return !sparse;
  return counts.some((count) => count >= COUNT_OF_ONE_VALUE) || topBits < TOP_BITS_MIN;
}

/** A volume's data, and what its header says of it. */
type OpenData = Pick<VolumeFile, 'data' | 'segment' | 'token' | 'sizeBytes'>;

/**
 * Opens a device over a volume's data, the caller's to close.
 * @param key proved @param sparse whether a sector whose ciphertext is zeros reads as zeros
 * @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
 */
export function openDevice(
  { data, segment, token, sizeBytes }: OpenData,
  key: KeyHandle,
  { writable = false, sparse = token.allocation === 'sparse' } = {},
): DeviceHandle {
  const { offsetBytes, sectorBytes } = segment;
  return native.deviceOpen({ regions: [{ fd: data.fd, key, offsetBytes, sizeBytes }], sectorBytes, writable, sparse });
}

/**
 * Refuses the data of another volume.
 * @param key of the header, proved @param options `anyData`: what cannot be told passes
 * @returns whether the data is known to be the header's; false where nothing tells
 * @throws {VolsealError} `ERR_DATA_MISMATCH` no recorded sample is there, and all that was read looks random; `ERR_IO`
 */
export async function refuseOtherData(
  file: Omit<VolumeFile, 'close'>,
  key: KeyHandle,
  { anyData = false }: { anyData?: boolean | undefined },
): Promise<boolean> {
  if (file.isBound) return true;
  const device = openDevice(file, key);
  try {
    if (await hasStructure(device, file.sizeBytes, file.token.allocation === 'sparse')) return true;
  } finally {
    native.deviceClose(device);
  }
  if (file.token.dataSamples === undefined || anyData) return false;
  const why = 'none of the sectors that the header recorded is there, and what was read with its key looks random';
  throw otherData(file.data.path, file.header.path, file.token, why);
}

/**
 * Refuses to bind data to a header where nothing shows that the two belong together.
 * @param key of the header, proved @param options `anyData`: the caller knows it
 * @throws {VolsealError} `ERR_DATA_MISMATCH`, `ERR_ARGUMENT` the data has a header of its own; `ERR_IO`
 */
export async function refuseUnknownData(
  file: OpenFiles & HeaderContents,
  key: KeyHandle,
  { anyData = false }: { anyData?: boolean | undefined },
): Promise<void> {
  if (await isDataOf(file, file.found)) return;
  if ((await refuseOtherData({ ...file, isBound: false }, key, { anyData: true })) || anyData) return;
  const [path, header] = [file.data.path, file.header.path];
  const why = 'what was read with its key looks random, as with the data of another header, and with data that was never written';
  throw new VolsealError('ERR_DATA_MISMATCH', `${path}: nothing shows that this is the data of the header ${header}: ${why}`, {
    details: { path, header },
  });
}

/**
 * Samples of a volume's data as it is on the disk or in the page cache, for its header.
 * @returns undefined where there is no data @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
 */
export async function samplesOf(file: OpenData, key: KeyHandle): Promise<DataSamples | undefined> {
  const device = openDevice(file, key);
  try {
    return await takeSamples(file.data, file.segment, await dataRuns(device, file.sizeBytes));
  } finally {
    native.deviceClose(device);
  }
}

/**
 * Records anew which data belongs to a detached header, where most of what it recorded was overwritten since. The
 * volume is open for writing, and its data is flushed.
 * @param key of the volume @returns what the header says now, undefined where it was not written
 * @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`, `ERR_HEADER_UNSUPPORTED` (its sequence number is the last there is)
 */
export async function renewSamples(file: Omit<VolumeFile, 'close'>, key: KeyHandle): Promise<HeaderContents | undefined> {
  const { data, header, found, segment, token } = file;
  if (header === data || !isDetachedHeader(found)) return undefined;
  const recorded = token.dataSamples ?? {};
  const count = Object.keys(recorded).length;
  if (count > 0 && 2 * (await countMatches(data, segment, recorded)) >= count) return undefined;
  const dataSamples = await samplesOf(file, key);
  return dataSamples === undefined && count === 0 ? undefined : await writeToken(file, key, { dataSamples });
}
