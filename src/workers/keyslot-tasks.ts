/** The tasks on keyslots: PBKDF2 takes up to seconds, and the volume key stays in the vault. */
import { VolsealError } from '../errors.js';
import type { Luks2Header } from '../luks2/header.js';
import { verifyHeader } from '../luks2/header-mac.js';
import type { KeyslotParameters } from '../luks2/passphrase-keyslot.js';
import { type KeyHandle, native } from '../native.js';
import { readyKey } from './ready-key.js';

/** The area of a keyslot in which a passphrase opens the volume key. */
export interface SealKeyslotTask {
  kind: 'sealKeyslot';
  passphrase: KeyHandle;
  volumeKey: KeyHandle;
  parameters: KeyslotParameters;
}

/**
 * The volume key that a passphrase opens, ready, and the header proved by it; undefined where the passphrase is not
 * that of the keyslot. The handle is the caller's to wipe.
 */
export interface OpenKeyslotTask {
  kind: 'openKeyslot';
  passphrase: KeyHandle;
  area: Uint8Array;
  parameters: KeyslotParameters;
  header: Luks2Header;
  headerPath: string;
}

/** How many iterations of PBKDF2 take this machine about so long. */
export interface IterationsTask {
  kind: 'iterations';
  milliseconds: number;
}

/** Does a `SealKeyslotTask`. @throws {VolsealError} `ERR_KEY_GONE`, `ERR_MEMORY_LOCK`, `ERR_SELF_TEST` */
export function sealKeyslot({ passphrase, volumeKey, parameters }: SealKeyslotTask): Uint8Array {
  const { kdfHash, salt, iterations, afHash, slotKeyBytes } = parameters;
  return native.keyslotSeal(passphrase, volumeKey, kdfHash, salt, iterations, afHash, slotKeyBytes);
}

/**
 * Does an `OpenKeyslotTask`. @throws {VolsealError} `ERR_HEADER_*` but for the digest, `ERR_KEY_GONE`,
 * `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`
 */
export function openKeyslot({ passphrase, area, parameters, header, headerPath }: OpenKeyslotTask): KeyHandle | undefined {
  const { kdfHash, salt, iterations, afHash, slotKeyBytes } = parameters;
  const opened = native.keyslotOpen(passphrase, area, kdfHash, salt, iterations, afHash, slotKeyBytes);
  try {
    return readyKey(opened, (key) => verifyHeader(key, header, headerPath));
  } catch (error) {
    if (error instanceof VolsealError && error.code === 'ERR_KEY_DIGEST') return undefined;
    throw error;
  }
}
