/**
 * What volseal uses of the AWS SDK for KMS, loaded with the first call. By name, so that the bundles
 * (scripts/bundle.mjs) are without the rest of the package: whatever else is used of it is added here.
 */
export {
  CreateAliasCommand,
  CreateGrantCommand,
  CreateKeyCommand,
  DecryptCommand,
  DeleteAliasCommand,
  DescribeKeyCommand,
  DisableKeyCommand,
  EnableKeyCommand,
  EncryptCommand,
  GenerateDataKeyWithoutPlaintextCommand,
  KMSClient,
  paginateListAliases,
  paginateListGrants,
  paginateListKeys,
  paginateListRetirableGrants,
  ReEncryptCommand,
  RetireGrantCommand,
  RevokeGrantCommand,
  UpdateAliasCommand,
} from '@aws-sdk/client-kms';
