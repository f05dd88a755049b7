/**
 * The ciphertext blob of the embedded KMS.
 *
 * | bytes | field                                                                                  |
 * |-------|----------------------------------------------------------------------------------------|
 * | 2     | 0x56 0x01: "V", format 1                                                               |
 * | 16    | key id (its UUID's bytes)                                                              |
 * | 32    | id of the key material that sealed it: a key may come to have several, by rotation     |
 * | n     | AES-256-GCM under that material: 12-byte random IV, ciphertext, 16-byte tag            |
 *
 * The additional authenticated data are the 50 bytes before the seal and the encryption context in its canonical bytes,
 * so that neither can be exchanged. KMS blobs are opaque to clients; nothing outside this file reads one.
 */
import { KMS_CIPHERTEXT_BYTES_MAX } from '../../../limits.js';
import { type KeyHandle, native } from '../../../native.js';
import { canonicalBytes, type EncryptionContext } from '../../shared/encryption-context.js';
import { invalidCiphertext } from '../faults.js';
import { keyIdBytes, keyIdText } from './names.js';

const FORMAT = Buffer.of(0x56, 0x01);
const KEY_ID_BYTES = 16;
const MATERIAL_ID_BYTES = 32;
const HEADER_BYTES = FORMAT.length + KEY_ID_BYTES + MATERIAL_ID_BYTES;
/** IV, one byte of ciphertext, tag. */
const SEALED_BYTES_MIN = 12 + 1 + 16;

export interface Ciphertext {
  readonly keyId: string;
  /** 64 lower-case hex digits. */
  readonly materialId: string;
  readonly header: Buffer;
  readonly sealed: Buffer;
}

/** Seals the vault key `plaintext` under `master`, a vault key of 32 bytes that is this key's material `materialId`. */
export function sealCiphertext(
  master: KeyHandle,
  names: { keyId: string; materialId: string },
  plaintext: KeyHandle,
  context: EncryptionContext,
): Buffer {
  const header = Buffer.concat([FORMAT, keyIdBytes(names.keyId), Buffer.from(names.materialId, 'hex')]);
  return Buffer.concat([header, native.keySeal(master, plaintext, boundTo(header, context))]);
}

/**
 * Reads a blob without opening it. @throws {KmsFault} InvalidCiphertextException where it has another form or length
 */
export function parseCiphertext(blob: Buffer): Ciphertext {
  const wellFormed =
    blob.length >= HEADER_BYTES + SEALED_BYTES_MIN &&
    blob.length <= KMS_CIPHERTEXT_BYTES_MAX &&
    blob.subarray(0, FORMAT.length).equals(FORMAT);
  if (!wellFormed) throw invalidCiphertext();
  const materialAt = FORMAT.length + KEY_ID_BYTES;
  return {
    keyId: keyIdText(blob.subarray(FORMAT.length, materialAt)),
    materialId: blob.subarray(materialAt, HEADER_BYTES).toString('hex'),
    header: blob.subarray(0, HEADER_BYTES),
    sealed: blob.subarray(HEADER_BYTES),
  };
}

/**
 * Opens a blob straight into the vault; the caller wipes the handle.
 * @throws {KmsFault} InvalidCiphertextException: another context, another master key, or a changed byte
 */
export function openCiphertext(master: KeyHandle, ciphertext: Ciphertext, context: EncryptionContext): KeyHandle {
  const plaintext = native.keyOpen(master, ciphertext.sealed, boundTo(ciphertext.header, context));
  if (plaintext === undefined) throw invalidCiphertext();
  return plaintext;
}

const boundTo = (header: Buffer, context: EncryptionContext): Buffer => Buffer.concat([header, canonicalBytes(context)]);
