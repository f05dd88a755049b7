/**
 * The header's MAC: without the volume key, nobody can change how the data of the volume is read.
 *
 * It covers what decides that: the UUID, the segments, the digest of the volume key, the requirements, and the
 * `aws-kms` token. It covers nothing else, so that cryptsetup can add a recovery passphrase or a token of another type
 * and the volume still attaches. HMAC-SHA-256 over JSON canonicalised by RFC 8785; docs/FORMAT.md gives the input
 * exactly.
 */
import { timingSafeEqual } from 'node:crypto';
import canonicalize from 'canonicalize';
import { VolsealError } from '../errors.js';
import { type KeyHandle, native } from '../native.js';
import { type Luks2Header, nextSequence } from './header.js';
import { assertSupported, dataDigests, type KeyDigest } from './metadata.js';
import { findToken, findTokenObject, MAC_MEMBER, type UnsealedToken, type VolumeToken, withToken } from './token.js';

const MAC_KEY_LABEL = Buffer.from('volseal header mac v1');

/**
 * The text that the MAC covers, as UTF-8.
 *
 * Left out are the `keyslots` lists of the digests, which grow with each passphrase, and digests without a segment,
 * whose keys open nothing.
 *
 * @throws {VolsealError} `ERR_HEADER_TOKEN` if the header has no `aws-kms` token, or several
 */
export function headerMacInput(header: Luks2Header, path: string): Buffer {
  const { uuid, metadata } = header;
  const { [MAC_MEMBER]: _, ...token } = findTokenObject(metadata, path).object;
  const covered = {
    uuid,
    segments: metadata.segments,
    digests: dataDigests(metadata),
    ...(metadata.config.requirements === undefined ? {} : { requirements: metadata.config.requirements }),
    token,
  };
  return Buffer.from(canonicalize(covered)!);
}

/**
 * 32 bytes: HMAC-SHA-256 of `headerMacInput` under `macKey`.
 * @throws {VolsealError} `ERR_HEADER_TOKEN`, `ERR_KEY_GONE`
 */
export function headerMac(macKey: KeyHandle, header: Luks2Header, path: string): Buffer {
  return native.keyHmac(macKey, headerMacInput(header, path));
}

/**
 * The header with its MAC in its token; the argument is not changed.
 *
 * @param volumeKey stays the caller's
 * @throws {VolsealError} `ERR_HEADER_TOKEN`, `ERR_KEY_GONE`
 */
export function sealHeader(volumeKey: KeyHandle, header: Luks2Header, path: string): Luks2Header {
  const mac = withMacKey(volumeKey, (macKey) => headerMac(macKey, header, path));
  const { metadata } = header;
  const { name, object } = findTokenObject(metadata, path);
  const sealed = { ...object, [MAC_MEMBER]: mac.toString('base64') };
  return { ...header, metadata: { ...metadata, tokens: { ...metadata.tokens, [name]: sealed } } };
}

/**
 * The next version of a header, with another token and under its MAC; the argument is not changed. A record of a
 * snapshot in the token holds for the new version as well.
 *
 * @param volumeKey stays the caller's
 * @throws {VolsealError} `ERR_ARGUMENT` as `withToken`; `ERR_KEY_GONE`
 */
export function nextHeader(volumeKey: KeyHandle, old: Luks2Header, token: UnsealedToken, path: string): Luks2Header {
  const sequence = nextSequence(old);
  const snapshot = token.snapshot && { ...token.snapshot, sequence };
  return sealHeader(volumeKey, { ...old, sequence, metadata: withToken(old.metadata, { ...token, snapshot }) }, path);
}

/**
 * Proves that `volumeKey` is the key of this volume and that its owner wrote the header. Call it before any data is
 * read or written.
 *
 * @param volumeKey stays the caller's
 * @param path the file that holds the header, for messages
 * @returns the header's token, now trustworthy
 * @throws {VolsealError} `ERR_HEADER_UNSUPPORTED`, `ERR_HEADER_TOKEN`; `ERR_KEY_DIGEST` another volume's key;
 * `ERR_HEADER_MAC` the right key, and a header changed by somebody without it; `ERR_KEY_GONE`
 */
export function verifyHeader(volumeKey: KeyHandle, header: Luks2Header, path: string): VolumeToken {
  const { digest } = assertSupported(header.metadata, path);
  const token = findToken(header.metadata, path);
  const keyslots = Object.keys(header.metadata.keyslots).length;
  const details = { path, volumeId: token.volumeId, keyId: token.keyId, keyslots };
  if (!isKeyOf(volumeKey, digest)) {
    throw new VolsealError(
      'ERR_KEY_DIGEST',
      `${path}: the key that ${token.keyId} unwrapped is not the key of this volume (${token.volumeId}): token and digest of the header do not match`,
      { details },
    );
  }
  const mac = withMacKey(volumeKey, (macKey) => headerMac(macKey, header, path));
  if (!timingSafeEqual(mac, token.headerMac)) {
    throw new VolsealError(
      'ERR_HEADER_MAC',
      `${path}: the header of ${token.volumeId} was changed by somebody without its key (its MAC does not match)`,
      { details },
    );
  }
  return token;
}

/** Whether the digest is that of the key, which stays the caller's. @throws {VolsealError} `ERR_KEY_GONE` */
export const isKeyOf = (key: KeyHandle, { hash, salt, iterations, digest }: KeyDigest): boolean =>
  timingSafeEqual(native.keyPbkdf2(key, salt, iterations, hash, digest.length), digest);

function withMacKey<T>(volumeKey: KeyHandle, use: (macKey: KeyHandle) => T): T {
  const macKey = native.keyDerive(volumeKey, MAC_KEY_LABEL);
  try {
    return use(macKey);
  } finally {
    native.keyWipe(macKey);
  }
}
