/** The one way for a data key out of the vault: handed to another program, on the user's explicit request. */
import { withPath } from '../errors.js';
import { logged } from '../logging.js';
import { native } from '../native.js';
import { type VolumeSession, withVolume } from '../volume/session.js';
import type { OpenOptions } from '../volume/unlock.js';

/** An open stream that gets a volume key. */
export interface VolumeKeyStream {
  /** Open for writing: a pipe, a socket or a file, not a terminal. It stays open. */
  readonly fd: number;
  /** What messages call it. */
  readonly name: string;
}

/**
 * Has KMS unwrap the volume's key, proves the header by it, and writes its bytes to `target`, for a program that opens
 * the volume itself (`cryptsetup --volume-key-file`). From there on the key is out of volseal's hands: whoever reads it
 * opens the volume for ever, whatever becomes of the KMS key. The call to KMS is in the audit log; so a keyslot, which
 * needs no call, is not used here.
 *
 * @returns the volume's id, and the bytes that were written
 * @throws {VolsealError} as `attach`; `ERR_ARGUMENT` `target` is a terminal; `ERR_IO`
 */
export async function handOverVolumeKey(
  path: string,
  target: VolumeKeyStream,
  options: Omit<OpenOptions, 'recoveryKeyFile' | 'passphraseFile' | 'anyKeyslot'> = {},
): Promise<{ volumeId: string; keyBytes: number }> {
  const byKms = { ...options, recoveryKeyFile: undefined, passphraseFile: undefined };
  const access = { lock: 'none', ifStopped: 'no key was written' } as const;
  const handOver = async (session: VolumeSession) => {
    const key = await session.unlock();
    session.throwIfAborted();
    try {
      native.volumeKeyHandOver(key, target.fd);
    } catch (error) {
      throw withPath(error, target.name);
    }
    return { volumeId: session.file.token.volumeId, keyBytes: native.keyByteLength(key) };
  };
  return logged('hand over volume key', { path, target: target.name }, byKms, (own) => withVolume(path, own, access, handOver));
}
