/**
 * The requests of the embedded KMS's operations: their members. (AWS KMS API Reference, "Request Parameters" of each
 * operation.)
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

/**
 * A structure of the API. A member that it does not have is refused: ignoring it could drop a constraint or a condition
 * that the caller relies on. JSON null counts as absent, as in AWS.
 */
const structure = <Shape extends z.ZodRawShape>(shape: Shape) => z.preprocess(withoutNulls, z.strictObject(shape));

function withoutNulls(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null));
}

/** A text of this form; `shown` is AWS's pattern, which has no anchors in some places. */
const patterned = (pattern: RegExp, shown: string) => z.string().regex(pattern, `Member must satisfy regular expression pattern: ${shown}`);

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
const dryRunModifiers = z.array(z.enum(['IGNORE_CIPHERTEXT'])).optional();
const algorithm = z.enum(['SYMMETRIC_DEFAULT', 'RSAES_OAEP_SHA_1', 'RSAES_OAEP_SHA_256', 'SM2PKE']).optional();

/** Base64 as RFC 4648 has it, nothing around it: so two texts never stand for one blob. */
const blob = z.string().transform((text): Buffer => {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) throw serialization('A member that holds bytes is not valid base64.');
  return bytes;
});

/** Checks the object itself: zod's record copies the pairs, and what is authenticated must be what was sent. */
function readContext(value: unknown): EncryptionContext {
  if (typeof value === 'object' && value !== null) for (const text of Object.values(value)) refuseOtherThanString(text);
  try {
    return checkContext(value, KMS_CONTEXT_BYTES_MAX, 'case-sensitive');
  } catch (error) {
    if (error instanceof VolsealError) throw validation(error.message);
    throw error;
  }
}

/** A value of another type is never converted: AWS answers so as well. */
function refuseOtherThanString(value: unknown): void {
  if (typeof value === 'number') throw serialization('NUMBER_VALUE can not be converted to a String');
  if (typeof value === 'boolean') throw serialization(`${String(value).toUpperCase()}_VALUE can not be converted to a String`);
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

const tag = structure({ TagKey: z.string().min(1).max(128), TagValue: z.string().max(256) });
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

const CUSTOMER_MASTER_KEY_SPECS = [
  'RSA_2048',
  'RSA_3072',
  'RSA_4096',
  'ECC_NIST_P256',
  'ECC_NIST_P384',
  'ECC_NIST_P521',
  'ECC_SECG_P256K1',
  'SYMMETRIC_DEFAULT',
  'HMAC_224',
  'HMAC_256',
  'HMAC_384',
  'HMAC_512',
  'SM2',
] as const;
/** Key specs that only `KeySpec` has, not the deprecated `CustomerMasterKeySpec`. */
const NEWER_KEY_SPECS = [
  'ECC_NIST_EDWARDS25519',
  'ML_DSA_44',
  'ML_DSA_65',
  'ML_DSA_87',
  'ML_KEM_512',
  'ML_KEM_768',
  'ML_KEM_1024',
] as const;

/** The operation refuses the values of members that this KMS does not support. */
export const createKeyRequest = structure({
  BypassPolicyLockoutSafetyCheck: z.boolean().optional(),
  CustomKeyStoreId: z.string().optional(),
  CustomerMasterKeySpec: z.enum(CUSTOMER_MASTER_KEY_SPECS).optional(),
  Description: z.string().max(KMS_DESCRIPTION_CHARS_MAX).optional(),
  KeySpec: z.enum([...CUSTOMER_MASTER_KEY_SPECS, ...NEWER_KEY_SPECS]).optional(),
  KeyUsage: z.enum(['SIGN_VERIFY', 'ENCRYPT_DECRYPT', 'GENERATE_VERIFY_MAC', 'KEY_AGREEMENT', 'ENCAPSULATE_DECAPSULATE']).optional(),
  MultiRegion: z.boolean().optional(),
  Origin: z.enum(['AWS_KMS', 'EXTERNAL', 'AWS_CLOUDHSM', 'EXTERNAL_KEY_STORE']).optional(),
  Policy: policy.optional(),
  Tags: z.array(tag).optional(),
  XksKeyId: z.string().optional(),
});
export const describeKeyRequest = structure({ KeyId: keyId, GrantTokens: grantTokens });
export const keyOnlyRequest = structure({ KeyId: keyId });
export const updateKeyDescriptionRequest = structure({ KeyId: keyId, Description: z.string().max(KMS_DESCRIPTION_CHARS_MAX) });
export const scheduleKeyDeletionRequest = structure({ KeyId: keyId, PendingWindowInDays: z.int().min(7).max(30).optional() });
export const listKeysRequest = structure(page(1000));

export const listAliasesRequest = structure({ ...page(100), KeyId: keyId.optional() });
export const aliasTargetRequest = structure({ AliasName: aliasName, TargetKeyId: keyId });
export const deleteAliasRequest = structure({ AliasName: aliasName });

export const enableKeyRotationRequest = structure({ KeyId: keyId, RotationPeriodInDays: z.int().min(90).max(2560).optional() });
export const listKeyRotationsRequest = structure({
  ...page(1000),
  KeyId: keyId,
  IncludeKeyMaterial: z.enum(['ALL_KEY_MATERIAL', 'ROTATIONS_ONLY']).optional(),
});

export const tagResourceRequest = structure({ KeyId: keyId, Tags: z.array(tag) });
export const untagResourceRequest = structure({ KeyId: keyId, TagKeys: z.array(z.string().min(1).max(128)) });
export const listResourceTagsRequest = structure({ ...page(50), KeyId: keyId });

const policyName = patterned(/^[\w]+$/, '[\\w]+')
  .min(1)
  .max(128)
  .optional();
export const getKeyPolicyRequest = structure({ KeyId: keyId, PolicyName: policyName });
export const putKeyPolicyRequest = structure({
  KeyId: keyId,
  Policy: policy,
  PolicyName: policyName,
  BypassPolicyLockoutSafetyCheck: z.boolean().optional(),
});
export const listKeyPoliciesRequest = structure({ ...page(1000), KeyId: keyId });

export const createGrantRequest = structure({
  KeyId: keyId,
  GranteePrincipal: principal.optional(),
  GranteeServicePrincipal: principal.optional(),
  RetiringPrincipal: principal.optional(),
  RetiringServicePrincipal: principal.optional(),
  Operations: z.array(z.enum(GRANT_OPERATIONS)).min(1),
  Constraints: structure({
    EncryptionContextSubset: constraintContext,
    EncryptionContextEquals: constraintContext,
    SourceArn: z.string().min(20).max(2048).optional(),
  }).optional(),
  GrantTokens: grantTokens,
  Name: z
    .string()
    .min(1)
    .max(256)
    .regex(/^[a-zA-Z0-9:/_-]+$/)
    .optional(),
  DryRun: dryRun,
});
export const listGrantsRequest = structure({
  ...page(100),
  KeyId: keyId,
  GrantId: grantId.optional(),
  GranteePrincipal: principal.optional(),
  GranteeServicePrincipal: principal.optional(),
});
export const listRetirableGrantsRequest = structure({
  ...page(100),
  RetiringPrincipal: principal.optional(),
  RetiringServicePrincipal: principal.optional(),
});
export const retireGrantRequest = structure({
  GrantToken: z.string().min(1).max(8192).optional(),
  KeyId: keyId.optional(),
  GrantId: grantId.optional(),
  DryRun: dryRun,
});
export const revokeGrantRequest = structure({ KeyId: keyId, GrantId: grantId, DryRun: dryRun });

export const generateRandomRequest = structure({
  NumberOfBytes: z.int().min(1).max(KMS_DATA_KEY_BYTES_MAX).optional(),
  CustomKeyStoreId: z.string().optional(),
  Recipient: z.unknown().optional(),
});
export const generateDataKeyRequest = structure({ ...dataKey, Recipient: z.unknown().optional() });
export const generateDataKeyWithoutPlaintextRequest = structure(dataKey);
/** `Plaintext` is not in the body: it is in the vault. */
export const encryptRequest = structure({ ...cryptographic, Plaintext: z.unknown(), KeyId: keyId, EncryptionAlgorithm: algorithm });
const ciphertextBlob = blob.pipe(z.instanceof(Buffer).check(z.minLength(1), z.maxLength(KMS_CIPHERTEXT_BYTES_MAX)));
export const decryptRequest = structure({
  ...cryptographic,
  CiphertextBlob: ciphertextBlob.optional(),
  DryRunModifiers: dryRunModifiers,
  KeyId: keyId.optional(),
  EncryptionAlgorithm: algorithm,
  Recipient: z.unknown().optional(),
});
export const reEncryptRequest = structure({
  CiphertextBlob: ciphertextBlob.optional(),
  DryRunModifiers: dryRunModifiers,
  SourceEncryptionContext: encryptionContext,
  SourceKeyId: keyId.optional(),
  SourceEncryptionAlgorithm: algorithm,
  DestinationKeyId: keyId,
  DestinationEncryptionContext: encryptionContext,
  DestinationEncryptionAlgorithm: algorithm,
  GrantTokens: grantTokens,
  DryRun: dryRun,
});
