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

const SECRET_MEMBERS = new Set(['ciphertextBlob', 'grantToken', 'grantTokens', 'plaintext', 'recipient']);

/** A request or a reply of the KMS API as CloudTrail shows it: names in lower camel case, without what nobody may read later. */
export function shownParameters(members: object): Record<string, unknown> {
  const shown = Object.entries(members).map(([name, value]) => [`${name.charAt(0).toLowerCase()}${name.slice(1)}`, value] as const);
  return Object.fromEntries(
    shown
      .filter(([name, value]) => !SECRET_MEMBERS.has(name) && value !== undefined)
      .map(([name, value]) => [name, CONVERTED.has(name) && isObject(value) ? shownParameters(value) : value]),
  );
}

/** Members whose own members are names of the API too; those of an encryption context are the user's. */
const CONVERTED = new Set(['constraints', 'keyMetadata']);

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null && !Array.isArray(value);
