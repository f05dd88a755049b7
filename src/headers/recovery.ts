/**
 * Ways into a volume without KMS: keyslots for a recovery key, which is random and printed once, and for a passphrase
 * of the owner's. Adding and removing one needs the volume key, from KMS or from another keyslot.
 */

import { randomBytes } from 'node:crypto';
import { VolsealError, withPath } from '../errors.js';
import { DATA_KEY_BYTES, PASSPHRASE_ITERATIONS_MIN, PASSPHRASE_MS, RECOVERY_KEY_ITERATIONS } from '../limits.js';
import { logged } from '../logging.js';
import { intactHeader, type Luks2Header } from '../luks2/header.js';
import { type KeyslotInfo, type KeyslotKind, keyslotSha256, listKeyslots } from '../luks2/known-keyslots.js';
import {
  areaDataBytes,
  freeKeyslot,
  type KeyslotParameters,
  keyslotObject,
  withKeyslot,
  withoutKeyslot,
} from '../luks2/passphrase-keyslot.js';
import { repairHeader, writeHeader } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import { openTarget } from '../output/open-target.js';
import { resolveTarget } from '../output/resolve-target.js';
import { isStored } from '../stores/location.js';
import { withVolume } from '../volume/session.js';
import type { StoredOpenOptions } from '../volume/stored-volume.js';
import { checkExpected, type OpenOptions } from '../volume/unlock.js';
import { asksKeyslot, type KeyslotVolume, readPassphrase, unlockKeyslot } from '../volume/unlock-keyslot.js';
import { claimsOf } from '../volume/volume-file.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { changedHeader, type KeyslotSession } from './keyslot-session.js';

/** An open stream that gets the text of a recovery key, once. */
export interface RecoveryKeyStream {
  /** Open for writing; it stays open. */
  readonly fd: number;
  /** What messages call it. */
  readonly name: string;
}

/** Options of `addRecoveryKey`. */
export interface AddRecoveryKeyOptions extends StoredOpenOptions {
  /** Another stream that gets the text as well, before the target. */
  alsoTo?: RecoveryKeyStream | undefined;
}

/** A volume and one of its keyslots. */
export interface VolumeKeyslot extends KeyslotInfo {
  /** Path of the volume. */
  path: string;
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
}

const access = { lock: 'exclusive', ifStopped: 'the volume is as it was' } as const;

/**
 * Adds a keyslot for a new recovery key, and writes the key's text to `target`: a new file with mode 0600, or a stream.
 * It is written once, and volseal cannot show it again. The text itself is the passphrase for cryptsetup.
 *
 * The keyslot is read back and opened before the text is written. Where the text cannot be written, the keyslot is
 * removed again.
 *
 * @throws {VolsealError} as `attach`; `ERR_ARGUMENT` no room for a keyslot; `ERR_TARGET_EXISTS`, `ERR_IO`
 */
export async function addRecoveryKey(
  path: string,
  target: string | RecoveryKeyStream,
  options: AddRecoveryKeyOptions = {},
): Promise<VolumeKeyslot> {
  return logged('add recovery key', { path }, options, (own) => addNewKey(path, target, own));
}

async function addNewKey(path: string, target: string | RecoveryKeyStream, options: AddRecoveryKeyOptions): Promise<VolumeKeyslot> {
  const output = { force: false, fsync: true };
  const resolved = typeof target === 'string' ? await resolveTarget(target, output) : undefined;
  const passphrase = native.recoveryKeyGenerate();
  try {
    return await changing(path, options, async (session) => {
      await using file = resolved && (await openTarget(resolved, output));
      const added = await addKeyslot(session, passphrase, 'recovery', RECOVERY_KEY_ITERATIONS);
      await session.commit();
      try {
        if (options.alsoTo !== undefined) native.recoveryKeyWrite(passphrase, options.alsoTo.fd);
        native.recoveryKeyWrite(passphrase, file?.file.fd ?? (target as RecoveryKeyStream).fd);
        await file?.publish();
      } catch (error) {
        await dropKeyslot(session, added.header, added.keyslot);
        await session.commit();
        throw withPath(error, typeof target === 'string' ? target : target.name);
      }
      return describe(session.file, added.header, added.keyslot);
    });
  } finally {
    native.keyWipe(passphrase);
  }
}

/**
 * Adds a keyslot for a passphrase of the owner's, with at least two seconds of PBKDF2 on this machine: a passphrase
 * that people can remember can also be guessed.
 *
 * @param passphraseFile 1 to 512 bytes; one line end at its end is not part of the passphrase
 * @throws {VolsealError} as `attach`; `ERR_ARGUMENT` no room for a keyslot, no passphrase; `ERR_IO`
 */
export async function addPassphrase(path: string, passphraseFile: string, options: StoredOpenOptions = {}): Promise<VolumeKeyslot> {
  return logged('add passphrase', { path }, options, (own) => addOwnPassphrase(path, passphraseFile, own));
}

async function addOwnPassphrase(path: string, passphraseFile: string, options: StoredOpenOptions): Promise<VolumeKeyslot> {
  const passphrase = await readPassphrase('passphrase', passphraseFile, options.signal);
  try {
    return await changing(path, options, async (session) => {
      const measured = await session.pool.run({ kind: 'iterations', milliseconds: PASSPHRASE_MS });
      const added = await addKeyslot(session, passphrase, 'passphrase', Math.max(measured, PASSPHRASE_ITERATIONS_MIN));
      await session.commit();
      return describe(session.file, added.header, added.keyslot);
    });
  } finally {
    native.keyWipe(passphrase);
  }
}

/**
 * Opens a volume by the recovery key or passphrase that the options name, and closes it again; nothing is changed.
 * @throws {VolsealError} `ERR_KEYSLOT`, `ERR_ARGUMENT`, and as `attach`
 */
export async function testKeyslot(path: string, options: StoredOpenOptions): Promise<VolumeKeyslot> {
  if (!asksKeyslot(options)) throw new VolsealError('ERR_ARGUMENT', 'name the file with the recovery key or the passphrase');
  if (isStored(path)) {
    const { withStoredSource } = await import('../volume/stored-volume.js');
    return await withStoredSource(path, options, async (volume) => {
      await using pool = leasePool(options.logger);
      return await tried(volume, options, pool);
    });
  }
  return withVolume(path, options, { lock: 'none', ifStopped: 'nothing was changed' }, async (session) => {
    return await tried(session.file, options, session.pool);
  });
}

async function tried(volume: KeyslotVolume, options: OpenOptions, pool: PoolLease): Promise<VolumeKeyslot> {
  checkExpected(volume, options);
  const { key, keyslot } = await unlockKeyslot(volume, options, pool);
  native.keyWipe(key);
  return describe(volume, volume.found.header, keyslot);
}

/**
 * Removes a keyslot: overwrites its area, then writes the header without it. A backup of the header still opens by it.
 *
 * @param keyslot its LUKS2 name, a number
 * @throws {VolsealError} as `attach`; `ERR_ARGUMENT` there is no such keyslot
 */
export async function removeKeyslot(path: string, keyslot: string, options: StoredOpenOptions = {}): Promise<VolumeKeyslot> {
  return logged('remove keyslot', { path }, options, (own) => removeOne(path, keyslot, own));
}

async function removeOne(path: string, keyslot: string, options: StoredOpenOptions): Promise<VolumeKeyslot> {
  return changing(path, options, async (session) => {
    const { header } = session.file.found;
    const names = Object.keys(header.metadata.keyslots);
    if (!names.includes(keyslot)) {
      throw new VolsealError('ERR_ARGUMENT', `${path}: has no keyslot ${keyslot}; its keyslots: ${names.join(', ') || 'none'}`, {
        details: { path, keyslots: names },
      });
    }
    const removed = describe(session.file, header, keyslot);
    await dropKeyslot(session, header, keyslot);
    await session.commit();
    return removed;
  });
}

/** Opens the volume for a change of its header: alone, with its key, and with both copies good. */
async function changing<T>(path: string, options: StoredOpenOptions, change: (session: KeyslotSession) => Promise<T>): Promise<T> {
  if (isStored(path)) return await (await import('./stored-keyslots.js')).changingStored(path, options, change);
  return await withVolume(path, options, access, async (session) => {
    const key = await session.unlock();
    const { file, pool } = session;
    const { header, found } = file;
    await repairHeader(header.handle, found, header.path);
    session.throwIfAborted();
    return await change({
      ...{ file, key, pool },
      async writeArea(bytes, offsetBytes) {
        await header.write(bytes, offsetBytes);
        await header.sync();
      },
      writeHeader: (next) => writeHeader(header.handle, next, header.path),
      async commit() {},
    });
  });
}

interface AddedKeyslot {
  readonly header: Luks2Header;
  readonly keyslot: string;
}

/** First the area, then the header that names it; then the proof that it opens. */
async function addKeyslot(session: KeyslotSession, passphrase: KeyHandle, kind: KeyslotKind, iterations: number): Promise<AddedKeyslot> {
  const { file, pool, key } = session;
  const { header: headerFile, found } = file;
  const volumeKeyBytes = native.keyByteLength(key);
  const { name, areaOffsetBytes } = freeKeyslot(found.header, volumeKeyBytes, headerFile.path);
  const parameters: KeyslotParameters = {
    kdfHash: 'sha512',
    salt: randomBytes(32),
    iterations,
    afHash: 'sha512',
    areaOffsetBytes,
    volumeKeyBytes,
    slotKeyBytes: DATA_KEY_BYTES,
  };
  const area = await pool.run({ kind: 'sealKeyslot', passphrase, volumeKey: key, parameters });
  await session.writeArea(area, areaOffsetBytes);
  const keyslot = keyslotObject(parameters);
  const entry = { kind, created: new Date().toISOString(), sha256: keyslotSha256(keyslot) };
  const known = { ...file.token.keyslots, [name]: entry };
  const header = changedHeader(session, found.header, withKeyslot(found.header.metadata, name, keyslot), known);
  await session.writeHeader(header);
  const written = await headerFile.read(areaOffsetBytes, areaDataBytes(parameters));
  const opened = await pool.run({ kind: 'openKeyslot', passphrase, area: written, parameters, header, headerPath: headerFile.path });
  if (opened === undefined) {
    await dropKeyslot(session, header, name);
    throw new VolsealError(
      'ERR_IO',
      `${headerFile.path}: what was read back of the keyslot is not what was written; it was removed again`,
      {
        details: { syscall: 'pread', path: headerFile.path, offsetBytes: areaOffsetBytes },
      },
    );
  }
  native.keyWipe(opened);
  return { header, keyslot: name };
}

/** First the area, so that nothing opens by it any more, then the header. */
async function dropKeyslot(session: KeyslotSession, header: Luks2Header, name: string): Promise<void> {
  const { area } = header.metadata.keyslots[name]!;
  await session.writeArea(randomBytes(Number(area.size)), Number(area.offset));
  const { [name]: _, ...known } = claimsOf(intactHeader(header), session.file.header.path).token.keyslots ?? {};
  await session.writeHeader(changedHeader(session, header, withoutKeyslot(header.metadata, name), known));
}

function describe({ data, header: { path } }: KeyslotVolume, header: Luks2Header, keyslot: string): VolumeKeyslot {
  const { token } = claimsOf(intactHeader(header), path);
  const info = listKeyslots(header.metadata, token.keyslots).find((candidate) => candidate.keyslot === keyslot)!;
  return { ...info, path: data.path, volumeId: token.volumeId };
}
