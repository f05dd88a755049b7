/** Opening a volume without KMS: by a recovery key or a passphrase, in a keyslot. */
import { constants } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { VolsealError, withPath } from '../errors.js';
import { type KeyslotInfo, type KeyslotKind, listKeyslots } from '../luks2/known-keyslots.js';
import { areaDataBytes, keyslotObstacle, keyslotParameters } from '../luks2/passphrase-keyslot.js';
import { type KeyHandle, native } from '../native.js';
import { NamedFile } from '../output/named-file.js';
import { throwIfAborted } from '../workers/abort.js';
import type { PoolLease } from '../workers/pool.js';
import type { HeaderContents } from './volume-file.js';

/** What opens a volume instead of KMS. */
export interface KeyslotOptions {
  /**
   * A file with a recovery key, as `addRecoveryKey` wrote or printed it: the volume is opened by that, and KMS is not
   * asked.
   */
  readonly recoveryKeyFile?: string | undefined;
  /** A file with a passphrase; one line end at its end is not part of it. */
  readonly passphraseFile?: string | undefined;
  /** Also a keyslot that volseal did not add. Whoever added it had the volume key. */
  readonly anyKeyslot?: boolean | undefined;
}

/** Whether a keyslot opens the volume, and not KMS. */
export const asksKeyslot = ({ recoveryKeyFile, passphraseFile }: KeyslotOptions): boolean =>
  (recoveryKeyFile ?? passphraseFile) !== undefined;

/** What a header says, and how the keyslots behind it are read, wherever it is. */
export interface KeyslotVolume extends HeaderContents {
  readonly data: { readonly path: string };
  readonly header: {
    readonly path: string;
    /** Up to `bytesMax` bytes from `offsetBytes` on: fewer where the header's file or object ends. */
    read(offsetBytes: number, bytesMax: number): Promise<Buffer>;
  };
}

/** A volume key, the caller's to wipe, and the keyslot that it came from. */
export interface OpenedKeyslot {
  readonly key: KeyHandle;
  readonly keyslot: string;
}

/**
 * The key of a volume from one of its keyslots; it proves the header.
 *
 * @throws {VolsealError} `ERR_KEYSLOT` no keyslot opens; `ERR_ARGUMENT` the file holds no recovery key or passphrase;
 * `ERR_HEADER_MAC`, `ERR_IO`, `ERR_MEMORY_LOCK`, `ERR_ABORTED`
 */
export async function unlockKeyslot(
  volume: KeyslotVolume,
  options: KeyslotOptions & { readonly signal?: AbortSignal | undefined },
  pool: PoolLease,
): Promise<OpenedKeyslot> {
  const { recoveryKeyFile, passphraseFile, anyKeyslot = false, signal } = options;
  if (recoveryKeyFile !== undefined && passphraseFile !== undefined)
    throw new VolsealError('ERR_ARGUMENT', 'a volume is opened by a recovery key or by a passphrase: name one file');
  const kind: KeyslotKind = recoveryKeyFile !== undefined ? 'recovery' : 'passphrase';
  const { header } = volume.found;
  const all = listKeyslots(header.metadata, volume.token.keyslots);
  const usable = all.filter((slot) => slot.kind === kind || (anyKeyslot && slot.kind === 'foreign'));
  const passphrase = await readPassphrase(kind, (recoveryKeyFile ?? passphraseFile)!, signal);
  try {
    for (const { keyslot } of usable) {
      const parameters = keyslotParameters(header.metadata.keyslots[keyslot]!);
      if (parameters === undefined) continue;
      throwIfAborted(signal, 'the volume was not opened');
      const area = await volume.header.read(parameters.areaOffsetBytes, areaDataBytes(parameters));
      if (area.length < areaDataBytes(parameters)) continue;
      const task = { kind: 'openKeyslot', passphrase, area, parameters, header, headerPath: volume.header.path } as const;
      const key = await pool.run(task);
      if (key !== undefined) return { key, keyslot };
    }
  } finally {
    native.keyWipe(passphrase);
  }
  const obstacles = usable.flatMap(({ keyslot }) => {
    const obstacle = keyslotObstacle(header.metadata.keyslots[keyslot]!);
    return obstacle === undefined ? [] : [`${keyslot} (${obstacle})`];
  });
  throw noneOpens(volume.data.path, kind, all, usable, obstacles);
}

/** Between two looks at a pipe whose writer has written nothing yet. */
const LOOK_MS = 50;

/**
 * Reads a recovery key or a passphrase into the vault; the handle is the caller's to wipe. A pipe will do: its writer
 * is waited for until `signal` aborts, and the thread goes on meanwhile. Only the rest of what it has begun to write is
 * waited for in this thread, for 10 s at most.
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IO`, `ERR_MEMORY_LOCK`, `ERR_ABORTED`
 */
export async function readPassphrase(kind: KeyslotKind, path: string, signal: AbortSignal | undefined): Promise<KeyHandle> {
  await using file = await openToRead(path, signal);
  for (;;) {
    throwIfAborted(signal, `${path} was not read`);
    try {
      return kind === 'recovery' ? native.recoveryKeyRead(file.fd) : native.passphraseRead(file.fd);
    } catch (error) {
      if (!(error instanceof VolsealError) || error.details.errno !== 'EAGAIN') throw withPath(error, path);
    }
    await setTimeout(LOOK_MS);
  }
}

/** Opening a pipe takes until it has a writer. What is no regular file is opened once more, so that no read blocks. */
async function openToRead(path: string, signal: AbortSignal | undefined): Promise<NamedFile> {
  const opening = NamedFile.open(path, constants.O_RDONLY);
  let isOpen = false;
  const ended = opening.finally(() => {
    isOpen = true;
  });
  ended.catch(() => {});
  while (!isOpen && signal?.aborted !== true) await Promise.race([ended, setTimeout(LOOK_MS)]);
  if (!isOpen) opening.then((late) => late.close()).catch(() => {});
  throwIfAborted(signal, `${path} was not read`);
  const file = await opening;
  if ((await file.stat()).isFile()) return file;
  try {
    const again = await file.reopen(constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    await file.close();
    return again;
  } catch {
    // Another user's pipe, which only its own descriptor reads.
    return file;
  }
}

function noneOpens(
  path: string,
  kind: KeyslotKind,
  all: readonly KeyslotInfo[],
  usable: readonly KeyslotInfo[],
  obstacles: readonly string[],
): VolsealError {
  const what = kind === 'recovery' ? 'recovery key' : 'passphrase';
  const foreign = all.filter((slot) => slot.kind === 'foreign' && !usable.includes(slot)).map(({ keyslot }) => keyslot);
  const tried =
    usable.length === 0
      ? `it has no ${what}`
      : `this ${what} opens none of its keyslots (${usable.map(({ keyslot }) => keyslot).join(', ')})`;
  const others = foreign.length === 0 ? '' : `; the keyslots that volseal did not add (${foreign.join(', ')}) were not tried`;
  const unable = obstacles.length === 0 ? '' : `; volseal cannot open ${obstacles.join(', ')}`;
  return new VolsealError('ERR_KEYSLOT', `${path}: ${tried}${unable}${others}`, { details: { path, kind, foreign } });
}
