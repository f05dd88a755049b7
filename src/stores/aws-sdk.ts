/**
 * What volseal uses of the AWS SDK for stores: S3, the EBS direct APIs, and what both clients are set up with. Modules
 * import it when a store is named first. scripts/bundle.mjs makes one file of it, dist/program/stores-sdk.js, so that
 * an installation need not bring the SDK's packages (decision 60): whatever else is used of them is added here.
 */
export {
  CompleteSnapshotCommand,
  EBSClient,
  GetSnapshotBlockCommand,
  ListChangedBlocksCommand,
  ListSnapshotBlocksCommand,
  PutSnapshotBlockCommand,
  StartSnapshotCommand,
} from '@aws-sdk/client-ebs';
export {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
export { loadConfig, NODE_REGION_CONFIG_FILE_OPTIONS, NODE_REGION_CONFIG_OPTIONS } from '@smithy/core/config';
export { NodeHttpHandler } from '@smithy/node-http-handler';
