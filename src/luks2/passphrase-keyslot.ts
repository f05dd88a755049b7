/**
 * Keyslots that volseal makes and opens: PBKDF2, the anti-forensic splitter, and aes-xts-plain64 over the slot's area.
 *
 * LUKS2 On-Disk Format Specification, section 3.2 ("Keyslots Object"). The bytes of the area are made and opened in the
 * addon (native/vault/keyslot.h); here are the JSON objects, and where an area has room.
 */
import { VolsealError } from '../errors.js';
import type { KeyslotHash } from '../native.js';
import type { Luks2Header } from './header.js';
import { decodeBase64, ENCRYPTION, headerAreaBytes, type Luks2Metadata } from './metadata.js';

/** How a passphrase becomes the volume key. */
export interface KeyslotParameters {
  readonly kdfHash: KeyslotHash;
  readonly salt: Buffer;
  readonly iterations: number;
  readonly afHash: KeyslotHash;
  /** Where the area begins in the file with the header. */
  readonly areaOffsetBytes: number;
}

/** Stripes of 64 bytes, 4000 of them: what is encrypted of an area. */
export const AREA_DATA_BYTES = 256_000;
/** The same in whole blocks of 4096 bytes: what cryptsetup reserves. */
export const AREA_BYTES = 258_048;

const STRIPES = 4000;
const VOLUME_KEY_BYTES = 64;
const SALT_BYTES_MIN = 8;
const SALT_BYTES_MAX = 128;
/** About a minute: whoever wrote the header chose the number. */
const ITERATIONS_MAX = 100_000_000;
const HASHES: readonly string[] = ['sha256', 'sha512'] satisfies KeyslotHash[];

type Keyslot = Luks2Metadata['keyslots'][string];

/** A keyslot as a JSON object. */
export function keyslotObject({ kdfHash, salt, iterations, afHash, areaOffsetBytes }: KeyslotParameters): Keyslot {
  return {
    type: 'luks2',
    key_size: VOLUME_KEY_BYTES,
    af: { type: 'luks1', stripes: STRIPES, hash: afHash },
    area: { type: 'raw', offset: String(areaOffsetBytes), size: String(AREA_BYTES), encryption: ENCRYPTION, key_size: VOLUME_KEY_BYTES },
    // No other member: cryptsetup refuses a PBKDF2 object with more than these four.
    kdf: { type: 'pbkdf2', hash: kdfHash, iterations, salt: salt.toString('base64') },
  };
}

/** What a keyslot says, or undefined where volseal cannot open it: Argon2, another cipher, another length of key. */
export function keyslotParameters(keyslot: Keyslot): KeyslotParameters | undefined {
  const { type, key_size, af, area, kdf } = keyslot as Partial<Record<string, Record<string, unknown>>> & {
    type: string;
    key_size: number;
  };
  if (type !== 'luks2' || key_size !== VOLUME_KEY_BYTES) return undefined;
  if (af?.type !== 'luks1' || af.stripes !== STRIPES || !HASHES.includes(String(af.hash))) return undefined;
  if (area?.type !== 'raw' || area.encryption !== ENCRYPTION || area.key_size !== VOLUME_KEY_BYTES) return undefined;
  if (Number(area.size) < AREA_DATA_BYTES || kdf?.type !== 'pbkdf2' || !HASHES.includes(String(kdf.hash))) return undefined;
  const salt = decodeBase64(String(kdf.salt));
  const iterations = Number(kdf.iterations);
  if (salt === undefined || salt.length < SALT_BYTES_MIN || salt.length > SALT_BYTES_MAX) return undefined;
  if (!Number.isSafeInteger(iterations) || iterations < 1 || iterations > ITERATIONS_MAX) return undefined;
  return {
    kdfHash: kdf.hash as KeyslotHash,
    salt,
    iterations,
    afHash: af.hash as KeyslotHash,
    areaOffsetBytes: Number(area.offset),
  };
}

/** cryptsetup's own limit (LUKS2_KEYSLOTS_MAX). */
const KEYSLOTS_MAX = 32;

/**
 * The first free keyslot: its name, and where its area begins.
 * @throws {VolsealError} `ERR_ARGUMENT` where there is no room for one more
 */
export function freeKeyslot({ metadata, copyBytes }: Luks2Header, path: string): { name: string; areaOffsetBytes: number } {
  const { keyslots } = metadata;
  const name = Array.from({ length: KEYSLOTS_MAX }, (_, index) => String(index)).find((free) => !Object.hasOwn(keyslots, free));
  const areaOffsetBytes = freeArea(metadata, 2 * copyBytes);
  if (name !== undefined && areaOffsetBytes !== undefined) return { name, areaOffsetBytes };
  throw new VolsealError(
    'ERR_ARGUMENT',
    `${path}: its header has no room for another keyslot (${Object.keys(keyslots).join(', ')} are taken); remove one first`,
    { details: { path, keyslots: Object.keys(keyslots) } },
  );
}

function freeArea(metadata: Luks2Metadata, startByte: number): number | undefined {
  const areas = Object.values(metadata.keyslots)
    .map(({ area }) => ({ from: Number(area.offset), end: Number(area.offset) + Number(area.size) }))
    .sort((one, other) => one.from - other.from);
  let free = startByte;
  for (const { from, end } of [...areas, { from: headerAreaBytes(metadata), end: 0 }]) {
    if (free + AREA_BYTES <= from) return free;
    free = end;
  }
  return undefined;
}

/** The metadata with one more keyslot, for the key of the data. The argument is not changed. */
export function withKeyslot(metadata: Luks2Metadata, name: string, keyslot: Keyslot): Luks2Metadata {
  const digests = Object.entries(metadata.digests).map(([digestName, digest]) => [
    digestName,
    digest.segments.includes('0') ? { ...digest, keyslots: [...digest.keyslots, name] } : digest,
  ]);
  return { ...metadata, keyslots: { ...metadata.keyslots, [name]: keyslot }, digests: Object.fromEntries(digests) };
}

/** The metadata without a keyslot: neither digests nor tokens name it. The argument is not changed. */
export function withoutKeyslot(metadata: Luks2Metadata, name: string): Luks2Metadata {
  const { [name]: _, ...keyslots } = metadata.keyslots;
  const unnamed = <T extends { keyslots: string[] }>(objects: Record<string, T>): Record<string, T> =>
    Object.fromEntries(
      Object.entries(objects).map(([key, object]) => [key, { ...object, keyslots: object.keyslots.filter((other) => other !== name) }]),
    );
  return { ...metadata, keyslots, digests: unnamed(metadata.digests), tokens: unnamed(metadata.tokens) };
}
