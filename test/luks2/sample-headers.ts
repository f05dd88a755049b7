/**
 * Headers for tests, made without the code under test where that matters (checksum, digest) and without the native
 * addon.
 */
import { createHash, pbkdf2Sync, randomBytes } from 'node:crypto';
import type { Luks2Header } from '../../src/luks2/header.js';
import type { Luks2Metadata } from '../../src/luks2/metadata-object.js';
import { type UnsealedToken, withToken } from '../../src/luks2/token.js';

export const KEY_ARN = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';

export function sampleToken(overrides: Partial<UnsealedToken> = {}): UnsealedToken {
  return {
    keyId: KEY_ARN,
    encryptedDataKey: randomBytes(184),
    encryptionContext: { 'aws:ebs:id': 'vol-0123456789abcdef0', purpose: 'test' },
    volumeId: 'vol-0123456789abcdef0',
    kms: 'embedded',
    imageBytes: 64 * 1024 * 1024,
    allocation: 'full',
    created: '2026-01-02T03:04:05.678Z',
    ...overrides,
  };
}

/** The digest object of `key` as the specification has it, by OpenSSL. */
export function digestOf(key: Buffer): Luks2Metadata['digests'][string] {
  const salt = randomBytes(32);
  return {
    type: 'pbkdf2',
    keyslots: [],
    segments: ['0'],
    hash: 'sha256',
    iterations: 1000,
    salt: salt.toString('base64'),
    digest: pbkdf2Sync(key, salt, 1000, 32, 'sha256').toString('base64'),
  };
}

/** A passphrase as cryptsetup adds it, in the first keyslot area of a header with 16 KiB copies. */
export const sampleKeyslot = (): Luks2Metadata['keyslots'][string] => ({
  type: 'luks2',
  key_size: 64,
  af: { type: 'luks1', stripes: 4000, hash: 'sha256' },
  area: { type: 'raw', offset: '32768', size: '258048', encryption: 'aes-xts-plain64', key_size: 64 },
  kdf: { type: 'pbkdf2', hash: 'sha256', iterations: 1000, salt: randomBytes(32).toString('base64') },
});

/** Unsealed: 16 KiB copies, data at 1 MiB, a token with a made-up MAC where `mac` is given. */
export function sampleHeader(options: { key?: Buffer; copyBytes?: number; token?: UnsealedToken; mac?: Buffer } = {}): Luks2Header {
  const copyBytes = options.copyBytes ?? 16384;
  const token = options.token ?? sampleToken();
  const metadata: Luks2Metadata = {
    keyslots: {},
    tokens: {},
    segments: {
      '0': {
        type: 'crypt',
        offset: String(16 * 1024 * 1024),
        size: 'dynamic',
        iv_tweak: '0',
        encryption: 'aes-xts-plain64',
        sector_size: 512,
      },
    },
    digests: { '0': digestOf(options.key ?? randomBytes(64)) },
    config: { json_size: String(copyBytes - 4096), keyslots_size: String(1024 * 1024) },
  };
  return {
    uuid: '0a1b2c3d-4e5f-4678-9abc-def012345678',
    label: '',
    subsystem: '',
    sequence: 1n,
    copyBytes,
    metadata: withToken(metadata, options.mac === undefined ? token : { ...token, headerMac: options.mac }),
  };
}

/** `copy` with the checksum a forger would put there: SHA-256 with the field zeroed. */
export function withChecksum(copy: Buffer): Buffer {
  const forged = Buffer.from(copy);
  forged.fill(0, 448, 512);
  createHash('sha256').update(forged).digest().copy(forged, 448);
  return forged;
}

export function flipBit(bytes: Buffer, bit: number): Buffer {
  const flipped = Buffer.from(bytes);
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  return flipped;
}
