/**
 * The requests of the embedded KMS's operations: their members, and AWS's wording for those that break a constraint.
 * (AWS KMS API Reference, "Request Parameters" of each operation.)
 */
import { z } from 'zod';
import { VolsealError } from '../../errors.js';
import {
  KMS_ALIAS_CHARS_MAX,
  KMS_CIPHERTEXT_BYTES_MAX,
  KMS_CONTEXT_BYTES_MAX,
  KMS_DATA_KEY_BYTES_MAX,
  KMS_DESCRIPTION_CHARS_MAX,
  KMS_GRANT_TOKENS_MAX,
  KMS_KEY_ID_CHARS_MAX,
} from '../../limits.js';
import { checkContext, type EncryptionContext } from '../encryption-context.js';
import { constraintsBroken, serialization, validation } from './faults.js';

const keyId = z.string().min(1).max(KMS_KEY_ID_CHARS_MAX);
const aliasName = z
  .string()
  .min(1)
  .max(KMS_ALIAS_CHARS_MAX)
  .regex(/^[a-zA-Z0-9:/_-]+$/);
const marker = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^[\u0020-\u00FF]*$/)
  .optional();
const grantTokens = z.array(z.string().min(1).max(8192)).max(KMS_GRANT_TOKENS_MAX).optional();
const dryRun = z.boolean().optional();
const algorithm = z.enum(['SYMMETRIC_DEFAULT', 'RSAES_OAEP_SHA_1', 'RSAES_OAEP_SHA_256', 'SM2PKE']).optional();

/** Base64 as RFC 4648 has it, nothing around it: two texts never mean one blob. */
const blob = z.string().transform((text): Buffer => {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) throw serialization('A member that holds bytes is not valid base64.');
  return bytes;
});

/** Checked on the object itself: a schema of records would let a pair named "__proto__" fall away unauthenticated. */
const encryptionContext = z
  .unknown()
  .optional()
  .transform((value): EncryptionContext => {
    if (value === undefined || value === null) return {};
    try {
      return checkContext(value, KMS_CONTEXT_BYTES_MAX);
    } catch (error) {
      if (error instanceof VolsealError) throw validation(error.message);
      throw error;
    }
  });

/** Members of CreateKey that the embedded KMS must not pass over in silence, and the one value of each that it has. */
const createKeyOnly = {
  BypassPolicyLockoutSafetyCheck: z.boolean().optional(),
  CustomKeyStoreId: z.string().optional(),
  CustomerMasterKeySpec: z.string().optional(),
  KeySpec: z.string().optional(),
  KeyUsage: z.string().optional(),
  MultiRegion: z.boolean().optional(),
  Origin: z.string().optional(),
  Policy: z.string().optional(),
  Tags: z.array(z.unknown()).optional(),
  XksKeyId: z.string().optional(),
};

const cryptographic = { EncryptionContext: encryptionContext, GrantTokens: grantTokens, DryRun: dryRun };
const dataKey = {
  ...cryptographic,
  KeyId: keyId,
  KeySpec: z.enum(['AES_256', 'AES_128']).optional(),
  NumberOfBytes: z.int().min(1).max(KMS_DATA_KEY_BYTES_MAX).optional(),
};

export const createKeyRequest = z.object({ ...createKeyOnly, Description: z.string().max(KMS_DESCRIPTION_CHARS_MAX).optional() });
export const describeKeyRequest = z.object({ KeyId: keyId, GrantTokens: grantTokens });
export const keyStateRequest = z.object({ KeyId: keyId });
export const listKeysRequest = z.object({ Limit: z.int().min(1).max(1000).optional(), Marker: marker });
export const listAliasesRequest = z.object({ KeyId: keyId.optional(), Limit: z.int().min(1).max(100).optional(), Marker: marker });
export const aliasTargetRequest = z.object({ AliasName: aliasName, TargetKeyId: keyId });
export const deleteAliasRequest = z.object({ AliasName: aliasName });
export const generateDataKeyRequest = z.object({ ...dataKey, Recipient: z.unknown().optional() });
export const generateDataKeyWithoutPlaintextRequest = z.object(dataKey);
/** `Plaintext` is beside the body, in the vault. */
export const encryptRequest = z.object({ ...cryptographic, KeyId: keyId, EncryptionAlgorithm: algorithm });
export const decryptRequest = z.object({
  ...cryptographic,
  CiphertextBlob: blob.pipe(z.instanceof(Buffer).check(z.minLength(1), z.maxLength(KMS_CIPHERTEXT_BYTES_MAX))),
  KeyId: keyId.optional(),
  EncryptionAlgorithm: algorithm,
  Recipient: z.unknown().optional(),
});

/**
 * The JSON `body` as a request of `schema`.
 * @throws {KmsFault} SerializationException: not JSON, wrong types; ValidationException: all broken constraints, in AWS's words
 */
export function parseRequest<Schema extends z.ZodType>(schema: Schema, body: Buffer): z.infer<Schema> {
  const value = parseObject(body);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw constraintsBroken(result.error.issues.map((issue) => problemOf(issue, valueAt(value, issue.path))));
}

function parseObject(body: Buffer): unknown {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Said below: the parser's own words quote the body.
  }
  throw serialization('The body is not a JSON object.');
}

const valueAt = (value: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>((inner, step) => (inner as Record<PropertyKey, unknown> | undefined)?.[step], value);

const VALUE_CHARS_SHOWN = 256;

function problemOf(issue: z.core.$ZodIssue, value: unknown): string {
  const [member = '', index] = issue.path.map(String);
  const at = `'${member.charAt(0).toLowerCase()}${member.slice(1)}${index === undefined ? '' : `.${Number(index) + 1}.member`}'`;
  if (issue.code === 'invalid_type' && (value === undefined || value === null)) {
    return `Value null at ${at} failed to satisfy constraint: Member must not be null`;
  }
  // Whole numbers are asked for where a type may be right and the number is not.
  if (issue.code === 'invalid_type') throw serialization(`The member ${member} has the wrong type.`);
  // AWS shows no bytes either.
  const shown = member === 'CiphertextBlob' ? 'Value' : `Value '${String(value).slice(0, VALUE_CHARS_SHOWN)}'`;
  return `${shown} at ${at} failed to satisfy constraint: ${constraintOf(issue)}`;
}

function constraintOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'too_small':
      return `Member must have ${measured(issue.origin)} greater than or equal to ${issue.minimum}`;
    case 'too_big':
      return `Member must have ${measured(issue.origin)} less than or equal to ${issue.maximum}`;
    case 'invalid_value':
      return `Member must satisfy enum value set: [${issue.values.join(', ')}]`;
    case 'invalid_format':
      return `Member must satisfy regular expression pattern: ${(issue.pattern ?? '').replace(/^\/|\/[a-z]*$/g, '')}`;
    default:
      return issue.message;
  }
}

const measured = (origin: string): string => (origin === 'number' || origin === 'int' ? 'value' : 'length');
