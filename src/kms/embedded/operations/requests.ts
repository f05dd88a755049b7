/**
 * The requests of the embedded KMS's operations: their members. (AWS KMS API Reference, "Request Parameters" of each operation.)
 */
import * as z from 'zod';
import { VolsealError } from '../../../errors.js';
import {
  KMS_ALIAS_CHARS_MAX,
  KMS_CIPHERTEXT_BYTES_MAX,
  KMS_CONTEXT_BYTES_MAX,
  KMS_DATA_KEY_BYTES_MAX,
  KMS_DESCRIPTION_CHARS_MAX,
  KMS_GRANT_TOKENS_MAX,
  KMS_KEY_ID_CHARS_MAX,
} from '../../../limits.js';
import { checkContext, type EncryptionContext } from '../../shared/encryption-context.js';
import { serialization, validation } from '../faults.js';
import { GRANT_OPERATIONS } from '../grants/permits.js';

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

/** Base64 as RFC 4648 has it, nothing around it: so two texts never stand for one blob. */
const blob = z.string().transform((text): Buffer => {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) throw serialization('A member that holds bytes is not valid base64.');
  return bytes;
});

/** Checks the object itself: zod's record drops a pair named "__proto__", which would then not be authenticated. */
function readContext(value: unknown): EncryptionContext {
  try {
    return checkContext(value, KMS_CONTEXT_BYTES_MAX);
  } catch (error) {
    if (error instanceof VolsealError) throw validation(error.message);
    throw error;
  }
}

/** The empty context where the member is absent. */
const encryptionContext = z
  .unknown()
  .optional()
  .transform((value) => readContext(value ?? {}));
const constraintContext = z
  .unknown()
  .optional()
  .transform((value) => (value === undefined || value === null ? undefined : readContext(value)));

const tag = z.object({ TagKey: z.string().min(1).max(128), TagValue: z.string().max(256) });
const policy = z
  .string()
  .min(1)
  .regex(/^[\t\n\r\u0020-\u00FF]+$/);
const principal = z.string().min(1).max(256);
const grantId = z.string().min(1).max(128);
const limit = (max: number) => z.int().min(1).max(max).optional();
const page = (max: number) => ({ Limit: limit(max), Marker: marker });

const cryptographic = { EncryptionContext: encryptionContext, GrantTokens: grantTokens, DryRun: dryRun };
const dataKey = {
  ...cryptographic,
  KeyId: keyId,
  KeySpec: z.enum(['AES_256', 'AES_128']).optional(),
  NumberOfBytes: z.int().min(1).max(KMS_DATA_KEY_BYTES_MAX).optional(),
};

/** The operation refuses the values of members that this KMS does not support. */
export const createKeyRequest = z.object({
  BypassPolicyLockoutSafetyCheck: z.boolean().optional(),
  CustomKeyStoreId: z.string().optional(),
  CustomerMasterKeySpec: z.string().optional(),
  Description: z.string().max(KMS_DESCRIPTION_CHARS_MAX).optional(),
  KeySpec: z.string().optional(),
  KeyUsage: z.string().optional(),
  MultiRegion: z.boolean().optional(),
  Origin: z.string().optional(),
  Policy: policy.optional(),
  Tags: z.array(tag).optional(),
  XksKeyId: z.string().optional(),
});
export const describeKeyRequest = z.object({ KeyId: keyId, GrantTokens: grantTokens });
export const keyOnlyRequest = z.object({ KeyId: keyId });
export const updateKeyDescriptionRequest = z.object({ KeyId: keyId, Description: z.string().max(KMS_DESCRIPTION_CHARS_MAX) });
export const scheduleKeyDeletionRequest = z.object({ KeyId: keyId, PendingWindowInDays: z.int().min(7).max(30).optional() });
export const listKeysRequest = z.object(page(1000));

export const listAliasesRequest = z.object({ ...page(100), KeyId: keyId.optional() });
export const aliasTargetRequest = z.object({ AliasName: aliasName, TargetKeyId: keyId });
export const deleteAliasRequest = z.object({ AliasName: aliasName });

export const enableKeyRotationRequest = z.object({ KeyId: keyId, RotationPeriodInDays: z.int().min(90).max(2560).optional() });
export const listKeyRotationsRequest = z.object({
  ...page(1000),
  KeyId: keyId,
  IncludeKeyMaterial: z.enum(['ALL_KEY_MATERIAL', 'ROTATIONS_ONLY']).optional(),
});

export const tagResourceRequest = z.object({ KeyId: keyId, Tags: z.array(tag) });
export const untagResourceRequest = z.object({ KeyId: keyId, TagKeys: z.array(z.string().min(1).max(128)) });
export const listResourceTagsRequest = z.object({ ...page(50), KeyId: keyId });

const policyName = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[\w]+$/)
  .optional();
export const getKeyPolicyRequest = z.object({ KeyId: keyId, PolicyName: policyName });
export const putKeyPolicyRequest = z.object({
  KeyId: keyId,
  Policy: policy,
  PolicyName: policyName,
  BypassPolicyLockoutSafetyCheck: z.boolean().optional(),
});
export const listKeyPoliciesRequest = z.object({ ...page(1000), KeyId: keyId });

export const createGrantRequest = z.object({
  KeyId: keyId,
  GranteePrincipal: principal,
  RetiringPrincipal: principal.optional(),
  Operations: z.array(z.enum(GRANT_OPERATIONS)).min(1),
  Constraints: z.object({ EncryptionContextSubset: constraintContext, EncryptionContextEquals: constraintContext }).optional(),
  GrantTokens: grantTokens,
  Name: z
    .string()
    .min(1)
    .max(256)
    .regex(/^[a-zA-Z0-9:/_-]+$/)
    .optional(),
  DryRun: dryRun,
});
export const listGrantsRequest = z.object({
  ...page(100),
  KeyId: keyId,
  GrantId: grantId.optional(),
  GranteePrincipal: principal.optional(),
});
export const listRetirableGrantsRequest = z.object({ ...page(100), RetiringPrincipal: principal });
export const retireGrantRequest = z.object({
  GrantToken: z.string().min(1).max(8192).optional(),
  KeyId: keyId.optional(),
  GrantId: grantId.optional(),
  DryRun: dryRun,
});
export const revokeGrantRequest = z.object({ KeyId: keyId, GrantId: grantId, DryRun: dryRun });

export const generateRandomRequest = z.object({
  NumberOfBytes: z.int().min(1).max(KMS_DATA_KEY_BYTES_MAX).optional(),
  CustomKeyStoreId: z.string().optional(),
  Recipient: z.unknown().optional(),
});
export const generateDataKeyRequest = z.object({ ...dataKey, Recipient: z.unknown().optional() });
export const generateDataKeyWithoutPlaintextRequest = z.object(dataKey);
/** `Plaintext` is not in the body: it is in the vault. */
export const encryptRequest = z.object({ ...cryptographic, KeyId: keyId, EncryptionAlgorithm: algorithm });
const ciphertextBlob = blob.pipe(z.instanceof(Buffer).check(z.minLength(1), z.maxLength(KMS_CIPHERTEXT_BYTES_MAX)));
export const decryptRequest = z.object({
  ...cryptographic,
  CiphertextBlob: ciphertextBlob,
  KeyId: keyId.optional(),
  EncryptionAlgorithm: algorithm,
  Recipient: z.unknown().optional(),
});
export const reEncryptRequest = z.object({
  CiphertextBlob: ciphertextBlob,
  SourceEncryptionContext: encryptionContext,
  SourceKeyId: keyId.optional(),
  SourceEncryptionAlgorithm: algorithm,
  DestinationKeyId: keyId,
  DestinationEncryptionContext: encryptionContext,
  DestinationEncryptionAlgorithm: algorithm,
  GrantTokens: grantTokens,
  DryRun: dryRun,
});
