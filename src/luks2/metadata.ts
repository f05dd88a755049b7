/**
 * The JSON area of a LUKS2 header: what it may contain, and the small part that volseal supports.
 *
 * LUKS2 On-Disk Format Specification, section 3 ("JSON Area"). Well-formedness (`parseMetadata`) and support
 * (`assertSupported`) are two questions: a header with another cipher is well-formed, `info` shows it, and it is never
 * attached.
 */
import * as z from 'zod';
import { isError, VolsealError } from '../errors.js';
import { DIGEST_ITERATIONS_MAX, SECTOR_SIZES, type SectorBytes, TWEAK_UNIT_BYTES, VOLUME_BYTES_MAX } from '../limits.js';
import type { LuksHash } from '../native.js';
import { parseStrictJson } from '../strict-json.js';
import { BINARY_HEADER_BYTES } from './binary-header.js';
import { areaFault, keyslotSchema } from './keyslots.js';
import type { Luks2Metadata } from './metadata-object.js';

/** The only cipher. CVE-2025-59054 and similar attacks put a null cipher into an unauthenticated header. */
export const ENCRYPTION = 'aes-xts-plain64';

/**
 * The entry in `config.requirements.mandatory` of a sparse volume. In one, a sector of zeros is zeros and not
 * ciphertext: cryptsetup and the kernel would read noise there. With an entry that they do not know they refuse to open
 * it.
 */
export const SPARSE_REQUIREMENT = 'volseal-sparse';

/**
 * The entry in `config.requirements.mandatory` while a job in place is in the middle of the volume: nothing but that
 * job may read it.
 */
export const IN_PLACE_REQUIREMENT = 'volseal-in-place';

/**
 * The entry in `config.requirements.mandatory` while the data is being brought from one snapshot to another: a mixture
 * of two states of a file system, which nobody may mount.
 */
export const UPDATE_REQUIREMENT = 'volseal-update';

const OWN_REQUIREMENTS: readonly string[] = [SPARSE_REQUIREMENT, UPDATE_REQUIREMENT];

/** As deep as any LUKS2 reader goes (json-c's default); a token nested a million deep must not exhaust the stack. */
const NESTING_MAX = 32;
/** cryptsetup's own limit of keyslots and of tokens. */
const OBJECTS_MAX = 32;
/** cryptsetup's own limit (LUKS2_MAX_KEYSLOTS_SIZE). */
const KEYSLOTS_BYTES_MAX = 128 * 1024 * 1024;

const objectName = z.string().regex(/^(0|[1-9][0-9]{0,8})$/, 'is not an object name (a number as a string)');
const uint64 = z.string().regex(/^(0|[1-9][0-9]{0,19})$/, 'is not a 64-bit number as a string');
const names = z.array(objectName);
const objects = <T extends z.ZodType>(value: T) => z.record(objectName, value);
const fewObjects = <T extends z.ZodType>(value: T) =>
  objects(value).refine((all) => Object.keys(all).length <= OBJECTS_MAX, `has more than ${OBJECTS_MAX} members`);

const metadataSchema: z.ZodType<Luks2Metadata> = z.looseObject({
  keyslots: fewObjects(keyslotSchema),
  tokens: fewObjects(z.looseObject({ type: z.string(), keyslots: names })),
  segments: objects(
    z.looseObject({
      type: z.string(),
      offset: uint64,
      size: z.union([z.literal('dynamic'), uint64]),
      flags: z.array(z.string()).optional(),
    }),
  ),
  digests: objects(z.looseObject({ type: z.string(), keyslots: names, segments: names })),
  config: z.looseObject({
    json_size: uint64,
    keyslots_size: uint64,
    flags: z.array(z.string()).optional(),
    requirements: z.looseObject({ mandatory: z.array(z.string()).optional() }).optional(),
  }),
});

/** Where the data of a volume is in its file, and its sector size. */
export interface DataSegment {
  /** 0 if the header is in a file of its own; a multiple of 512. */
  offsetBytes: number;
  /** `dynamic`: to the end of the file. */
  sizeBytes: number | 'dynamic';
  sectorBytes: SectorBytes;
}

/** What proves a volume key: PBKDF2 over it. New volumes use SHA-256; cryptsetup may have used another hash. */
export interface KeyDigest {
  hash: LuksHash;
  salt: Buffer;
  digest: Buffer;
  iterations: number;
}

/**
 * Parses a JSON area: one JSON object from the first byte, NUL to the end. The result is the parsed value itself, so
 * that unknown members are written back as they were read.
 *
 * @throws {VolsealError} `ERR_HEADER_DAMAGED` in a few words, without the name of the file: not UTF-8, not JSON, bytes
 * behind it, nested deeper than 32, numbers that would not survive rewriting, wrong objects or references
 */
export function parseMetadata(jsonArea: Buffer): Luks2Metadata {
  const end = jsonArea.indexOf(0);
  if (end < 0) throw malformed('does not end with NUL');
  if (jsonArea[0] !== 0x7b) throw malformed('does not begin with {');
  const tail = jsonArea.subarray(end);
  if (!tail.equals(Buffer.alloc(tail.length))) throw malformed('has bytes behind its end');
  const raw = parseJson(jsonArea.subarray(0, end));
  refuseUnportable(raw, 0);
  const checked = metadataSchema.safeParse(raw);
  if (!checked.success) throw malformed(firstIssue(checked.error));
  const metadata = raw as Luks2Metadata;
  refuseDanglingReferences(metadata);
  if (metadata.config.json_size !== String(jsonArea.length)) {
    throw malformed(`names a size of ${metadata.config.json_size} bytes and has ${jsonArea.length}`);
  }
  const keyslotsBytes = Number(metadata.config.keyslots_size);
  if (keyslotsBytes % 4096 !== 0 || keyslotsBytes > KEYSLOTS_BYTES_MAX) {
    throw malformed(`config.keyslots_size: ${metadata.config.keyslots_size} is not a multiple of 4096 up to ${KEYSLOTS_BYTES_MAX}`);
  }
  const fault = areaFault(metadata.keyslots, headerAreaBytes(metadata) - keyslotsBytes, keyslotsBytes);
  if (fault !== undefined) throw malformed(fault);
  const areaBytes = headerAreaBytes(metadata);
  const segment = Object.entries(metadata.segments).find(([, { offset }]) => Number(offset) !== 0 && Number(offset) < areaBytes);
  if (segment !== undefined) throw malformed(`segments.${segment[0]}.offset lies inside the header's ${areaBytes} bytes`);
  return metadata;
}

/**
 * The digests of keys that open data, by name, without their lists of keyslots, which grow with each passphrase. A
 * digest without a segment proves a key that opens nothing.
 */
export function dataDigests({ digests }: Luks2Metadata): Record<string, object> {
  const ofData = Object.entries(digests).filter(([, { segments }]) => segments.length > 0);
  return Object.fromEntries(ofData.map(([name, { keyslots: _, ...digest }]) => [name, digest]));
}

/** The first issue of a schema: where (`segments.0.offset`) and what. */
export function firstIssue({ issues: [issue] }: { issues: readonly { path: readonly PropertyKey[]; message: string }[] }): string {
  const where = issue?.path.map((part) => printable(String(part))).join('.') ?? '';
  return `${where === '' ? '' : `${where}: `}${printable(issue?.message ?? 'is not valid')}`;
}

/**
 * Bytes from the start of the header to the end of its keyslot area: both copies, and space for recovery passphrases.
 */
export function headerAreaBytes(metadata: Luks2Metadata): number {
  return 2 * (BINARY_HEADER_BYTES + Number(metadata.config.json_size)) + Number(metadata.config.keyslots_size);
}

/**
 * The part of a well-formed header that volseal supports: one segment `0` of type crypt in aes-xts-plain64, without
 * integrity, flags or requirements (but for volseal's own), and one PBKDF2-SHA-256 digest over it. Everything
 * else is refused by name.
 *
 * @param path the file, for messages
 * @throws {VolsealError} `ERR_HEADER_UNSUPPORTED`; `ERR_STATE_INTERRUPTED` a job in place is in the middle of it
 */
export function assertSupported(metadata: Luks2Metadata, path: string): { segment: DataSegment; digest: KeyDigest } {
  const refuse = (what: string): never => {
    throw new VolsealError(
      'ERR_HEADER_UNSUPPORTED',
      `${path}: ${what}; volseal attaches volumes of one ${ENCRYPTION} segment without integrity, flags and requirements`,
      {
        details: { path },
      },
    );
  };
  const requirements = metadata.config.requirements;
  if (requirements?.mandatory?.includes(IN_PLACE_REQUIREMENT)) throw inTheMiddle(path);
  const unknown = requirements === undefined ? [] : Object.keys(requirements).filter((key) => key !== 'mandatory');
  const required = [...(requirements?.mandatory ?? []).filter((name) => !OWN_REQUIREMENTS.includes(name)), ...unknown];
  if (required.length > 0) {
    const reencryption = required.some((name) => name.includes('reencrypt'));
    refuse(`the header has the requirement ${printable(required.join(', '))}${reencryption ? ' (a re-encryption in progress)' : ''}`);
  }
  return { segment: supportedSegment(metadata, refuse), digest: supportedDigest(metadata, refuse) };
}

/** Whether the header keeps readers away that do not know sparse volumes. */
export const requiresSparse = ({ config }: Luks2Metadata): boolean => config.requirements?.mandatory?.includes(SPARSE_REQUIREMENT) === true;

/** The metadata with or without the requirements that its token brings; the argument is not changed. */
export const withRequirements = (metadata: Luks2Metadata, { sparse, update }: { sparse: boolean; update: boolean }): Luks2Metadata =>
  withRequirement(withRequirement(metadata, SPARSE_REQUIREMENT, sparse), UPDATE_REQUIREMENT, update);

/** The metadata of a volume that a job in place is in the middle of; the argument is not changed. */
export const withInPlaceRequirement = (metadata: Luks2Metadata): Luks2Metadata => withRequirement(metadata, IN_PLACE_REQUIREMENT, true);

function inTheMiddle(path: string): VolsealError {
  const message = `${path}: is in the middle of being decrypted or re-encrypted in place; finish that first, or take it back`;
  return new VolsealError('ERR_STATE_INTERRUPTED', message, { details: { path, inPlace: true } });
}

function withRequirement(metadata: Luks2Metadata, name: string, required: boolean): Luks2Metadata {
  const { requirements, ...config } = metadata.config;
  const { mandatory = [], ...others } = requirements ?? {};
  const names = [...mandatory.filter((other) => other !== name), ...(required ? [name] : [])];
  const kept = { ...others, ...(names.length === 0 ? {} : { mandatory: names }) };
  return { ...metadata, config: Object.keys(kept).length === 0 ? config : { ...config, requirements: kept } };
}

type Refuse = (what: string) => never;

const SEGMENT_MEMBERS = ['type', 'offset', 'size', 'iv_tweak', 'encryption', 'sector_size'];

function supportedSegment(metadata: Luks2Metadata, refuse: Refuse): DataSegment {
  const segmentNames = Object.keys(metadata.segments);
  const segment = metadata.segments['0'];
  if (segment === undefined || segmentNames.length !== 1)
    return refuse(`the header has the segments ${segmentNames.join(', ') || '(none)'}`);
  if (segment.type !== 'crypt') refuse(`segment 0 is of type ${quoted(segment.type)}, not "crypt"`);
  if (segment.encryption !== ENCRYPTION) refuse(`the cipher ${quoted(segment.encryption)} is not "${ENCRYPTION}"`);
  if ('integrity' in segment) refuse('segment 0 has an integrity layer');
  if (segment.flags !== undefined) refuse(`segment 0 has the flags ${quoted(segment.flags)}`);
  const foreign = Object.keys(segment).find((member) => !SEGMENT_MEMBERS.includes(member));
  if (foreign !== undefined) refuse(`segment 0 has the unknown member ${quoted(foreign)}`);
  if (segment.iv_tweak !== '0') refuse(`segment 0 counts its tweaks from ${quoted(segment.iv_tweak)}, not from "0"`);
  const sectorBytes = SECTOR_SIZES.find((size) => size === segment.sector_size);
  if (sectorBytes === undefined) return refuse(`the sector size ${quoted(segment.sector_size)} is none of ${SECTOR_SIZES.join(', ')}`);

  const offsetBytes = Number(segment.offset);
  if (offsetBytes % TWEAK_UNIT_BYTES !== 0 || offsetBytes > VOLUME_BYTES_MAX) refuse(`the data offset ${segment.offset} is out of range`);
  if (segment.size === 'dynamic') return { offsetBytes, sizeBytes: 'dynamic', sectorBytes };
  const sizeBytes = Number(segment.size);
  if (sizeBytes === 0 || sizeBytes % sectorBytes !== 0 || offsetBytes + sizeBytes > VOLUME_BYTES_MAX) {
    refuse(`the data size ${segment.size} is not a number of ${sectorBytes}-byte sectors within range`);
  }
  return { offsetBytes, sizeBytes, sectorBytes };
}

/** Hashes of LUKS that volseal knows, for digests and for keyslots. */
export const LUKS_HASHES = ['sha1', 'sha256', 'sha384', 'sha512'] as const satisfies readonly LuksHash[];

const digestSchema = z.looseObject({
  type: z.literal('pbkdf2'),
  hash: z.enum(LUKS_HASHES),
  iterations: z.int().min(1).max(DIGEST_ITERATIONS_MAX),
  salt: z.string(),
  digest: z.string(),
});
/** LUKS1 has 20 bytes, whatever the hash, and `cryptsetup convert` keeps them. */
const DIGEST_BYTES_MIN = 20;
const DIGEST_BYTES_MAX = 64;
const SALT_BYTES_MIN = 16;
const SALT_BYTES_MAX = 64;

function supportedDigest(metadata: Luks2Metadata, refuse: Refuse): KeyDigest {
  const covering = Object.entries(metadata.digests).filter(([, digest]) => digest.segments.includes('0'));
  const [found] = covering;
  if (found === undefined || covering.length !== 1) return refuse(`segment 0 has ${covering.length} digests instead of one`);
  const [name, member] = found;
  const checked = digestSchema.safeParse(member);
  if (member.type === 'pbkdf2' && !LUKS_HASHES.some((hash) => hash === member.hash)) {
    return refuse(`digest ${name} proves the volume key by ${quoted(member.hash)}, and volseal by ${LUKS_HASHES.join(', ')} only`);
  }
  if (!checked.success) return refuse(`digest ${name}: ${firstIssue(checked.error)}`);
  const salt = decodeBase64(checked.data.salt);
  const digest = decodeBase64(checked.data.digest);
  if (salt === undefined || salt.length < SALT_BYTES_MIN || salt.length > SALT_BYTES_MAX) {
    return refuse(`digest ${name}: its salt is not base64 of ${SALT_BYTES_MIN} to ${SALT_BYTES_MAX} bytes`);
  }
  if (digest === undefined || digest.length < DIGEST_BYTES_MIN || digest.length > DIGEST_BYTES_MAX) {
    return refuse(`digest ${name}: its value is not base64 of ${DIGEST_BYTES_MIN} to ${DIGEST_BYTES_MAX} bytes`);
  }
  return { hash: checked.data.hash, salt, digest, iterations: checked.data.iterations };
}

/**
 * The bytes of canonical base64 (RFC 4648, 4; padded, no line breaks, no stray bits), or undefined for any other text.
 */
export function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

function parseJson(bytes: Buffer): unknown {
  try {
    return parseStrictJson(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const problem = isError(error) && error.name === 'SyntaxError' ? error.message : 'is not JSON';
    throw malformed(problem === 'is not JSON' ? 'is not JSON in UTF-8' : problem);
  }
}

/**
 * Refuses values that would change when they are written again, in the header or in the canonical form under the MAC.
 */
function refuseUnportable(value: unknown, depth: number): void {
  if (depth > NESTING_MAX) throw malformed(`is nested deeper than ${NESTING_MAX}`);
  if (typeof value === 'number' && !(Number.isSafeInteger(value) || (Number.isFinite(value) && !Number.isInteger(value)))) {
    throw malformed('has a number beyond 2^53 (64-bit numbers are strings in LUKS2)');
  }
  if (typeof value === 'string') refuseLoneSurrogate(value);
  if (typeof value !== 'object' || value === null) return;
  for (const [key, member] of Object.entries(value)) {
    // Assigning this member would change the prototype of an object.
    if (key === '__proto__') throw malformed('has a member named __proto__');
    refuseLoneSurrogate(key);
    refuseUnportable(member, depth + 1);
  }
}

function refuseLoneSurrogate(text: string): void {
  if (/\p{Surrogate}/u.test(text)) throw malformed('has a text with half a surrogate pair');
}

/** Specification, section 3: an object that another one names must exist. */
function refuseDanglingReferences(metadata: Luks2Metadata): void {
  const check = (from: string, referred: string[], to: object): void => {
    const missing = referred.find((name) => !Object.hasOwn(to, name));
    if (missing !== undefined) throw malformed(`${from} refers to ${missing}, which does not exist`);
  };
  for (const [name, token] of Object.entries(metadata.tokens)) check(`tokens.${name}.keyslots`, token.keyslots, metadata.keyslots);
  for (const [name, digest] of Object.entries(metadata.digests)) {
    check(`digests.${name}.keyslots`, digest.keyslots, metadata.keyslots);
    check(`digests.${name}.segments`, digest.segments, metadata.segments);
  }
  const proved = new Set(Object.values(metadata.digests).flatMap(({ keyslots }) => keyslots));
  const unproved = Object.keys(metadata.keyslots).find((name) => metadata.keyslots[name]?.type !== 'reencrypt' && !proved.has(name));
  if (unproved !== undefined) throw malformed(`keyslots.${unproved} has no digest`);
}

const malformed = (what: string): VolsealError => new VolsealError('ERR_HEADER_DAMAGED', `the JSON area ${what}`);

/** A value of the header for a message: short, and without bytes that control a terminal. */
function quoted(value: unknown): string {
  return value === undefined ? '(none)' : printable(JSON.stringify(value));
}

function printable(text: string): string {
  const clean = text.replace(/\p{C}/gu, '?');
  return clean.length > 120 ? `${clean.slice(0, 120)}...` : clean;
}
