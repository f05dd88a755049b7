/**
 * Which data belongs to a detached header, and that nobody replaces the header of another volume.
 */
import { constants } from 'node:fs';
import { VolsealError } from '../errors.js';
import type { FoundHeader } from '../luks2/header.js';
import { assertSupported } from '../luks2/metadata.js';
import { hasHeader, readHeader } from '../luks2/store.js';
import { findUsableToken, type VolumeToken } from '../luks2/token.js';
import { describeKind } from './data-file.js';
import { countMatches } from './data-samples.js';
import { NamedFile } from './named-file.js';

/** Whether the header is one without its data: the segment fills another file. */
export const isDetachedHeader = ({ header }: FoundHeader): boolean =>
  Object.values(header.metadata.segments).every(({ offset }) => offset === '0');

/** Whether some of the samples that the header recorded are in this data. @throws {VolsealError} `ERR_IO` */
export async function hasSamples(data: NamedFile, { header }: FoundHeader, token: VolumeToken, headerPath: string): Promise<boolean> {
  if (token.dataSamples === undefined) return false;
  return (await countMatches(data, assertSupported(header.metadata, headerPath).segment, token.dataSamples)) > 0;
}

/**
 * Refuses to replace the header of another volume: without its header, that volume's data is lost for good. A volume
 * that has its header in front is replaced as a whole, and is not refused, unless a header or a copy of one is to take
 * its place.
 *
 * @param file the file that is to be replaced
 * @param options `headerOf`: of a header that is to be written, the volume that is replaced together with it, if
 * anything is there; `headerUuid`: of a copy of a header, which replaces older ones
 * @throws {VolsealError} `ERR_TARGET_EXISTS` with `details.kind` `a header` or `a volume`; `ERR_IO`
 */
export async function refuseOthersHeader(
  file: NamedFile,
  { headerOf: dataPath, headerUuid }: { headerOf?: string | undefined; headerUuid?: string | undefined },
): Promise<void> {
  if (!(await hasHeader(file.handle, file.path))) return;
  const found = await unlessUnusable(() => readHeader(file.handle, file.path));
  if (headerUuid !== undefined && found !== undefined && hasData(found, file.sizeBytes())) throw isVolume(file.path);
  if (found !== undefined && found.header.uuid === headerUuid) return;
  const token = found && findUsableToken(found.header.metadata, file.path);
  if (dataPath === undefined) {
    if (found === undefined || !isDetachedHeader(found)) return;
  } else if (found !== undefined && token !== undefined && (await isDataAt(dataPath, found, token, file.path))) return;
  const what = token === undefined ? 'a LUKS header' : `the header of ${token.volumeId} (KMS key ${token.keyId}, made ${token.created})`;
  const whose = dataPath === undefined || token?.dataSamples === undefined ? '' : `, and ${dataPath} is not its data`;
  throw new VolsealError(
    'ERR_TARGET_EXISTS',
    `${file.path}: is ${what}${whose}; without it the data of that volume would be lost for good, so it is not replaced, not even by force; it was left as it is`,
    { details: { path: file.path, kind: 'a header', ...(token === undefined ? {} : { volumeId: token.volumeId, keyId: token.keyId }) } },
  );
}

/** Whether the data of the header is behind it: a backup ends where the data would begin. */
const hasData = ({ header }: FoundHeader, fileBytes: number): boolean =>
  Object.values(header.metadata.segments).some(({ offset }) => Number(offset) > 0 && Number(offset) < fileBytes);

const isVolume = (path: string): VolsealError =>
  new VolsealError('ERR_TARGET_EXISTS', `${path}: is a volume with its data, and no backup of a header; it was left as it is`, {
    details: { path, kind: 'a volume' },
  });

/** Undefined where there is a header that volseal cannot use: damaged, of version 1, made by others. */
async function unlessUnusable<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof VolsealError && /^ERR_(NOT_A_VOLUME|HEADER_)/.test(error.code)) return undefined;
    throw error;
  }
}

/** Whether the data of the header is at `path`. */
async function isDataAt(path: string, found: FoundHeader, token: VolumeToken, headerPath: string): Promise<boolean> {
  try {
    await using data = await NamedFile.open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const kind = describeKind(await data.stat());
    return (kind === 'a regular file' || kind === 'a block device') && (await hasSamples(data, found, token, headerPath));
  } catch (error) {
    if (error instanceof VolsealError && error.details.errno === 'ENOENT') return false;
    throw error;
  }
}
