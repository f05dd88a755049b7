/**
 * The LUKS2 token of type `aws-kms`: the wrapped volume key, and what KMS needs to unwrap it.
 *
 * LUKS2 On-Disk Format Specification, section 3.4 ("Tokens Object"); members named `aws-kms-...` are what
 * `aws kms decrypt` asks for, those named `volseal-...` are volseal's own. docs/FORMAT.md describes each.
 */

import * as z from 'zod';
import { VolsealError } from '../errors.js';
import { isKeyArn } from '../kms/shared/arn.js';
import { ENCRYPTION_CONTEXT_BYTES_MAX, KMS_CIPHERTEXT_BYTES_MAX, VOLUME_BYTES_MAX } from '../limits.js';
import { type KnownKeyslots, knownKeyslotsSchema } from './known-keyslots.js';
import { decodeBase64, firstIssue, requiresSparse, SPARSE_REQUIREMENT, withRequirements } from './metadata.js';
import type { Luks2Metadata } from './metadata-object.js';
import { decodeOrigin, encodeOrigin, type SnapshotOrigin, snapshotOriginSchema } from './snapshot-origin.js';

export const TOKEN_TYPE = 'aws-kms';
/** The member that contains the MAC; it is the only one that the MAC does not cover. */
export const MAC_MEMBER = 'volseal-header-mac';
/** Lists the keyslots that volseal has added; left out where there is none. */
const KEYSLOTS_MEMBER = 'volseal-keyslots';
/** Left out where the data is not known to be that of a snapshot. */
const SNAPSHOT_MEMBER = 'volseal-snapshot';
const SAMPLES_MEMBER = 'volseal-data-samples';
const SAMPLE_COUNT_MAX = 16;
const SAMPLE_DIGEST_BYTES = 16;
/** 1: every sector is ciphertext. 2: the volume is sparse; a reader that knows only version 1 must not read it. */
const VERSIONS = { full: 1, sparse: 2 } as const;
const MAC_BYTES = 32;
/** cryptsetup's own limit of tokens. */
const TOKENS_MAX = 32;

/**
 * Which sectors of a volume are written. `full`: all. `sparse`: those in use; a sector whose ciphertext is all zeros,
 * such as a hole, reads as zeros.
 */
export type Allocation = 'full' | 'sparse';

/** A token before its header was sealed. */
export interface UnsealedToken {
  /** ARN of the KMS key that wraps the volume key. */
  keyId: string;
  /** KMS's CiphertextBlob: at most 6144 bytes. */
  encryptedDataKey: Buffer;
  /** The pairs that KMS authenticates together with the volume key; at most 4096 bytes in all. */
  encryptionContext: Readonly<Record<string, string>>;
  /** `vol-` and 17 hexadecimal digits, as EBS has them. */
  volumeId: string;
  /** Which KMS wrapped the key: `embedded`, `aws`, `aws:REGION` or the endpoint's URL. */
  kms: string;
  /** Exact length of the image that was encrypted, before any padding to whole sectors. */
  imageBytes: number;
  allocation: Allocation;
  /** When the volume was made, ISO 8601 in UTC. */
  created: string;
  /** The keyslots that volseal has added; undefined for none. */
  keyslots?: KnownKeyslots | undefined;
  /**
   * Of a detached header: digests of some sectors of its data (src/output/data-samples.ts). Undefined where there was
   * no data, and for a header in front of its data.
   */
  dataSamples?: Readonly<Record<string, string>> | undefined;
  /** The EBS snapshot whose image the data is; undefined where that is not known. */
  snapshot?: SnapshotOrigin | undefined;
}

/** What the header of a volume says about its key. */
export interface VolumeToken extends UnsealedToken {
  /** 32 bytes over everything that decides how data is read (header-mac.ts). */
  headerMac: Buffer;
}

const hasKeyslots = ({ keyslots }: UnsealedToken): boolean => keyslots !== undefined && Object.keys(keyslots).length > 0;

const base64 = (bytesMin: number, bytesMax: number) =>
  z.string().refine(
    (text) => {
      const bytes = decodeBase64(text);
      return bytes !== undefined && bytes.length >= bytesMin && bytes.length <= bytesMax;
    },
    `is not canonical base64 of ${bytesMin === bytesMax ? bytesMin : `${bytesMin} to ${bytesMax}`} bytes`,
  );

const encryptionContext = z.record(z.string().min(1), z.string()).refine((context) => {
  const bytes = Object.entries(context).reduce((sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value), 0);
  return bytes <= ENCRYPTION_CONTEXT_BYTES_MAX;
}, `is longer than ${ENCRYPTION_CONTEXT_BYTES_MAX} bytes`);

const dataSamples = z
  .record(z.string().regex(/^(0|[1-9][0-9]{0,15})$/, 'is not an offset'), base64(SAMPLE_DIGEST_BYTES, SAMPLE_DIGEST_BYTES))
  .refine((samples) => Object.keys(samples).length <= SAMPLE_COUNT_MAX, `has more than ${SAMPLE_COUNT_MAX} samples`);

// Strict: an unknown member might change how data is read.
const members = z.strictObject({
  type: z.literal(TOKEN_TYPE),
  keyslots: z.array(z.string()).max(0, 'is not empty'),
  'aws-kms-key-id': z.string().refine(isKeyArn, 'is not the ARN of a KMS key'),
  'aws-kms-ciphertext-blob': base64(1, KMS_CIPHERTEXT_BYTES_MAX),
  'aws-kms-encryption-context': encryptionContext,
  'volseal-version': z.literal([VERSIONS.full, VERSIONS.sparse]),
  'volseal-volume-id': z.string().regex(/^vol-[0-9a-f]{17}$/, 'is not vol- and 17 hexadecimal digits'),
  'volseal-kms': z
    .string()
    .regex(/^(embedded|aws(:[a-z0-9-]{1,64})?|https?:\/\/[!-~]{1,512})$/, 'is not embedded, aws, aws:REGION or a URL'),
  'volseal-image-bytes': z
    .string()
    .regex(/^[1-9][0-9]{0,15}$/, 'is not a number as a string')
    .refine((digits) => Number(digits) <= VOLUME_BYTES_MAX, `is larger than ${VOLUME_BYTES_MAX}`),
  'volseal-allocation': z.literal('sparse').optional(),
  'volseal-created': z.iso.datetime(),
  [KEYSLOTS_MEMBER]: knownKeyslotsSchema.optional(),
  [SAMPLES_MEMBER]: dataSamples.optional(),
  [SNAPSHOT_MEMBER]: snapshotOriginSchema.optional(),
});
const agrees = (object: z.infer<typeof members>): boolean => object['volseal-version'] === VERSIONS[object['volseal-allocation'] ?? 'full'];
const DISAGREES = { path: ['volseal-allocation'], message: 'does not fit volseal-version' };
const unsealedSchema = members.refine(agrees, DISAGREES);
const sealedSchema = members.extend({ [MAC_MEMBER]: base64(MAC_BYTES, MAC_BYTES) }).refine(agrees, DISAGREES);

/** The token as a member of a header's `tokens` object; without a MAC until `sealHeader` adds one. */
export type TokenObject = Luks2Metadata['tokens'][string];

/**
 * The token's JSON object.
 *
 * @throws {VolsealError} `ERR_ARGUMENT` if `findToken` would not accept a member
 */
export function encodeToken(token: UnsealedToken | VolumeToken): TokenObject {
  const object = {
    type: TOKEN_TYPE,
    keyslots: [],
    'aws-kms-key-id': token.keyId,
    'aws-kms-ciphertext-blob': token.encryptedDataKey.toString('base64'),
    'aws-kms-encryption-context': { ...token.encryptionContext },
    'volseal-version': VERSIONS[token.allocation],
    'volseal-volume-id': token.volumeId,
    'volseal-kms': token.kms,
    'volseal-image-bytes': String(token.imageBytes),
    ...(token.allocation === 'sparse' ? { 'volseal-allocation': token.allocation } : {}),
    'volseal-created': token.created,
    ...(hasKeyslots(token) ? { [KEYSLOTS_MEMBER]: { ...token.keyslots } } : {}),
    ...(token.dataSamples === undefined ? {} : { [SAMPLES_MEMBER]: { ...token.dataSamples } }),
    ...(token.snapshot === undefined ? {} : { [SNAPSHOT_MEMBER]: encodeOrigin(token.snapshot) }),
    ...('headerMac' in token ? { [MAC_MEMBER]: token.headerMac.toString('base64') } : {}),
  } as const;
  const checked = ('headerMac' in token ? sealedSchema : unsealedSchema).safeParse(object);
  if (!checked.success) throw new VolsealError('ERR_ARGUMENT', `aws-kms token: ${firstIssue(checked.error)}`);
  return checked.data;
}

/**
 * The one sealed `aws-kms` token of a header.
 *
 * @param path the file, for messages
 * @throws {VolsealError} `ERR_HEADER_TOKEN` if there is none or more than one, or if a member is missing, unknown or
 * not valid
 */
export function findToken(metadata: Luks2Metadata, path: string): VolumeToken {
  const refuse = (what: string): never => {
    throw new VolsealError('ERR_HEADER_TOKEN', `${path}: ${what}`, { details: { path } });
  };
  const checked = sealedSchema.safeParse(findTokenObject(metadata, path).object);
  if (!checked.success) return refuse(`the header's aws-kms token is not usable: ${firstIssue(checked.error)}`);
  const object = checked.data;
  if (requiresSparse(metadata) && object['volseal-allocation'] === undefined)
    return refuse(`the header has the requirement ${SPARSE_REQUIREMENT}, and its aws-kms token is that of a full volume`);
  return {
    keyId: object['aws-kms-key-id'],
    encryptedDataKey: Buffer.from(object['aws-kms-ciphertext-blob'], 'base64'),
    encryptionContext: object['aws-kms-encryption-context'],
    volumeId: object['volseal-volume-id'],
    kms: object['volseal-kms'],
    imageBytes: Number(object['volseal-image-bytes']),
    allocation: object['volseal-allocation'] ?? 'full',
    created: object['volseal-created'],
    ...(object[KEYSLOTS_MEMBER] === undefined ? {} : { keyslots: object[KEYSLOTS_MEMBER] }),
    ...(object[SAMPLES_MEMBER] === undefined ? {} : { dataSamples: object[SAMPLES_MEMBER] }),
    ...(object[SNAPSHOT_MEMBER] === undefined ? {} : { snapshot: decodeOrigin(object[SNAPSHOT_MEMBER]) }),
    headerMac: Buffer.from(object[MAC_MEMBER], 'base64'),
  };
}

/** The token, undefined where the header has none that is usable. */
export function findUsableToken(metadata: Luks2Metadata, path: string): VolumeToken | undefined {
  try {
    return findToken(metadata, path);
  } catch (error) {
    if (error instanceof VolsealError && error.code === 'ERR_HEADER_TOKEN') return undefined;
    throw error;
  }
}

/**
 * The one `aws-kms` token as it is in the header, sealed or not, and its name.
 *
 * @throws {VolsealError} `ERR_HEADER_TOKEN` if there is none or more than one
 */
export function findTokenObject(metadata: Luks2Metadata, path: string): { name: string; object: Luks2Metadata['tokens'][string] } {
  const all = Object.entries(metadata.tokens).filter(([, object]) => object.type === TOKEN_TYPE);
  const [found] = all;
  if (found === undefined || all.length > 1) {
    const what =
      found === undefined
        ? 'the LUKS2 header has no aws-kms token: it was not made by volseal, or the token was removed'
        : `the LUKS2 header has ${all.length} aws-kms tokens (${all.map(([name]) => name).join(', ')}): remove the wrong one with cryptsetup token remove`;
    throw new VolsealError('ERR_HEADER_TOKEN', `${path}: ${what}`, { details: { path } });
  }
  const [name, object] = found;
  return { name, object };
}

/**
 * The metadata with `token` instead of every existing `aws-kms` token, and with the requirements that it brings (of a
 * sparse volume, of one between two snapshots); other tokens stay. The argument is not changed.
 *
 * @throws {VolsealError} `ERR_ARGUMENT` if the token is not valid, or if there are 32 other tokens
 */
export function withToken(metadata: Luks2Metadata, token: UnsealedToken | VolumeToken): Luks2Metadata {
  const others = Object.fromEntries(Object.entries(metadata.tokens).filter(([, object]) => object.type !== TOKEN_TYPE));
  const name = Array.from({ length: TOKENS_MAX }, (_, index) => String(index)).find((free) => !Object.hasOwn(others, free));
  if (name === undefined) throw new VolsealError('ERR_ARGUMENT', `LUKS2 header: all ${TOKENS_MAX} tokens are taken`);
  return withRequirements(
    { ...metadata, tokens: { ...others, [name]: encodeToken(token) } },
    { sparse: token.allocation === 'sparse', update: token.snapshot?.since !== undefined },
  );
}
