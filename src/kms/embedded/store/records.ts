/**
 * The records in the store of the embedded KMS: keys, aliases, grants, principals and their access keys, each a JSON
 * record.
 *
 * What is read is checked against these schemas. Members that were added later are optional, so that older stores can
 * be read.
 */
import * as z from 'zod';

/** Material of a key: AES-256, sealed under the root key. */
const materialRecord = z.object({
  /** 64 lower-case hex digits, random. */
  materialId: z.string().regex(/^[0-9a-f]{64}$/),
  /** Base64 of 12-byte IV, 32 bytes of ciphertext, 16-byte tag. */
  sealed: z.base64(),
  /** How it came to be, if not with the key. */
  rotation: z.object({ type: z.enum(['AUTOMATIC', 'ON_DEMAND']), atSeconds: z.number() }).optional(),
});

export const keyRecord = z.object({
  keyId: z.uuid(),
  state: z.enum(['Enabled', 'Disabled', 'PendingDeletion']),
  manager: z.enum(['AWS', 'CUSTOMER']),
  description: z.string(),
  /** Seconds since 1970, with milliseconds; so are all times here. */
  createdAtSeconds: z.number(),
  /** All material the key has had; the last one seals. */
  materials: z.array(materialRecord).min(1),
  /** When a key that is pending deletion goes away. */
  deletionAtSeconds: z.number().optional(),
  /** JSON text of the key policy; without one the default holds. */
  policy: z.string().optional(),
  tags: z.array(z.object({ TagKey: z.string(), TagValue: z.string() })).optional(),
  /** Automatic rotation, where it is on. */
  rotation: z.object({ periodDays: z.int(), nextAtSeconds: z.number() }).optional(),
});

export const aliasRecord = z.object({
  aliasName: z.string().startsWith('alias/'),
  keyId: z.uuid(),
  createdAtSeconds: z.number(),
  updatedAtSeconds: z.number(),
});

/** String pairs. A schema of records would let a pair named "__proto__" fall away. */
const pairs = z.array(z.tuple([z.string(), z.string()]));

export const grantRecord = z.object({
  /** 64 lower-case hex digits, random. */
  grantId: z.string().regex(/^[0-9a-f]{64}$/),
  keyId: z.uuid(),
  name: z.string().optional(),
  granteePrincipal: z.string(),
  retiringPrincipal: z.string().optional(),
  issuingPrincipal: z.string(),
  operations: z.array(z.string()).min(1),
  /** What the encryption context of a request must contain (`subset`) or be (`equals`). */
  constraint: z.object({ kind: z.enum(['subset', 'equals']), pairs }).optional(),
  /** ARN of the AWS resource on whose behalf a request must be made. */
  sourceArn: z.string().optional(),
  /**
   * The principals that CreateGrant named by its members for services: `GranteeServicePrincipal`,
   * `RetiringServicePrincipal`.
   */
  servicePrincipals: z.array(z.enum(['grantee', 'retiring'])).optional(),
  createdAtSeconds: z.number(),
  /** The bucket of the index of use that it is filed in (src/kms/embedded/grants/grant-store.ts). */
  bucket: z.string(),
});

export const principalRecord = z.object({
  /** IAM ARN of a user or a role of this account. */
  principalArn: z.string(),
  /** JSON texts of its identity policies. */
  policies: z.array(z.string()),
  createdAtSeconds: z.number(),
});

export const accessKeyRecord = z.object({
  accessKeyId: z.string(),
  principalArn: z.string(),
  /** The text of the secret access key, sealed under the root key, base64. */
  sealedSecret: z.base64(),
  createdAtSeconds: z.number(),
});

export const storeRecord = z.object({
  format: z.literal(1),
  /** HMAC of a fixed text under the root key, hex: tells a foreign root key from a damaged store. */
  rootKeyCheck: z.string(),
  /** Region and account, where they were chosen. */
  account: z.object({ region: z.string(), accountId: z.string() }).optional(),
});

export type KeyRecord = z.infer<typeof keyRecord>;
export type MaterialRecord = z.infer<typeof materialRecord>;
export type AliasRecord = z.infer<typeof aliasRecord>;
export type GrantRecord = z.infer<typeof grantRecord>;
export type GrantConstraint = NonNullable<GrantRecord['constraint']>;
export type PrincipalRecord = z.infer<typeof principalRecord>;
export type AccessKeyRecord = z.infer<typeof accessKeyRecord>;
