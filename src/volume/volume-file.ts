/**
 * A volume's files, open: the one with the data, and the one with the header where that is detached. Reads the header
 * and checks that the files agree with it; nothing here holds a key.
 */
import { constants } from 'node:fs';
import { type ErrorDetails, VolsealError } from '../errors.js';
import { describeSameData, type FoundHeader } from '../luks2/header.js';
import { assertSupported, type DataSegment } from '../luks2/metadata.js';
import { heldOrigin } from '../luks2/snapshot-origin.js';
import { hasHeader, readHeader } from '../luks2/store.js';
import { findToken, findUsableToken, type VolumeToken } from '../luks2/token.js';
import { openDataFile } from '../output/data-file.js';
import { hasSamples, isDetachedHeader } from '../output/detached-header.js';
import type { NamedFile } from '../output/named-file.js';
import { refuseOtherWriters } from '../output/other-writers.js';
import { refuseHalfReplaced } from '../output/pair-journal.js';

/**
 * How a volume's files are opened: `exclusive` for reading and writing, alone; `shared` for reading, with other
 * readers; `none` for a look at the header, whoever holds the volume.
 */
export type VolumeLock = 'exclusive' | 'shared' | 'none';

/** What happens where the file system has no locks. */
export interface LockPolicy {
  /** A writer goes on all the same: the caller makes sure that it is alone. */
  readonly allowNoLock?: boolean | undefined;
  /** Called with a warning, one sentence. Default: a warning of the process. */
  readonly onWarning?: ((warning: string) => void) | undefined;
}

/** A volume's open files; `header` is `data` where the header is not detached. */
export interface OpenFiles {
  readonly data: NamedFile;
  readonly header: NamedFile;
}

/** What the header says; the files agree with it. */
export interface HeaderContents {
  readonly found: FoundHeader;
  readonly segment: DataSegment;
  readonly token: VolumeToken;
  /** Bytes of data, whole sectors. */
  readonly sizeBytes: number;
}

/** A volume's open files with what their header says. */
export interface VolumeFile extends OpenFiles, HeaderContents {
  /** Whether the data is known to be this header's without a key: it follows it, or it has a recorded sample. */
  readonly isBound: boolean;
  /** Closes the files and so releases the lock. Never throws. */
  close(): Promise<void>;
}

/**
 * Opens a volume's files, takes the lock, then reads the header: so what was read stays true.
 *
 * @throws {VolsealError} `ERR_IO`, `ERR_STATE_BUSY`, `ERR_STATE_INTERRUPTED`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_DAMAGED`,
 * `ERR_HEADER_UNSUPPORTED`, `ERR_HEADER_TOKEN`, `ERR_VOLUME_SIZE`, `ERR_DATA_MISMATCH`, `ERR_ARGUMENT` (not a regular
 * file or block device;
 * another volume as data of a detached header)
 */
export async function openVolumeFile(path: string, lock: VolumeLock, headerPath?: string, policy: LockPolicy = {}): Promise<VolumeFile> {
  const files = await openVolumeFiles(path, lock, headerPath, policy);
  const { data, header, close } = files;
  try {
    const found = await readHeader(header.handle, header.path);
    // Before sizes are compared: data of another size is another volume's, not this one's cut short.
    const isBound = await isDataOf(files, found);
    return { data, header, isBound, ...contentsOf(found, files), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * The same without a look at the header, which may be lost.
 *
 * @throws {VolsealError} `ERR_IO`, `ERR_STATE_BUSY`, `ERR_STATE_INTERRUPTED`, `ERR_ARGUMENT` (not a regular file or
 * block device)
 */
export async function openVolumeFiles(
  path: string,
  lock: VolumeLock,
  headerPath?: string,
  policy: LockPolicy = {},
): Promise<OpenFiles & Pick<VolumeFile, 'close'>> {
  const flags = lock === 'exclusive' ? constants.O_RDWR : constants.O_RDONLY;
  const data = await openDataFile(path, flags);
  let header = data;
  const close = async (): Promise<void> => {
    await data.close();
    if (header !== data) await header.close();
  };
  try {
    if (lock === 'exclusive') await refuseOtherWriters(data);
    if (lock !== 'none') await lockVolume(data, lock, policy);
    if (headerPath !== undefined) {
      header = await openDataFile(headerPath, flags);
      await refuseHalfReplaced(header, path);
    }
    return { data, header, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Reads the header of files that are open, whatever their paths lead to by now.
 *
 * @throws {VolsealError} `ERR_IO`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_DAMAGED`, and as `contentsOf`
 */
export async function readContents(files: OpenFiles): Promise<HeaderContents> {
  return contentsOf(await readHeader(files.header.handle, files.header.path), files);
}

/**
 * What a header says of `files`.
 * @throws {VolsealError} `ERR_HEADER_UNSUPPORTED`, `ERR_HEADER_TOKEN`, `ERR_VOLUME_SIZE`, `ERR_ARGUMENT` (a detached
 * header without its data), `ERR_IO`
 */
export function contentsOf(found: FoundHeader, { data, header }: OpenFiles): HeaderContents {
  const contents = claimsOf(found, header.path);
  if (header === data && isDetachedHeader(found)) throw dataIsMissing(data.path);
  checkDataSize(contents, data);
  return contents;
}

/**
 * What a header says, whatever files it has. The volume's size is what its MAC covers: the image's length, in whole
 * sectors.
 * @throws {VolsealError} `ERR_HEADER_UNSUPPORTED`, `ERR_HEADER_TOKEN`
 */
export function claimsOf(found: FoundHeader, headerPath: string): HeaderContents {
  const { segment } = assertSupported(found.header.metadata, headerPath);
  const { snapshot, ...others } = findToken(found.header.metadata, headerPath);
  const token = { ...others, snapshot: heldOrigin(snapshot, found.header.sequence) };
  return { found, segment, token, sizeBytes: Math.ceil(token.imageBytes / segment.sectorBytes) * segment.sectorBytes };
}

/**
 * Refuses a volume whose data is a mixture of two snapshots.
 * @throws {VolsealError} `ERR_STATE_INTERRUPTED`
 */
export function refuseMixture({ token: { snapshot, volumeId } }: Pick<HeaderContents, 'token'>, path: string): void {
  if (snapshot?.since === undefined) return;
  const { id, since } = snapshot;
  const message = `${path}: is being brought from ${since} to ${id}, and its data is a mixture of both; finish that first`;
  throw new VolsealError('ERR_STATE_INTERRUPTED', message, { details: { path, volumeId, snapshot: id, since } });
}

/**
 * Takes the lock of an open volume, or goes on without one as `policy` says. @throws {VolsealError} `ERR_STATE_BUSY`,
 * `ERR_IO`
 */
export async function lockVolume(file: NamedFile, lock: 'exclusive' | 'shared', policy: LockPolicy = {}): Promise<void> {
  const { path } = file;
  try {
    if (!file.lockIfPossible(lock)) goOnWithoutLock(path, lock, policy);
  } catch (error) {
    if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw error;
    const purpose = lock === 'exclusive' ? 'writing' : 'reading';
    const message = `${path}: cannot be opened for ${purpose}: another process, or this one, has the volume attached`;
    throw new VolsealError('ERR_STATE_BUSY', message, { cause: error, details: { path } });
  }
  // Between opening and locking, the path may have got another file: this one would be no volume any more.
  if (!(await file.isAt(path))) {
    throw new VolsealError('ERR_STATE_BUSY', `${path}: was replaced while it was being opened; try again`, { details: { path } });
  }
}

/** @throws {VolsealError} `ERR_IO` writing was not allowed without a lock: two writers destroy each other's data */
function goOnWithoutLock(path: string, lock: 'exclusive' | 'shared', { allowNoLock, onWarning }: LockPolicy): void {
  const why = `${path}: its file system has no locks (flock)`;
  if (lock === 'exclusive' && allowNoLock !== true) {
    const message = `${why}, so nobody can tell whether another process has the volume open; two that write destroy each other's data`;
    throw new VolsealError('ERR_IO', message, { details: { path, syscall: 'flock', errno: 'ENOLCK', lockless: true } });
  }
  const risk =
    lock === 'shared' ? 'what is read while another process writes may be neither old nor new' : 'no other process may use it meanwhile';
  const warn = onWarning ?? ((warning: string) => process.emitWarning(warning, { code: 'VOLSEAL_NO_LOCK' }));
  warn(`${why}: ${risk}`);
}

/**
 * Whether the data is known to belong to the header; false where the header is in another file and no key is needed to
 * tell: no recorded sample is there, or a copy of the header of a volume whose own header is gone.
 * @throws {VolsealError} `ERR_DATA_MISMATCH` it belongs to another one; `ERR_ARGUMENT` it has a header of its own;
 * `ERR_IO`
 */
export async function isDataOf({ data, header }: OpenFiles, found: FoundHeader): Promise<boolean> {
  if (header === data) return true;
  const headerPath = header.path;
  const token = findToken(found.header.metadata, headerPath);
  if (!isDetachedHeader(found)) return isCopyOfHeader(data, found, token, headerPath);
  await refuseOtherVolume(data, headerPath);
  return hasSamples(data, found, token, headerPath);
}

/** A copy of the header that is in front of the data, or was. */
async function isCopyOfHeader(data: NamedFile, { header }: FoundHeader, token: VolumeToken, headerPath: string): Promise<boolean> {
  const own = (await findHeader(data))?.header;
  if (own === undefined) return false;
  if (own.uuid !== header.uuid) throw otherData(data.path, headerPath, token, 'it has the header of another volume');
  if (describeSameData(own, header)) return true;
  const why = 'its own header has another data key, or another place for the data, since that copy was made';
  throw otherData(data.path, headerPath, token, why, { isOldCopy: true });
}

/** The header in front of the data; undefined where there is none, or where both of its copies are damaged. */
async function findHeader(data: NamedFile): Promise<FoundHeader | undefined> {
  if (!(await hasHeader(data.handle, data.path))) return undefined;
  try {
    return await readHeader(data.handle, data.path);
  } catch (error) {
    // A damaged header may be what the copy is used for.
    if (error instanceof VolsealError && error.code === 'ERR_HEADER_DAMAGED') return undefined;
    throw error;
  }
}

/**
 * Refuses a copy of the header where the one in front of the data knows better: where it says that the data is a
 * mixture, and for whatever changes the data, which it would not get to know (a new data key, another snapshot).
 * @throws {VolsealError} `ERR_STATE_INTERRUPTED`, `ERR_ARGUMENT`, `ERR_IO`
 */
export async function refuseCopyOfHeader({ data, header, found }: OpenFiles & HeaderContents, changesData: boolean): Promise<void> {
  const own = header === data || isDetachedHeader(found) ? undefined : await findHeader(data);
  if (own?.header.uuid !== found.header.uuid) return;
  const { path } = data;
  // A header that lost its token is what the copy is used for as well.
  const token = findUsableToken(own.header.metadata, path);
  if (token === undefined) return;
  refuseMixture({ token }, path);
  if (!changesData) return;
  const message = `${path}: has a good header of its own, which would not know of what is written by ${header.path}, a copy of it; leave that header out`;
  throw new VolsealError('ERR_ARGUMENT', message, { details: { path, header: header.path } });
}

/** @param why what was found, a clause @param more details of that */
export function otherData(
  path: string,
  header: string,
  { volumeId, keyId }: VolumeToken,
  why: string,
  more: ErrorDetails = {},
): VolsealError {
  const message = `${path}: is not the data of the header ${header}, which is that of ${volumeId}: ${why}`;
  return new VolsealError('ERR_DATA_MISMATCH', message, { details: { path, header, volumeId, keyId, ...more } });
}

/**
 * The data of a detached header fills its file: where a header is in that file, reads give noise, and writes destroy
 * the header.
 */
async function refuseOtherVolume({ handle, path }: NamedFile, headerPath: string): Promise<void> {
  if (!(await hasHeader(handle, path))) return;
  const message = `${path}: has a LUKS header of its own, so it is not the data of the detached header ${headerPath}; leave that header out, or name its data`;
  throw new VolsealError('ERR_ARGUMENT', message, { details: { path, header: headerPath } });
}

/** @param path of a detached header that was named as the volume */
export function dataIsMissing(path: string): VolsealError {
  const message = `${path}: is a detached header; name the file with the data as the volume and this one as its header`;
  return new VolsealError('ERR_ARGUMENT', message, { details: { path } });
}

/** Bytes behind the volume (a larger device, something appended) are not part of it. */
function checkDataSize({ segment, sizeBytes }: HeaderContents, data: NamedFile): void {
  const fileBytes = data.sizeBytes();
  const available = fileBytes - segment.offsetBytes;
  if (available < sizeBytes || (segment.sizeBytes !== 'dynamic' && segment.sizeBytes !== sizeBytes)) {
    throw new VolsealError(
      'ERR_VOLUME_SIZE',
      `${data.path}: holds ${Math.max(available, 0)} bytes of data, the volume has ${sizeBytes}: the file was cut off; restore it from a backup`,
      { details: { path: data.path, sizeBytes: fileBytes } },
    );
  }
}
