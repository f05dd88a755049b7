/**
 * The IAM statements that stores need: "Actions, resources, and condition keys" of Amazon S3 and of Amazon Elastic
 * Block Store (Service Authorization Reference), and "Control access to EBS direct APIs using IAM" (Amazon EBS User
 * Guide).
 */

/** An identity policy as IAM takes it. */
export interface IdentityPolicy {
  readonly Version: '2012-10-17';
  readonly Statement: readonly object[];
}

/**
 * What a principal must be allowed to use S3 and snapshots with volseal.
 * @param bucket whose objects; undefined for all @param keyArn of the KMS key under which EBS encrypts snapshots
 */
export function storePolicy(bucket = '*', keyArn?: string): IdentityPolicy {
  const snapshots = 'arn:aws:ec2:*::snapshot/*';
  return {
    Version: '2012-10-17',
    Statement: [
      { Sid: 'ReadObjects', Effect: 'Allow', Action: ['s3:GetObject', 's3:GetObjectVersion'], Resource: `arn:aws:s3:::${bucket}/*` },
      { Sid: 'WriteObjects', Effect: 'Allow', Action: ['s3:PutObject', 's3:AbortMultipartUpload'], Resource: `arn:aws:s3:::${bucket}/*` },
      // Uploads with --resume: which parts are there; and their record goes when they are complete.
      { Sid: 'ResumeUploads', Effect: 'Allow', Action: ['s3:ListMultipartUploadParts'], Resource: `arn:aws:s3:::${bucket}/*` },
      { Sid: 'RemoveRecords', Effect: 'Allow', Action: ['s3:DeleteObject'], Resource: `arn:aws:s3:::${bucket}/*.volseal-resume` },
      // Without it S3 denies an object that is not there, and does not say that it is missing.
      { Sid: 'TellWhatIsMissing', Effect: 'Allow', Action: ['s3:ListBucket'], Resource: `arn:aws:s3:::${bucket}` },
      {
        Sid: 'ReadSnapshots',
        Effect: 'Allow',
        Action: ['ebs:ListSnapshotBlocks', 'ebs:ListChangedBlocks', 'ebs:GetSnapshotBlock'],
        Resource: snapshots,
      },
      {
        Sid: 'WriteSnapshots',
        Effect: 'Allow',
        Action: ['ebs:StartSnapshot', 'ebs:PutSnapshotBlock', 'ebs:CompleteSnapshot'],
        Resource: snapshots,
      },
      { Sid: 'TagSnapshots', Effect: 'Allow', Action: ['ec2:CreateTags'], Resource: snapshots },
      ...(keyArn === undefined
        ? []
        : [
            {
              Sid: 'UseTheKeyOfSnapshots',
              Effect: 'Allow',
              Action: ['kms:Decrypt', 'kms:DescribeKey', 'kms:GenerateDataKey*', 'kms:ReEncrypt*', 'kms:CreateGrant'],
              Resource: keyArn,
            },
          ]),
    ],
  };
}
