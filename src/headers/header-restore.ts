/**
 * A volume's header from a backup: proved by its key first, then written so that a good header is there at every
 * moment.
 */

import { constants } from 'node:fs';
import { stat } from 'node:fs/promises';
import { VolsealError, withPath } from '../errors.js';
import { logged } from '../logging.js';
import { BINARY_HEADER_BYTES, carriesMagic, headerVersion } from '../luks2/binary-header.js';
import { describeSameData, type FoundHeader, foreignContent, type Luks2Header, nextSequence } from '../luks2/header.js';
import { hasHeader, readHeader, writeHeader } from '../luks2/store.js';
import { findUsableToken } from '../luks2/token.js';
import { native } from '../native.js';
import { openDataFile } from '../output/data-file.js';
import { isDetachedHeader } from '../output/detached-header.js';
import { ifThere, type NamedFile } from '../output/named-file.js';
import { refuseOtherData } from '../volume/data-binding.js';
import { type HeaderArea, readHeaderArea, writeHeaderFile } from '../volume/header-area.js';
import { type OpenOptions, unlockVolume } from '../volume/unlock.js';
import { contentsOf, isDataOf, type OpenFiles, openVolumeFiles, refuseMixture } from '../volume/volume-file.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool } from '../workers/pool.js';

/** Options of `restoreHeader`. */
export interface RestoreHeaderOptions extends OpenOptions {
  /**
   * Default true: KMS unwraps the backup's key, which proves the backup. Without that, a backup that somebody forged or
   * damaged makes the volume unreadable, or has it read and written under a key that somebody else knows.
   */
  prove?: boolean | undefined;
  /**
   * Writes the header also where nothing tells that a volume was there: what lies in its place is lost. And over one
   * that knows that the data is a mixture of two snapshots (`updateVolume`): nothing tells afterwards.
   */
  force?: boolean | undefined;
  /** Called with a warning, one sentence, about something that does not stop the job. */
  onWarning?: ((warning: string) => void) | undefined;
}

/** What `restoreHeader` did. */
export interface RestoredHeader {
  /** Path of the volume. */
  volume: string;
  /** Path of the backup. */
  backup: string;
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** What was there before: a whole header of this volume, remains of one, or none. */
  before: 'header' | 'remains' | 'none';
  /** Whether the volume's header had been changed since the backup was made. */
  wasOlder: boolean;
  /** Whether the key proved the backup. */
  proved: boolean;
}

/**
 * Writes the header of a backup into the volume, or into the file of its detached header, which may be missing.
 *
 * Refused are the backup of another volume, one from before a re-encryption, and a file that was no volume. The
 * keyslots are written first, then one copy of the header after the other, each flushed. Whatever ends it early, the
 * same call completes it.
 *
 * @throws {VolsealError} `ERR_HEADER_BACKUP`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_STATE_BUSY`,
 * `ERR_STATE_INTERRUPTED`, `ERR_IO`, `ERR_ABORTED`; where it is proved also as `attach`
 */
export async function restoreHeader(volume: string, backup: string, options: RestoreHeaderOptions = {}): Promise<RestoredHeader> {
  return logged('restore header', { source: backup, target: volume }, options, (own) => restore(volume, backup, own));
}

async function restore(volume: string, backup: string, options: RestoreHeaderOptions): Promise<RestoredHeader> {
  await using backupFile = await openDataFile(backup, constants.O_RDONLY);
  const stored = await readHeaderArea(backupFile).catch((error: unknown) => {
    throw error instanceof VolsealError
      ? new VolsealError(error.code, error.message, { cause: error.cause, details: { ...error.details, isBackup: true } })
      : error;
  });
  const { header: headerPath } = options;
  const isNew = headerPath !== undefined && (await ifThere(headerPath, () => stat(headerPath))) === undefined;
  const files = await openVolumeFiles(volume, 'exclusive', isNew ? undefined : headerPath);
  try {
    const headerFile = isNew ? undefined : files.header;
    if (await backupFile.isAt(headerFile?.path ?? volume)) throw isItself(backup);
    const current = headerFile && (await findHeader(headerFile));
    if (current !== undefined) {
      refuseMisfit(stored.found.header, current.header, volume, backup);
      if (options.force !== true) refuseToForgetMixture(stored.found, current, files.data.path);
    }
    const before =
      current !== undefined
        ? 'header'
        : headerFile !== undefined && (await hasHeader(headerFile.handle, headerFile.path))
          ? 'remains'
          : 'none';
    if (headerFile !== undefined && options.force !== true) await refuseOtherContent(headerFile, before, volume, backup);
    const volumeId = await prove(stored, { data: files.data, header: backupFile }, options);
    throwIfAborted(options.signal, 'nothing was written');
    const wasOlder = current !== undefined && stored.found.header.sequence < current.header.sequence;
    warn({ wasOlder, before, volume, backup }, options);
    if (headerFile === undefined) await writeHeaderFile(headerPath!, stored.area, false);
    else await writeOver(headerFile, stored, current);
    return { volume, backup, volumeId, before, wasOlder, proved: options.prove !== false };
  } catch (error) {
    throw withPath(error, volume);
  } finally {
    await files.close();
  }
}

/** The header in the file, undefined where no copy is good. */
async function findHeader(file: NamedFile): Promise<FoundHeader | undefined> {
  try {
    return await readHeader(file.handle, file.path);
  } catch (error) {
    if (error instanceof VolsealError && (error.code === 'ERR_HEADER_DAMAGED' || error.code === 'ERR_NOT_A_VOLUME')) return undefined;
    throw error;
  }
}

/** Proves the backup with its key, as opening the volume with it would. @returns the volume's id */
async function prove({ found }: HeaderArea, files: OpenFiles, options: RestoreHeaderOptions): Promise<string> {
  const contents = contentsOf(found, files);
  if (options.prove === false) return contents.token.volumeId;
  await using pool = leasePool(options.logger);
  const key = await unlockVolume({ ...files, ...contents }, options, pool);
  try {
    if (isDetachedHeader(found)) await refuseOtherData({ ...files, ...contents, isBound: await isDataOf(files, found) }, key, options);
  } finally {
    native.keyWipe(key);
  }
  return contents.token.volumeId;
}

async function writeOver(headerFile: NamedFile, { found, area }: HeaderArea, current: FoundHeader | undefined): Promise<void> {
  const { header } = found;
  await headerFile.write(area.subarray(2 * header.copyBytes), 2 * header.copyBytes);
  await headerFile.sync();
  // Newer than what is there: until both copies are written, the first one counts.
  const sequence = nextSequence(current !== undefined && current.header.sequence > header.sequence ? current.header : header);
  await writeHeader(headerFile.handle, { ...header, sequence }, headerFile.path, current?.from ?? 'primary');
}

function warn(
  { wasOlder, before, volume, backup }: Pick<RestoredHeader, 'wasOlder' | 'before' | 'volume' | 'backup'>,
  { prove, onWarning }: RestoreHeaderOptions,
): void {
  if (wasOlder) {
    onWarning?.(`${backup} is older than the header of ${volume}: rewraps, recovery keys and passphrases since then are undone by it`);
  }
  if (before !== 'header') {
    onWarning?.(
      `${volume} has no good header that tells which volume it is: only its length was compared with the backup; compare the data before you write to it`,
    );
  }
  if (prove === false) onWarning?.(`${backup} was not proved: prove it now with volseal verify`);
}

/** @throws {VolsealError} `ERR_HEADER_BACKUP` where the backup's header would read the data of this volume as noise */
function refuseMisfit(stored: Luks2Header, current: Luks2Header, volume: string, backup: string): void {
  const refuse = (what: string): never => {
    throw new VolsealError('ERR_HEADER_BACKUP', `${backup}: ${what}; nothing was written`, { details: { path: volume, backup } });
  };
  if (stored.uuid !== current.uuid) refuse(`is the header of another volume (UUID ${stored.uuid}; ${volume} has ${current.uuid})`);
  if (!describeSameData(stored, current)) {
    refuse(`was made before ${volume} got another data key or another place for its data: with it, the data would be unreadable`);
  }
}

/**
 * Only the header that is there knows that the data is a mixture of two snapshots.
 * @throws {VolsealError} `ERR_STATE_INTERRUPTED`
 */
function refuseToForgetMixture(stored: FoundHeader, current: FoundHeader, path: string): void {
  const [before, after] = [current, stored].map(({ header }) => findUsableToken(header.metadata, path));
  if (before !== undefined && after?.snapshot?.since === undefined) refuseMixture({ token: before }, path);
}

/** @throws {VolsealError} `ERR_NOT_A_VOLUME` where something else than the header of a volume would be overwritten */
async function refuseOtherContent(headerFile: NamedFile, before: RestoredHeader['before'], volume: string, backup: string): Promise<void> {
  const refuse = (what: string): never => {
    throw new VolsealError(
      'ERR_NOT_A_VOLUME',
      `${headerFile.path}: ${what}, so it is perhaps not the volume of ${backup}; nothing was written`,
      {
        details: { path: volume, backup },
      },
    );
  };
  const start = await headerFile.read(0, BINARY_HEADER_BYTES);
  if (carriesMagic(start, 0, 'primary')) {
    if (headerVersion(start) === 1) refuse('has a LUKS1 header');
    return;
  }
  const content = foreignContent(start);
  if (content !== undefined) refuse(`begins like ${content}`);
  if (before === 'none') refuse('has no remains of a LUKS2 header');
}

const isItself = (backup: string): VolsealError =>
  new VolsealError('ERR_ARGUMENT', `${backup}: is the file with the header itself; name a backup`, { details: { path: backup } });
