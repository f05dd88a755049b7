/**
 * The condition keys that policies may use here. (IAM User Guide, "AWS global condition context keys"; AWS KMS
 * Developer Guide, "Condition keys for AWS KMS".)
 *
 * A statement with a condition key that no request ever carries does not do what its author expects: a Deny on it never
 * denies. So a policy may use the keys that this KMS supplies (./request-conditions.ts) and the keys that AWS itself
 * leaves out of such requests. Any other key is refused by its name when the policy is put.
 */

/** Supplied, as AWS supplies them. A name that ends in `/` or `:` stands for a family: any text may follow. */
export const SUPPLIED_CONDITION_KEYS = [
  'aws:CalledVia',
  'aws:CalledViaFirst',
  'aws:CalledViaLast',
  'aws:CurrentTime',
  'aws:EpochTime',
  'aws:PrincipalAccount',
  'aws:PrincipalArn',
  'aws:PrincipalIsAWSService',
  'aws:PrincipalServiceName',
  'aws:PrincipalServiceNamesList',
  'aws:PrincipalType',
  'aws:RequestTag/',
  'aws:RequestedRegion',
  'aws:ResourceAccount',
  'aws:ResourceTag/',
  'aws:SecureTransport',
  'aws:SourceAccount',
  'aws:SourceArn',
  'aws:SourceIp',
  'aws:TagKeys',
  'aws:UserAgent',
  'aws:ViaAWSService',
  'aws:userid',
  'aws:username',
  'kms:BypassPolicyLockoutSafetyCheck',
  'kms:CallerAccount',
  'kms:CustomerMasterKeySpec',
  'kms:CustomerMasterKeyUsage',
  'kms:EncryptionAlgorithm',
  'kms:EncryptionContext:',
  'kms:EncryptionContextKeys',
  'kms:GrantConstraintSourceArn',
  'kms:GrantConstraintType',
  'kms:GrantIsForAWSResource',
  'kms:GrantOperations',
  'kms:GranteePrincipal',
  'kms:GranteeServicePrincipal',
  'kms:KeyOrigin',
  'kms:KeySpec',
  'kms:KeyUsage',
  'kms:MultiRegion',
  'kms:ReEncryptOnSameKey',
  'kms:RequestAlias',
  'kms:ResourceAliases',
  'kms:RetiringPrincipal',
  'kms:RetiringServicePrincipal',
  'kms:RotationPeriodInDays',
  'kms:ScheduleKeyDeletionPendingWindowInDays',
  'kms:ViaService',
] as const;

/**
 * Absent from every request here, as in AWS: it sends them only with temporary credentials, through a VPC endpoint, for
 * keys of several Regions, or with operations and members (`Recipient`) that this KMS does not have. A name that ends
 * in `:` stands for a family.
 */
export const ABSENT_CONDITION_KEYS = [
  'aws:FederatedProvider',
  'aws:MultiFactorAuthAge',
  'aws:MultiFactorAuthPresent',
  'aws:Referer',
  'aws:SourceIdentity',
  'aws:SourceVpc',
  'aws:SourceVpce',
  'aws:TokenIssueTime',
  'aws:VpcSourceIp',
  'kms:DataKeyPairSpec',
  'kms:ExpirationModel',
  'kms:KeyAgreementAlgorithm',
  'kms:MacAlgorithm',
  'kms:MessageType',
  'kms:MultiRegionKeyType',
  'kms:PrimaryRegion',
  'kms:RecipientAttestation:',
  'kms:ReplicaRegion',
  'kms:SigningAlgorithm',
  'kms:ValidTo',
  'kms:WrappingAlgorithm',
  'kms:WrappingKeySpec',
] as const;

const NAMES: ReadonlySet<string> = new Set([...SUPPLIED_CONDITION_KEYS, ...ABSENT_CONDITION_KEYS].map((name) => name.toLowerCase()));
const FAMILIES = [...NAMES].filter((name) => /[/:]$/.test(name));

/** Whether a policy may use this condition key; names compare without case. */
export function isConditionKey(name: string): boolean {
  const folded = name.toLowerCase();
  const family = FAMILIES.find((prefix) => folded.startsWith(prefix));
  return family === undefined ? NAMES.has(folded) : folded.length > family.length;
}
