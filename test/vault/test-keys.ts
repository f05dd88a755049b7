/** Keys of tests: known bytes in the vault. Only a test may hold a key in a Buffer. */
import { type KeyHandle, native } from '../../src/native.js';

/** Takes known bytes into the vault; the caller wipes. */
export function importKey(bytes: Uint8Array): KeyHandle {
  return native.keyImportBase64(Buffer.from(Buffer.from(bytes).toString('base64')));
}

/** The bytes of a vault key that is no volume key. */
export function revealKey(key: KeyHandle): Buffer {
  const text = Buffer.alloc(Math.max(65, 4 * Math.ceil(native.keyByteLength(key) / 3)));
  native.keyRevealBase64(key, text, 0);
  return Buffer.from(text.toString('latin1').replaceAll('\0', ''), 'base64');
}

/** Imports, uses and wipes. */
export function withKey<T>(bytes: Uint8Array, use: (key: KeyHandle) => T): T {
  const key = importKey(bytes);
  try {
    return use(key);
  } finally {
    native.keyWipe(key);
  }
}

/** Imports, prepares as a volume key, uses and wipes. */
export function withVolumeKey<T>(bytes: Uint8Array, use: (key: KeyHandle) => T): T {
  return withKey(bytes, (key) => {
    native.xtsPrepare(key);
    return use(key);
  });
}

/** A value of the wrong type, on purpose. */
export const wrong = (value: unknown): never => value as never;
