/** The data key of a volume that is being made, and the header that records it. */
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { VolsealError } from '../errors.js';
import { parseKmsArn } from '../kms/shared/arn.js';
import { checkContext, type EncryptionContext } from '../kms/shared/encryption-context.js';
import { type KmsEndpoint, kmsUri } from '../kms/shared/endpoint.js';
import type { Luks2Header } from '../luks2/header.js';
import { FIRST_SEQUENCE, newHeader } from '../luks2/new-header.js';
import type { Allocation } from '../luks2/token.js';
import { type KeyHandle, native } from '../native.js';
import { cannotResume } from '../output/partial-file.js';
import { isSnapshot, snapshotId } from '../stores/ebs/location.js';
import { traced } from '../tracing.js';
import { type NamedContents, type OpenOptions, unlockByKms } from '../volume/unlock.js';
import { type OpenFiles, readContents } from '../volume/volume-file.js';
import type { PoolLease } from '../workers/pool.js';
import type { NewKeyTask } from '../workers/tasks.js';
import type { NewVolumeFiles, TargetPlan, VolumePlan, VolumeSource } from './volume-plan.js';

/** A volume's key, the caller's to wipe, and the header that holds it wrapped. */
export interface KeyedHeader {
  readonly key: KeyHandle;
  readonly header: Luks2Header;
  readonly volumeId: string;
}

/** The encryption context of the new volume. @throws {VolsealError} `ERR_ARGUMENT` */
export function contextOf({ volumeId, contextPairs }: Pick<VolumePlan, 'volumeId' | 'contextPairs'>): EncryptionContext {
  if (VOLUME_ID_CONTEXT_KEY in contextPairs) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `the encryption context pair ${VOLUME_ID_CONTEXT_KEY} is set by volseal: it names the volume; leave it out`,
    );
  }
  // JSON parsers drop it, or worse: the header could not carry it.
  if (Object.hasOwn(contextPairs, '__proto__'))
    throw new VolsealError('ERR_ARGUMENT', 'an encryption context pair cannot be named __proto__');
  return checkContext({ [VOLUME_ID_CONTEXT_KEY]: volumeId, ...contextPairs });
}

/** What a new header must know of the volume. */
export interface KeyPlan extends TargetPlan {
  readonly source: Pick<VolumeSource, 'path' | 'imageBytes'> & { readonly side?: { readonly kind: string } };
}

/** What it must know of where it goes. */
export interface HeaderTarget {
  /** For messages. */
  readonly headerPath: string;
  readonly placement: 'embedded' | 'detached';
  readonly allocation: Allocation;
}

/**
 * A new key from KMS, and a new header. @throws {VolsealError} `ERR_KMS_*`, `ERR_ARGUMENT`, `ERR_MEMORY_LOCK`,
 * `ERR_ABORTED`
 */
export async function newVolumeKey(
  plan: KeyPlan,
  { headerPath, placement, allocation }: HeaderTarget,
  context: EncryptionContext,
  pool: PoolLease,
  signal: AbortSignal | undefined,
): Promise<KeyedHeader> {
  const { endpoint, keyId, source, sectorBytes, volumeId } = plan;
  const task: NewKeyTask = { kind: 'newKey', kms: endpoint, keyId, context, grantTokens: plan.kmsAccess?.grantTokens };
  const { key, keyArn, encryptedDataKey } = await traced('volseal.kms', { operation: 'GenerateDataKey' }, () => pool.run(task, signal));
  try {
    const token = {
      keyId: keyArn,
      encryptedDataKey: Buffer.from(encryptedDataKey),
      encryptionContext: context,
      volumeId,
      kms: recordedKms(endpoint, keyArn),
      imageBytes: source.imageBytes,
      allocation,
      created: new Date().toISOString(),
      snapshot:
        source.side?.kind === 'stored' && isSnapshot(source.path) ? { id: snapshotId(source.path), sequence: FIRST_SEQUENCE } : undefined,
    };
    return { key, volumeId, header: newHeader({ volumeKey: key, sectorBytes, placement, token }, headerPath) };
  } catch (error) {
    native.keyWipe(key);
    throw error;
  }
}

/**
 * The key of a volume that an interrupted run has begun, by its header.
 * @throws {VolsealError} `ERR_RESUME` the header is missing; as `readContents` and `unlockVolume`
 */
export async function reopenedVolumeKey(
  plan: VolumePlan,
  { volume, detached, header, layout }: NewVolumeFiles,
  pool: PoolLease,
  signal: AbortSignal | undefined,
): Promise<KeyedHeader> {
  if (detached?.hasEarlierData === false) throw cannotResume(volume.openPath, `its header ${detached.openPath} is missing`);
  // A run that was killed may have left a sparse file shorter than it is to be.
  await volume.file.truncate(layout.dataOffsetBytes + layout.dataBytes);
  return await openedVolumeKey(plan, { data: volume.file, header: header.file }, pool, signal);
}

/** The same of files that are open. @throws {VolsealError} as `readContents` and `unlockVolume` */
export async function openedVolumeKey(
  plan: VolumePlan,
  files: OpenFiles,
  pool: PoolLease,
  signal: AbortSignal | undefined,
): Promise<KeyedHeader> {
  const contents = await readContents(files);
  const key = await unlockByKms({ ...files, ...contents }, sameKms(plan, signal), pool);
  return { key, header: contents.found.header, volumeId: contents.token.volumeId };
}

/** How the KMS of a plan is asked again. */
const sameKms = ({ endpoint, kmsAccess }: VolumePlan, signal: AbortSignal | undefined): OpenOptions => ({
  kms: endpoint.kind === 'embedded' ? `embedded:${endpoint.home}` : kmsUri(endpoint),
  kmsAccess,
  signal,
});

/**
 * The key of a volume in a store that an interrupted run has begun, by the header that it left. Whoever may write to
 * the store can have put another header there: it must be under the KMS key that the plan names. KMS alone can tell to
 * which key an alias leads, and says so with a data key, which the plan's user may ask for anyway.
 * @param refuse makes the error where it is not @throws {VolsealError} what `refuse` makes; as `newVolumeKey` and
 * `unlockByKms`
 */
export async function storedVolumeKey(
  plan: VolumePlan,
  volume: NamedContents,
  refuse: (why: string) => VolsealError,
  pool: PoolLease,
  signal: AbortSignal | undefined,
): Promise<KeyHandle> {
  const { endpoint, keyId, kmsAccess } = plan;
  const { encryptionContext: context } = volume.token;
  const task: NewKeyTask = { kind: 'newKey', kms: endpoint, keyId, context, grantTokens: kmsAccess?.grantTokens };
  const { key, keyArn } = await traced('volseal.kms', { operation: 'GenerateDataKey' }, () => pool.run(task, signal));
  native.keyWipe(key);
  if (keyArn !== volume.token.keyId) throw refuse(`it was begun under the KMS key ${volume.token.keyId}, not under ${keyArn}`);
  return await unlockByKms(volume, sameKms(plan, signal), pool);
}

/**
 * For AWS the region is recorded: the volume is then found again whatever region the next user's configuration names.
 */
export function recordedKms(endpoint: KmsEndpoint, keyArn: string): string {
  return endpoint.kind === 'aws' ? `aws:${parseKmsArn(keyArn)?.region}` : kmsUri(endpoint);
}
