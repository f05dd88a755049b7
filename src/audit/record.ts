/**
 * One call to KMS, as AWS CloudTrail records it. (CloudTrail User Guide, "CloudTrail record contents"; KMS Developer Guide, "Logging AWS
 * KMS API calls with AWS CloudTrail".)
 */
import * as z from 'zod';

const object = z.record(z.string(), z.unknown());

const userIdentity = z.object({
  /** `Root`, `IAMUser`, `AssumedRole`, `AWSService`; `Unknown` where nothing but credentials is known. */
  type: z.string(),
  principalId: z.string().optional(),
  arn: z.string().optional(),
  accountId: z.string().optional(),
  accessKeyId: z.string().optional(),
  /** The service that asked, itself or on the principal's behalf. */
  invokedBy: z.string().optional(),
});

/** A record as the log has it. Never a key, a plaintext, an encrypted data key, a grant token. */
export const auditRecord = z.object({
  eventVersion: z.literal('1.11'),
  userIdentity,
  /** ISO 8601, to the second. */
  eventTime: z.iso.datetime(),
  eventSource: z.literal('kms.amazonaws.com'),
  /** `Decrypt`, `CreateGrant` ... */
  eventName: z.string(),
  awsRegion: z.string(),
  sourceIPAddress: z.string(),
  userAgent: z.string(),
  errorCode: z.string().optional(),
  errorMessage: z.string().optional(),
  requestParameters: object.nullable(),
  responseElements: object.nullable(),
  additionalEventData: object.optional(),
  requestID: z.string(),
  eventID: z.uuid(),
  readOnly: z.boolean(),
  resources: z.array(z.object({ accountId: z.string(), type: z.literal('AWS::KMS::Key'), ARN: z.string() })),
  eventType: z.literal('AwsApiCall'),
  managementEvent: z.literal(true),
  recipientAccountId: z.string(),
  eventCategory: z.literal('Management'),
  /** What CloudTrail has no place for. */
  volseal: z.object({
    /** Counts from 1, without a gap. */
    sequence: z.int().min(1),
    /** SHA-256 of the line before, hexadecimal; zeros for the first. */
    previousHash: z.string().regex(/^[0-9a-f]{64}$/),
    /** Who answered: `embedded`, `aws:REGION`, a URL. */
    endpoint: z.string(),
    /** The grant that allowed it, where no policy did. */
    grantId: z.string().optional(),
  }),
});

export type AuditRecord = z.infer<typeof auditRecord>;

/** What a caller of the log knows; the log adds its place in the chain. */
export type AuditEvent = Omit<AuditRecord, 'volseal' | ConstantMember> & {
  volseal: Omit<AuditRecord['volseal'], 'sequence' | 'previousHash'>;
};

type ConstantMember = keyof typeof CONSTANT_MEMBERS;

/** The same in every record. */
export const CONSTANT_MEMBERS = {
  eventVersion: '1.11',
  eventSource: 'kms.amazonaws.com',
  eventType: 'AwsApiCall',
  managementEvent: true,
  eventCategory: 'Management',
} as const;

/**
 * The members of requests and replies that a record repeats. All others are left out, whatever their spelling: keys, plaintexts,
 * encrypted data keys and grant tokens must never be in the log.
 */
const RECORDED_MEMBERS: ReadonlySet<string> = new Set([
  ...['AWSAccountId', 'AliasName', 'Arn', 'BypassPolicyLockoutSafetyCheck', 'CloudHsmClusterId', 'Constraints', 'CreationDate'],
  ...['CurrentKeyMaterialId', 'CustomKeyStoreId', 'CustomerMasterKeySpec', 'DeletionDate', 'Description'],
  ...['DestinationEncryptionAlgorithm', 'DestinationEncryptionContext', 'DestinationKeyId', 'DryRun', 'DryRunModifiers', 'Enabled'],
  ...['EncryptionAlgorithm', 'EncryptionAlgorithms', 'EncryptionContext', 'EncryptionContextEquals', 'EncryptionContextSubset'],
  ...['ExpirationModel', 'GrantId', 'GranteePrincipal', 'GranteeServicePrincipal', 'IncludeKeyMaterial', 'KeyAgreementAlgorithms'],
  ...['KeyId', 'KeyManager', 'KeyMaterialId', 'KeyMetadata', 'KeySpec', 'KeyState', 'KeyUsage', 'Limit', 'MacAlgorithms', 'Marker'],
  ...['MultiRegion', 'MultiRegionConfiguration', 'Name', 'NumberOfBytes', 'Operations', 'Origin', 'PendingDeletionWindowInDays'],
  ...['PendingWindowInDays', 'Policy', 'PolicyName', 'RetiringPrincipal', 'RetiringServicePrincipal', 'RotationPeriodInDays'],
  ...['SigningAlgorithms', 'SourceArn', 'SourceEncryptionAlgorithm', 'SourceEncryptionContext', 'SourceKeyId', 'TagKey', 'TagKeys'],
  ...['TagValue', 'Tags', 'TargetKeyId', 'ValidTo', 'XksKeyConfiguration', 'XksKeyId'],
]);

/** Members whose value is a map with names of the user's own. */
const MAPS: ReadonlySet<string> = new Set([
  'DestinationEncryptionContext',
  'EncryptionContext',
  'EncryptionContextEquals',
  'EncryptionContextSubset',
  'SourceEncryptionContext',
]);
/** Members whose value is a structure of the API, or a list of them. */
const STRUCTURES: ReadonlySet<string> = new Set(['Constraints', 'KeyMetadata', 'Tags']);

/**
 * A request or a reply of the KMS API as CloudTrail shows it: names in lower camel case. Only members of `RECORDED_MEMBERS` are shown,
 * and only values of the form that the API gives them.
 */
export function shownParameters(members: object): Record<string, unknown> {
  const shown = Object.entries(members)
    .filter(([name]) => RECORDED_MEMBERS.has(name))
    .map(([name, value]) => [`${name.charAt(0).toLowerCase()}${name.slice(1)}`, shownValue(name, value)] as const);
  return Object.fromEntries(shown.filter(([, value]) => value !== undefined));
}

function shownValue(name: string, value: unknown): unknown {
  if (MAPS.has(name)) {
    return isObject(value) ? Object.fromEntries(Object.entries(value).filter(([, text]) => typeof text === 'string')) : undefined;
  }
  if (Array.isArray(value)) return value.map((item) => shownItem(name, item)).filter((item) => item !== undefined);
  return shownItem(name, value);
}

function shownItem(name: string, value: unknown): unknown {
  if (STRUCTURES.has(name)) return isObject(value) ? shownParameters(value) : undefined;
  return value instanceof Date || ['string', 'number', 'boolean'].includes(typeof value) ? value : undefined;
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null && !Array.isArray(value);
