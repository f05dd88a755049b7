/**
 * The key of every benchmark: AES-256-XTS, public, protects nothing. That all contenders use the same one lets their
 * bytes be compared; being public it may lie in JavaScript's memory, where no data key ever is.
 */
import { createSecretKey, type KeyObject } from 'node:crypto';
import { type KeyHandle, native } from '../native.js';

const bytes = (): Buffer => Buffer.from(Array.from({ length: 64 }, (_, index) => (index * 37 + 11) % 256));

/** For node:crypto, in the form that is expanded fastest. */
export const publicKeyObject = (): KeyObject => createSecretKey(bytes());

/**
 * The same key in the vault, prepared as a volume key; the caller wipes it.
 *
 * @throws {VolsealError} `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`
 */
export function publicKeyInVault(): KeyHandle {
  const key = native.keyImportBase64(Buffer.from(bytes().toString('base64')));
  try {
    native.xtsPrepare(key);
    return key;
  } catch (error) {
    native.keyWipe(key);
    throw error;
  }
}
