/**
 * Keyslots that volseal makes and opens: PBKDF2, the anti-forensic splitter, and aes-xts-plain64 over the slot's area.
 *
 * LUKS2 On-Disk Format Specification, section 3.2 ("Keyslots Object"). The bytes of the area are made and opened in the
 * addon (native/vault/keyslot.h); here are the JSON objects, and where an area has room.
 */
import { VolsealError } from '../errors.js';
import { DATA_KEY_LENGTHS } from '../limits.js';
import type { LuksHash } from '../native.js';
import type { Luks2Header } from './header.js';
import { decodeBase64, ENCRYPTION, headerAreaBytes, LUKS_HASHES } from './metadata.js';
import type { Luks2Metadata } from './metadata-object.js';

/** How a passphrase becomes the volume key. */
export interface KeyslotParameters {
  readonly kdfHash: LuksHash;
  readonly salt: Buffer;
  readonly iterations: number;
  readonly afHash: LuksHash;
  /** Bytes of the volume key in it. */
  readonly volumeKeyBytes: number;
  /** Bytes of the key that encrypts the area: 64 for AES-256, 32 for AES-128. */
  readonly slotKeyBytes: number;
  /** Where the area begins in the file with the header. */
  readonly areaOffsetBytes: number;
}

const STRIPES = 4000;

/** What is encrypted of an area: stripes, each as long as the volume key. */
export const areaDataBytes = ({ volumeKeyBytes }: Pick<KeyslotParameters, 'volumeKeyBytes'>): number => STRIPES * volumeKeyBytes;
/** The same in whole blocks of 4096 bytes: what cryptsetup reserves. */
const areaBytes = (parameters: Pick<KeyslotParameters, 'volumeKeyBytes'>): number => Math.ceil(areaDataBytes(parameters) / 4096) * 4096;

const SALT_BYTES_MIN = 8;
const SALT_BYTES_MAX = 128;
/** About a minute: whoever wrote the header chose the number. */
const ITERATIONS_MAX = 100_000_000;

type Keyslot = Luks2Metadata['keyslots'][string];

/** A keyslot as a JSON object. */
export function keyslotObject(parameters: KeyslotParameters): Keyslot {
  const { kdfHash, salt, iterations, afHash, areaOffsetBytes, volumeKeyBytes, slotKeyBytes } = parameters;
  return {
    type: 'luks2',
    key_size: volumeKeyBytes,
    af: { type: 'luks1', stripes: STRIPES, hash: afHash },
    area: {
      type: 'raw',
      offset: String(areaOffsetBytes),
      size: String(areaBytes(parameters)),
      encryption: ENCRYPTION,
      key_size: slotKeyBytes,
    },
    // No other member: cryptsetup refuses a PBKDF2 object with more than these four.
    kdf: { type: 'pbkdf2', hash: kdfHash, iterations, salt: salt.toString('base64') },
  };
}

type Members = Partial<Record<string, Record<string, unknown>>>;

/** What a keyslot says, or undefined where volseal cannot open it (`keyslotObstacle`). */
export function keyslotParameters(keyslot: Keyslot): KeyslotParameters | undefined {
  if (keyslotObstacle(keyslot) !== undefined) return undefined;
  const { af, area, kdf } = keyslot as unknown as Required<Members>;
  return {
    kdfHash: kdf!.hash as LuksHash,
    salt: decodeBase64(String(kdf!.salt))!,
    iterations: Number(kdf!.iterations),
    afHash: af!.hash as LuksHash,
    areaOffsetBytes: Number(area!.offset),
    volumeKeyBytes: keyslot.key_size,
    slotKeyBytes: Number(area!.key_size),
  };
}

/** Why volseal cannot open a keyslot, in a few words (`argon2id`, `hash whirlpool`); undefined where it can. */
export function keyslotObstacle(keyslot: Keyslot): string | undefined {
  const { af, area, kdf } = keyslot as unknown as Members;
  if (keyslot.type !== 'luks2') return `type ${word(keyslot.type)}`;
  if (!DATA_KEY_LENGTHS.includes(keyslot.key_size)) return `a key of ${keyslot.key_size} bytes`;
  if (kdf?.type !== 'pbkdf2') return word(kdf?.type);
  for (const hash of [kdf.hash, af?.hash]) if (!isHash(hash)) return `hash ${word(hash)}`;
  if (area?.encryption !== ENCRYPTION || !DATA_KEY_LENGTHS.includes(Number(area.key_size)))
    return `cipher ${word(area?.encryption)} with a key of ${Number(area?.key_size)} bytes`;
  if (af?.type !== 'luks1' || af.stripes !== STRIPES || area.type !== 'raw' || Number(area.size) < STRIPES * keyslot.key_size)
    return 'an area of another form';
  const salt = decodeBase64(String(kdf.salt));
  if (salt === undefined || salt.length < SALT_BYTES_MIN || salt.length > SALT_BYTES_MAX) return 'a salt of another length';
  const iterations = Number(kdf.iterations);
  if (!Number.isSafeInteger(iterations) || iterations < 1 || iterations > ITERATIONS_MAX) return `${word(kdf.iterations)} iterations`;
  return undefined;
}

/** A value of the header for a message. */
const word = (value: unknown): string => (/^[\w:.-]{1,40}$/.test(String(value)) ? String(value) : '(unreadable)');

const isHash = (name: unknown): name is LuksHash => LUKS_HASHES.some((hash) => hash === name);

/** cryptsetup's own limit (LUKS2_KEYSLOTS_MAX). */
const KEYSLOTS_MAX = 32;

/**
 * The first free keyslot: its name, and where its area begins.
 * @param volumeKeyBytes of the key that it is for
 * @throws {VolsealError} `ERR_ARGUMENT` where there is no room for one more
 */
export function freeKeyslot(
  { metadata, copyBytes }: Luks2Header,
  volumeKeyBytes: number,
  path: string,
): { name: string; areaOffsetBytes: number } {
  const { keyslots } = metadata;
  const name = Array.from({ length: KEYSLOTS_MAX }, (_, index) => String(index)).find((free) => !Object.hasOwn(keyslots, free));
  const areaOffsetBytes = freeArea(metadata, 2 * copyBytes, areaBytes({ volumeKeyBytes }));
  if (name !== undefined && areaOffsetBytes !== undefined) return { name, areaOffsetBytes };
  throw new VolsealError(
    'ERR_ARGUMENT',
    `${path}: its header has no room for another keyslot (${Object.keys(keyslots).join(', ')} are taken); remove one first`,
    { details: { path, keyslots: Object.keys(keyslots) } },
  );
}

function freeArea(metadata: Luks2Metadata, startByte: number, byteCount: number): number | undefined {
  const areas = Object.values(metadata.keyslots)
    .map(({ area }) => ({ from: Number(area.offset), end: Number(area.offset) + Number(area.size) }))
    .sort((one, other) => one.from - other.from);
  let free = startByte;
  for (const { from, end } of [...areas, { from: headerAreaBytes(metadata), end: 0 }]) {
    if (free + byteCount <= from) return free;
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
