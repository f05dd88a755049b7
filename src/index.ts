/** volseal as a library: encrypted volumes whose data keys KMS wraps. */
export { type ErrorCode, type ErrorDetails, VolsealError } from './errors.js';
export { kernels, useKernel } from './kernels.js';
export { type EncryptionContext, workspaceContext } from './kms/encryption-context.js';
export type { KernelInfo, KernelName } from './native.js';
export { type AttachOptions, attach } from './volume/attach.js';
export { type CreateOptions, createVolume, type EncryptOptions, encryptImage, type NewVolumeOptions } from './volume/create.js';
export { type DecryptedImage, type DecryptOptions, decryptImage } from './volume/decrypt.js';
export { describeVolume, type VolumeInfo } from './volume/info.js';
export type { JobOptions, Progress } from './volume/transform-image.js';
export { Volume } from './volume/volume.js';
