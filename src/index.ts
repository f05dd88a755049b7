/** volseal as a library: encrypted volumes whose data keys KMS wraps. */
// Before the modules that need it.
import './async-dispose.js';

export { type ErrorCode, type ErrorDetails, VolsealError } from './errors.js';
export { type JobOutcome, type RunJobOptions, runJob } from './fleet/run-job.js';
export {
  type BadLine,
  type CommonSpec,
  type DecryptSpec,
  type EncryptSpec,
  type JobKind,
  type JobLine,
  type JobSpec,
  type MadeChoices,
  type OpenedChoices,
  parseJobLines,
  type ReencryptSpec,
  type RewrapSpec,
  type VerifySpec,
} from './fleet/spec.js';
export { type Verdict, verdictOf } from './fleet/verdict.js';
export { type BackupHeaderOptions, backupHeader, type HeaderBackup } from './headers/header-backup.js';
export { type RestoredHeader, type RestoreHeaderOptions, restoreHeader } from './headers/header-restore.js';
export { type AliasEntry, type KeyDescription, type KeyEntry, type KmsKeys, type KmsKeysOptions, kmsKeys } from './headers/kms-keys.js';
export {
  type AddRecoveryKeyOptions,
  addPassphrase,
  addRecoveryKey,
  type RecoveryKeyStream,
  removeKeyslot,
  testKeyslot,
  type VolumeKeyslot,
} from './headers/recovery.js';
export { type RewrapOptions, type RewrappedVolume, rewrapVolume } from './headers/rewrap.js';
export { handOverVolumeKey, type VolumeKeyStream } from './headers/volume-key.js';
export { type AttachAnyOptions, attach } from './in-place/attach.js';
export { type DecryptInPlaceOptions, decryptInPlace } from './in-place/decrypt.js';
export { type EncryptInPlaceOptions, encryptInPlace } from './in-place/encrypt.js';
export type { InPlaceOptions, InPlaceOutcome } from './in-place/job.js';
export { type DecryptAnyOptions, decryptImage, type VerifyAnyOptions, verifyVolume } from './in-place/read-image.js';
export { type ReencryptedInPlace, type ReencryptInPlaceOptions, reencryptInPlace } from './in-place/reencrypt.js';
export { type AdoptedVolume, type AdoptOptions, adoptVolume } from './jobs/adopt.js';
export type { EncryptedImage } from './jobs/build-volume.js';
export type { DecryptedImage, DecryptOptions } from './jobs/decrypt-options.js';
export { type DensifiedVolume, type DensifyOptions, densifyVolume } from './jobs/densify.js';
export {
  type CreateOptions,
  createVolume,
  type EncryptOptions,
  encryptImage,
  type NewVolumeOptions,
} from './jobs/encrypt.js';
export {
  type ReencryptedVolume,
  type ReencryptOptions,
  type ReencryptPreview,
  reencryptVolume,
  tryReencrypt,
} from './jobs/reencrypt.js';
export { readStoredRange, type StoredRange, type StoredRead } from './jobs/stored/stored-read.js';
export { type UpdatedVolume, type UpdateOptions, updateVolume } from './jobs/stored/update-volume.js';
export type { VerifiedVolume, VerifyOptions } from './jobs/verify.js';
export { kernels, useKernel } from './kernels.js';
export { type ClientEndpoint, fromKmsClient, type KmsClientLike, type KmsClientOptions } from './kms/client/own-client.js';
export type { KmsCredentials, KmsCredentialsProvider } from './kms/shared/credentials.js';
export { type EncryptionContext, workspaceContext } from './kms/shared/encryption-context.js';
export type { Logger, LogOptions } from './logging.js';
export type { KeyslotInfo, KeyslotKind } from './luks2/known-keyslots.js';
export type { Allocation } from './luks2/token.js';
export type { DeviceExtent, KernelInfo, KernelName } from './native.js';
export type { NbdEndpoint, NbdServeOptions, NbdTls, NbdTlsCertificate, NbdTlsPsk } from './nbd/options.js';
export { serveVolumes, type VolumeExport } from './nbd/serve.js';
export type {
  DeviceLender,
  DeviceUser,
  NbdClient,
  NbdLatencies,
  NbdRequestKind,
  NbdServer,
  NbdServerEvents,
  NbdStats,
  ServableVolume,
} from './nbd/server.js';
export type { SnapshotOptions, StoreOptions } from './stores/store.js';
export type { SourceChunks, SourceStream, TargetStream } from './transfer/image-stream.js';
export type { JobOptions, Progress } from './transfer/transform.js';
export { type WatchedJob, watchProgress } from './transfer/watch-progress.js';
export type { AttachOptions } from './volume/attach.js';
export { type DescribeOptions, describeVolume } from './volume/describe.js';
export { type HeaderText, readHeaderText } from './volume/header-text.js';
export type { VolumeInfo } from './volume/info.js';
export { type ListedVolume, listVolumes } from './volume/list.js';
export type { StoredOpenOptions } from './volume/stored-volume.js';
export type { ReadStreamOptions, WriteStreamOptions } from './volume/streams.js';
export type { KmsAccess, OpenOptions } from './volume/unlock.js';
export type { KeyslotOptions } from './volume/unlock-keyslot.js';
export { Volume } from './volume/volume.js';
export {
  type AttachedWorkspace,
  attachWorkspace,
  createWorkspace,
  describeWorkspace,
  listWorkspaces,
  rebootWorkspace,
  rebuildWorkspace,
  terminateWorkspace,
  type WorkspaceInfo,
} from './workspaces/lifecycle.js';
export type { CreateWorkspaceOptions, VolumeOrigin, WorkspaceHome } from './workspaces/plan.js';
