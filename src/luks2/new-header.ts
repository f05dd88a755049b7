/**
 * The header of a new volume: one segment, no keyslot, the digest of its key, and the sealed `aws-kms` token.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { DIGEST_ITERATIONS, EMBEDDED_DATA_OFFSET_BYTES, HEADER_COPY_BYTES, type SectorBytes } from '../limits.js';
import { type KeyHandle, native } from '../native.js';
import { BINARY_HEADER_BYTES } from './binary-header.js';
import type { Luks2Header } from './header.js';
import { sealHeader } from './header-mac.js';
import { ENCRYPTION } from './metadata.js';
import { type UnsealedToken, withToken } from './token.js';

const DIGEST_SALT_BYTES = 32;

/** The sequence number of a new header. */
export const FIRST_SEQUENCE = 1n;

export interface NewHeaderOptions {
  /** The data key itself; stays the caller's. */
  volumeKey: KeyHandle;
  token: UnsealedToken;
  sectorBytes: SectorBytes;
  /** `embedded`: the data follows in the same file at 1 MiB. `detached`: it fills a file of its own from offset 0. */
  placement: 'embedded' | 'detached';
}

/**
 * A new sealed header with its own UUID, for a file that has none. Both placements leave space for passphrases up to 1
 * MiB, so that `cryptsetup luksAddKey` works on either.
 *
 * @param path the file that will contain it, for messages
 * @throws {VolsealError} `ERR_ARGUMENT` if the token is not valid; `ERR_KEY_GONE`
 */
export function newHeader(options: NewHeaderOptions, path: string): Luks2Header {
  const { volumeKey, token, sectorBytes, placement } = options;
  const salt = randomBytes(DIGEST_SALT_BYTES);
  const digest = native.keyPbkdf2(volumeKey, salt, DIGEST_ITERATIONS, 'sha256', 32);
  const metadata = {
    keyslots: {},
    tokens: {},
    segments: {
      '0': {
        type: 'crypt',
        offset: placement === 'embedded' ? String(EMBEDDED_DATA_OFFSET_BYTES) : '0',
        size: 'dynamic',
        iv_tweak: '0',
        encryption: ENCRYPTION,
        sector_size: sectorBytes,
      },
    },
    digests: {
      '0': {
        type: 'pbkdf2',
        keyslots: [],
        segments: ['0'],
        hash: 'sha256',
        iterations: DIGEST_ITERATIONS,
        salt: salt.toString('base64'),
        digest: digest.toString('base64'),
      },
    },
    config: {
      json_size: String(HEADER_COPY_BYTES - BINARY_HEADER_BYTES),
      keyslots_size: String(EMBEDDED_DATA_OFFSET_BYTES - 2 * HEADER_COPY_BYTES),
    },
  };
  const header = {
    uuid: randomUUID(),
    label: '',
    subsystem: '',
    sequence: FIRST_SEQUENCE,
    copyBytes: HEADER_COPY_BYTES,
    metadata: withToken(metadata, token),
  };
  return sealHeader(volumeKey, header, path);
}
