/**
 * Reading and writing a header: one bounded read, and writes after which a power cut always leaves a valid header.
 */
import type { FileHandle } from 'node:fs/promises';
import { asVolsealError, VolsealError } from '../errors.js';
import { EMBEDDED_DATA_OFFSET_BYTES, LUKS2_HEADER_SIZES } from '../limits.js';
import { type CopyName, carriesMagic, MAGIC_BYTES } from './binary-header.js';
import {
  decodeHeader,
  decodeIntactHeader,
  encodeHeader,
  encodeHeaderCopy,
  type FoundHeader,
  HEADER_BYTES_MAX,
  type Luks2Header,
} from './header.js';

/** Both copies of the smallest size, which nearly all headers have. */
const FIRST_READ_BYTES = 2 * Math.min(...LUKS2_HEADER_SIZES);

/**
 * Reads the header at the start of `file` once, into memory: 32 KiB if they contain two good copies, otherwise at most
 * 8 MiB. Later checks use what was read here. A block device works like a file (its stat size is 0, so only the reads
 * tell its length).
 *
 * @param path the file, for messages
 * @throws {VolsealError} `ERR_NOT_A_VOLUME`, `ERR_HEADER_DAMAGED` (as `decodeHeader`), `ERR_IO`
 */
export async function readHeader(file: FileHandle, path: string): Promise<FoundHeader> {
  const first = await readOn(file, path, Buffer.alloc(0), FIRST_READ_BYTES);
  return decodeIntactHeader(first) ?? decodeHeader(await readOn(file, path, first, HEADER_BYTES_MAX), path);
}

/** The first `bytes` bytes of the file, or all it has; `known` were read before. */
async function readOn(file: FileHandle, path: string, known: Buffer, bytes: number): Promise<Buffer> {
  const area = Buffer.alloc(bytes);
  let filledBytes = known.copy(area);
  while (filledBytes < area.length) {
    const { bytesRead } = await failingAs('reading the header', path, filledBytes, () =>
      file.read(area, filledBytes, area.length - filledBytes, filledBytes),
    );
    if (bytesRead === 0) break;
    filledBytes += bytesRead;
  }
  return area.subarray(0, filledBytes);
}

/**
 * Whether a copy of a LUKS header, of version 1 or 2, whole or not, is at any position where one can be. @throws
 * {VolsealError} `ERR_IO`
 */
export async function hasHeader(file: FileHandle, path: string): Promise<boolean> {
  return await hasMagic(async (offsetBytes, bytes) => {
    const area = Buffer.alloc(bytes);
    await failingAs('reading', path, offsetBytes, () => file.read(area, 0, area.length, offsetBytes));
    return area;
  });
}

/** The same of whatever `read` reads. @param read gives fewer bytes, or zeros, where there is no more */
export async function hasMagic(read: (offsetBytes: number, bytes: number) => Promise<Buffer>): Promise<boolean> {
  const magicAt = async (offsetBytes: number, name: CopyName): Promise<boolean> => {
    const area = await read(offsetBytes, MAGIC_BYTES);
    return area.length === MAGIC_BYTES && carriesMagic(area, 0, name);
  };
  if (await magicAt(0, 'primary')) return true;
  for (const size of LUKS2_HEADER_SIZES) if (await magicAt(size, 'secondary')) return true;
  return false;
}

/**
 * Writes both copies of `header`, one after the other, each followed by an fsync.
 *
 * The copy `lastGood` is overwritten last: until the other copy is on the disk, it still contains the old header. So
 * after a power cut one copy is good, and the higher sequence number tells which is newer. The default is the primary,
 * because simple tools read only that one. Pass `found.from` to update a header that may have a damaged copy.
 *
 * @param header its `sequence` must be higher than that of the header in the file
 * @param fsync if false, a power cut may leave no good copy: only for a file that nobody relies on yet
 * @throws {VolsealError} `ERR_ARGUMENT` (as `encodeHeader`; nothing was written), `ERR_IO`
 */
export async function writeHeader(
  file: FileHandle,
  header: Luks2Header,
  path: string,
  lastGood: CopyName = 'primary',
  fsync = true,
): Promise<void> {
  const order: CopyName[] = lastGood === 'primary' ? ['secondary', 'primary'] : ['primary', 'secondary'];
  const copies = order.map((name) => ({ name, bytes: encodeHeaderCopy(header, name) }));
  for (const { name, bytes } of copies) await writeCopy(file, name, bytes, path, fsync);
}

/**
 * Rewrites the stale copy from the good one: same sequence number, own salt and offset. Does nothing if both are good.
 * Call it only after `verifyHeader` accepted the header; otherwise it would copy a forged one.
 *
 * @returns the copy that was written
 * @throws {VolsealError} `ERR_IO`
 */
export async function repairHeader(file: FileHandle, found: FoundHeader, path: string): Promise<CopyName | undefined> {
  if (found.stale !== undefined) await writeCopy(file, found.stale, encodeHeaderCopy(found.header, found.stale), path, true);
  return found.stale;
}

/** The whole area in front of the data of an embedded volume: both copies of its header, and room for keyslots. */
export function headerArea(header: Luks2Header): Buffer {
  const area = Buffer.alloc(EMBEDDED_DATA_OFFSET_BYTES);
  encodeHeader(header).copy(area);
  return area;
}

async function writeCopy(file: FileHandle, name: CopyName, copy: Buffer, path: string, fsync: boolean): Promise<void> {
  const startByte = name === 'primary' ? 0 : copy.length;
  let writtenBytes = 0;
  while (writtenBytes < copy.length) {
    const offsetBytes = startByte + writtenBytes;
    const { bytesWritten } = await failingAs(`writing the ${name} header`, path, offsetBytes, () =>
      file.write(copy, writtenBytes, copy.length - writtenBytes, offsetBytes),
    );
    if (bytesWritten === 0) {
      throw new VolsealError('ERR_IO', `${path}: writing the ${name} header stopped at offset ${offsetBytes}: no byte was taken`, {
        details: { syscall: 'write', path, offsetBytes },
      });
    }
    writtenBytes += bytesWritten;
  }
  if (fsync) await failingAs(`flushing the ${name} header`, path, startByte, () => file.sync());
}

async function failingAs<T>(doing: string, path: string, offsetBytes: number, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const converted = asVolsealError(error, path);
    if (!(converted instanceof VolsealError)) throw converted;
    throw new VolsealError(converted.code, `${path}: ${doing} at offset ${offsetBytes} failed: ${(error as Error).message}`, {
      cause: error,
      details: { ...converted.details, offsetBytes },
    });
  }
}
