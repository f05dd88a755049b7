/**
 * One call to KMS, as AWS CloudTrail records it. (CloudTrail User Guide, "CloudTrail record contents"; KMS Developer
 * Guide, "Logging AWS KMS API calls with AWS CloudTrail".)
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

/** A record in the log. It never has a key, a plaintext, an encrypted data key or a grant token. */
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
  /** What CloudTrail has no member for. */
  volseal: z.object({
    /** Counts from 1, without a gap. */
    sequence: z.int().min(1),
    /** SHA-256 of the line before, hexadecimal; zeros for the first. */
    previousHash: z.string().regex(/^[0-9a-f]{64}$/),
    /** Who answered: `embedded`, `aws:REGION`, a URL. */
    endpoint: z.string(),
    /** The grant that allowed it, where no policy did. */
    grantId: z.string().optional(),
    /**
     * HMAC under the root key over the line up to this member, hexadecimal. The log of calls to other KMSs has none.
     */
    mac: z.string().optional(),
  }),
});

export type AuditRecord = z.infer<typeof auditRecord>;

/** What the caller of the log knows; the log adds the position in the chain. */
export type AuditEvent = Omit<AuditRecord, 'volseal' | ConstantMember> & {
  volseal: Omit<AuditRecord['volseal'], 'sequence' | 'previousHash' | 'mac'>;
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
