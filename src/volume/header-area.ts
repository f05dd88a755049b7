/**
 * A header with all that belongs to it, as bytes: both copies, and the room for keyslots behind them. That is what the
 * file of a detached header holds, and what a backup holds, here and in `cryptsetup luksHeaderBackup`.
 */
import { VolsealError } from '../errors.js';
import { encodeHeader, type FoundHeader } from '../luks2/header.js';
import { headerAreaBytes } from '../luks2/metadata.js';
import { readHeader } from '../luks2/store.js';
import type { NamedFile } from '../output/named-file.js';
import { openTarget } from '../output/open-target.js';
import { resolveTarget } from '../output/resolve-target.js';

/** A header as it was found, and its bytes. */
export interface HeaderArea {
  readonly found: FoundHeader;
  /** `headerAreaBytes` bytes. A copy that was not good is here as the good one says. */
  readonly area: Buffer;
}

/** Reading is tried again where somebody writes meanwhile. */
const READS_MAX = 10;

/**
 * Reads a header and its keyslots from the start of `file`, as they were at one moment: a volume may be in use.
 *
 * @throws {VolsealError} `ERR_NOT_A_VOLUME`, `ERR_HEADER_DAMAGED`, `ERR_STATE_BUSY` (it changes all the time), `ERR_IO`
 */
export async function readHeaderArea(file: NamedFile): Promise<HeaderArea> {
  for (let reads = 0; reads < READS_MAX; reads += 1) {
    const found = await readHeader(file.handle, file.path);
    const areaBytes = headerAreaBytes(found.header.metadata);
    const [area, again] = [await file.read(0, areaBytes), await file.read(0, areaBytes)];
    if (area.length < areaBytes) throw cutOff(file.path, area.length, areaBytes);
    const now = await readHeader(file.handle, file.path);
    if (!area.equals(again) || now.header.sequence !== found.header.sequence) continue;
    if (Object.values(found.copies).some((state) => state !== 'good')) encodeHeader(found.header).copy(area);
    return { found, area };
  }
  throw new VolsealError('ERR_STATE_BUSY', `${file.path}: its header changes while it is read; try again`, {
    details: { path: file.path },
  });
}

/**
 * Makes a file of such bytes, with mode 0600: complete and flushed, or not at all.
 * @param force replaces a file, but not the header of another volume than the one with `uuid`
 * @throws {VolsealError} `ERR_TARGET_EXISTS`, `ERR_ARGUMENT`, `ERR_STATE_BUSY`, `ERR_IO`
 */
export async function writeHeaderFile(path: string, area: Buffer, force: boolean, uuid?: string): Promise<void> {
  const output = { force, fsync: true };
  await using target = await openTarget(await resolveTarget(path, { ...output, headerUuid: uuid }), output);
  await target.begin();
  await target.file.write(area, 0);
  await target.publish();
}

function cutOff(path: string, foundBytes: number, areaBytes: number): VolsealError {
  return new VolsealError(
    'ERR_HEADER_DAMAGED',
    `${path}: ends after ${foundBytes} bytes, and its header with the keyslots has ${areaBytes}`,
    {
      details: { path, sizeBytes: foundBytes },
    },
  );
}
