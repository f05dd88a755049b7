/**
 * A volume's files, open: the one with the data, and the one with the header where that is detached. Reads the header and proves
 * what it says; nothing here holds a key.
 */

import { constants } from 'node:fs';
import { type FileHandle, stat } from 'node:fs/promises';
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { namingPath, VolsealError, withPath } from '../errors.js';
import { describeContext, type EncryptionContext } from '../kms/shared/encryption-context.js';
import { asCaller, type KmsEndpoint, parseKmsUri } from '../kms/shared/endpoint.js';
import type { FoundHeader } from '../luks2/header.js';
import { assertSupported, type DataSegment } from '../luks2/metadata.js';
import { readHeader } from '../luks2/store.js';
import { findToken, type VolumeToken } from '../luks2/token.js';
import { type KeyHandle, native } from '../native.js';
import { dataFileBytes, openDataFile } from '../output/data-file.js';
import { refuseHalfReplaced } from '../output/pair-journal.js';
import type { PoolLease } from '../workers/pool.js';
import type { UnlockTask } from '../workers/tasks.js';

/** With which rights KMS is asked, where they are not those of the credentials alone. */
export interface KmsAccess {
  /** Embedded KMS: the principal that asks. AWS: the ARN of a role that is assumed first. */
  readonly principal?: string | undefined;
  /** Tokens of grants that KMS may not have spread yet. */
  readonly grantTokens?: readonly string[] | undefined;
}

export interface OpenVolumeOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  writable: boolean;
  /** Whether to hold the volume against others: `exclusive` alone, `shared` with other readers, `none` for a look at the header. */
  lock: 'exclusive' | 'shared' | 'none';
}

/** A volume's files, open: `header` is `data` where the header is not detached. The paths are for messages. */
export interface OpenFiles {
  readonly path: string;
  readonly data: FileHandle;
  readonly header: FileHandle;
  readonly headerPath: string;
}

/** What the header says, and that the files agree with it. */
export interface HeaderContents {
  readonly found: FoundHeader;
  readonly segment: DataSegment;
  readonly token: VolumeToken;
  /** Bytes of data, whole sectors. */
  readonly sizeBytes: number;
}

export interface VolumeFile extends OpenFiles, HeaderContents {
  close(): Promise<void>;
}

/**
 * Opens a volume's files, takes the lock and reads the header, in this order: what was read stays true.
 *
 * @throws {VolsealError} `ERR_IO`, `ERR_STATE_BUSY`, `ERR_STATE_INTERRUPTED`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_DAMAGED`,
 * `ERR_HEADER_UNSUPPORTED`, `ERR_HEADER_TOKEN`, `ERR_VOLUME_SIZE`, `ERR_ARGUMENT` (not a regular file or block device)
 */
export async function openVolumeFile(path: string, options: OpenVolumeOptions): Promise<VolumeFile> {
  const flags = options.writable ? constants.O_RDWR : constants.O_RDONLY;
  const data = await openDataFile(path, flags);
  const headerPath = options.header ?? path;
  let header = data;
  const close = async (): Promise<void> => {
    await data.close();
    if (header !== data) await header.close();
  };
  try {
    if (options.lock !== 'none') await lockFile(data, path, options.lock === 'exclusive');
    if (options.header !== undefined) {
      header = await openDataFile(options.header, flags);
      await refuseHalfReplaced(header, headerPath, path);
    }
    const files: OpenFiles = { path, data, header, headerPath };
    return { ...files, ...(await readContents(files)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Reads the header of files that are open, whatever their paths lead to by now.
 *
 * @throws {VolsealError} `ERR_IO`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_DAMAGED`, `ERR_HEADER_UNSUPPORTED`, `ERR_HEADER_TOKEN`,
 * `ERR_VOLUME_SIZE`, `ERR_ARGUMENT` (a detached header without its data)
 */
export async function readContents({ path, data, header, headerPath }: OpenFiles): Promise<HeaderContents> {
  const fileBytes = dataFileBytes(data, path);
  const found = await readHeader(header, headerPath);
  const { segment } = assertSupported(found.header.metadata, headerPath);
  const token = findToken(found.header.metadata, headerPath);
  checkPlacement(segment, header !== data, path);
  return { found, segment, token, sizeBytes: dataBytes(segment, token, fileBytes, path) };
}

async function lockFile(file: FileHandle, path: string, exclusive: boolean): Promise<void> {
  try {
    native.fileLock(file.fd, exclusive);
  } catch (error) {
    if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw withPath(error, path);
    const wish = exclusive ? 'writing' : 'reading';
    throw new VolsealError(
      'ERR_STATE_BUSY',
      `${path}: cannot be opened for ${wish}: another process, or this one, has the volume attached`,
      {
        cause: error,
        details: { path },
      },
    );
  }
  // Between opening and locking, somebody may have put another file in this place: what we hold would be nobody's volume any more.
  const [held, there] = await namingPath(path, () => Promise.all([file.stat(), stat(path)]));
  if (held.ino !== there.ino || held.dev !== there.dev) {
    throw new VolsealError('ERR_STATE_BUSY', `${path}: was replaced while it was being opened; try again`, { details: { path } });
  }
}

function checkPlacement(segment: DataSegment, detached: boolean, path: string): void {
  if (!detached && segment.offsetBytes === 0) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${path}: is a detached header; name the file with the data as the volume and this one as its header`,
      {
        details: { path },
      },
    );
  }
}

/**
 * The volume's size is what its header's MAC covers: the image's length, in whole sectors. Bytes behind it (a larger device, something
 * appended) are not part of it.
 */
function dataBytes(segment: DataSegment, token: VolumeToken, fileBytes: number, path: string): number {
  const available = fileBytes - segment.offsetBytes;
  const sizeBytes = Math.ceil(token.imageBytes / segment.sectorBytes) * segment.sectorBytes;
  if (available < sizeBytes || (segment.sizeBytes !== 'dynamic' && segment.sizeBytes !== sizeBytes)) {
    throw new VolsealError(
      'ERR_VOLUME_SIZE',
      `${path}: holds ${Math.max(available, 0)} bytes of data, the volume has ${sizeBytes}: the file was cut off; restore it from a backup`,
      { details: { path, sizeBytes: fileBytes } },
    );
  }
  return sizeBytes;
}

/**
 * Where to ask for this volume's key: what the caller names, else what the header records. A URL from a header is never followed:
 * whoever wrote the header would choose who answers.
 *
 * @param embeddedHome where the embedded KMS lies if neither says; default: the user's data folder
 * @throws {VolsealError} `ERR_ARGUMENT`
 */
function chooseKms(kms: string | undefined, embeddedHome: string | undefined, volume: VolumeFile): KmsEndpoint {
  if (kms !== undefined) return parseKmsUri(kms, embeddedHome);
  const recorded = volume.token.kms;
  if (recorded === 'embedded' || recorded.startsWith('aws:')) return parseKmsUri(recorded, embeddedHome);
  throw new VolsealError(
    'ERR_ARGUMENT',
    `${volume.path}: its key was wrapped by the KMS at ${recorded}; name that KMS yourself if you trust it`,
    {
      details: { path: volume.path, kms: recorded },
    },
  );
}

/** Where, and as whom, to ask for this volume's key. @throws {VolsealError} `ERR_ARGUMENT` */
export const endpointOf = (
  volume: VolumeFile,
  options: { kms?: string | undefined; embeddedHome?: string | undefined; kmsAccess?: KmsAccess | undefined },
): KmsEndpoint => withAccess(chooseKms(options.kms, options.embeddedHome, volume), options.kmsAccess);

/** The endpoint, asked as the principal of `access`. @throws {VolsealError} `ERR_ARGUMENT`, as `asCaller` */
export function withAccess(endpoint: KmsEndpoint, access: KmsAccess | undefined): KmsEndpoint {
  return access?.principal === undefined ? endpoint : asCaller(endpoint, { principal: access.principal });
}

/** The pairs a caller expects must all stand in the volume's context. @throws {VolsealError} `ERR_CONTEXT_MISMATCH` */
function checkExpectedContext(expected: EncryptionContext | undefined, volume: VolumeFile): void {
  const actual = volume.token.encryptionContext;
  const wanted = { [VOLUME_ID_CONTEXT_KEY]: volume.token.volumeId, ...expected };
  const differing = Object.entries(wanted).filter(([key, value]) => !Object.hasOwn(actual, key) || actual[key] !== value);
  if (differing.length === 0) return;
  const pairs = differing.map(
    ([key, value]) =>
      `${JSON.stringify(key)} is ${Object.hasOwn(actual, key) ? JSON.stringify(actual[key]) : 'not there'}, expected was ${JSON.stringify(value)}`,
  );
  throw new VolsealError(
    'ERR_CONTEXT_MISMATCH',
    `${volume.path}: the encryption context of ${volume.token.volumeId} is ${describeContext(actual)}: ${pairs.join('; ')}`,
    { details: { path: volume.path, volumeId: volume.token.volumeId, encryptionContext: actual } },
  );
}

/**
 * The volume's key, unwrapped by KMS into the vault, with the header proved by it. The caller wipes the handle.
 *
 * @throws {VolsealError} `ERR_KMS_*`, `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_HEADER_MAC`, `ERR_MEMORY_LOCK`, `ERR_ABORTED`
 */
export async function unlockVolume(
  volume: VolumeFile,
  options: {
    kms?: string | undefined;
    embeddedHome?: string | undefined;
    encryptionContext?: EncryptionContext | undefined;
    kmsAccess?: KmsAccess | undefined;
    signal?: AbortSignal | undefined;
  },
  pool: PoolLease,
): Promise<KeyHandle> {
  checkExpectedContext(options.encryptionContext, volume);
  const { keyId, encryptedDataKey, encryptionContext } = volume.token;
  try {
    const task: UnlockTask = {
      kind: 'unlock',
      kms: endpointOf(volume, options),
      request: { keyArn: keyId, encryptedDataKey, context: encryptionContext, grantTokens: options.kmsAccess?.grantTokens ?? [] },
      header: volume.found.header,
      headerPath: volume.headerPath,
    };
    return await pool.run(task, options.signal);
  } catch (error) {
    throw withPath(error, volume.path);
  }
}
