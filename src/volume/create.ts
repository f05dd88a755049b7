/**
 * Making volumes: from a raw image (`encryptImage`) or empty (`createVolume`). One data key each, wrapped by KMS under the volume's
 * encryption context; the data key comes into being inside KMS and is unwrapped into the vault only.
 */
import { constants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { namingPath, VolsealError } from '../errors.js';
import { checkContext, type EncryptionContext } from '../kms/encryption-context.js';
import { type KmsEndpoint, kmsUri, parseKmsUri } from '../kms/endpoint.js';
import { DEFAULT_SECTOR_BYTES, EMBEDDED_DATA_OFFSET_BYTES, SECTOR_SIZES, type SectorBytes, VOLUME_BYTES_MAX } from '../limits.js';
import { newHeader } from '../luks2/new-header.js';
import { writeHeader } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import { leasePool } from '../workers/pool.js';
import type { NewKeyTask } from '../workers/tasks.js';
import { dataFileBytes, openDataFile } from './data-file.js';
import { describeOpenVolume, type VolumeInfo } from './info.js';
import { checkTarget, openTarget } from './target-file.js';
import { type JobOptions, throwIfAborted, transformImage } from './transform-image.js';
import { newVolumeId, VOLUME_ID_CONTEXT_KEY } from './volume-id.js';

/** The AWS managed key that EBS uses where its user names none. */
const DEFAULT_KEY = 'alias/aws/ebs';

export interface NewVolumeOptions extends JobOptions {
  /** `embedded` (default), `embedded:/HOME`, `aws`, `aws:REGION`, `http://HOST:PORT`. */
  kms?: string | undefined;
  /** Where the embedded KMS lies if `kms` does not say. Default: the user's data folder. */
  embeddedHome?: string | undefined;
  /** KMS key id, ARN, alias name or alias ARN. Default: `alias/aws/ebs`. */
  key?: string | undefined;
  /** Pairs beside `aws:ebs:id`, for instance the volume's user. */
  encryptionContext?: EncryptionContext | undefined;
  /** 512 (default), 1024, 2048 or 4096. */
  sectorBytes?: number | undefined;
  /** Puts the header into a file of its own instead of the volume's first MiB. */
  header?: string | undefined;
  /** Replaces existing targets, once their successors are whole. */
  force?: boolean | undefined;
}

export interface EncryptOptions extends NewVolumeOptions {
  /** Fills an image up to whole sectors; `decryptImage` gives back its exact length. */
  pad?: boolean | undefined;
}

export interface CreateOptions extends NewVolumeOptions {
  /** Size of the volume, a multiple of `sectorBytes`. */
  sizeBytes: number;
}

/** What is to be encrypted: an open image, or nothing (zeros). */
interface Source {
  path: string;
  fd: number;
  imageBytes: number;
}

/**
 * Encrypts a raw image (a regular file or a block device) into a new volume. The image is only read.
 *
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IMAGE_SIZE`, `ERR_TARGET_EXISTS`, `ERR_STATE_BUSY`, `ERR_KMS_*`, `ERR_IO`, `ERR_ABORTED`,
 * `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`. Whatever fails, targets are as they were.
 */
export async function encryptImage(imagePath: string, volumePath: string, options: EncryptOptions = {}): Promise<VolumeInfo> {
  const sectorBytes = checkSectorBytes(options.sectorBytes);
  await using image = await openDataFile(imagePath, constants.O_RDONLY);
  const imageBytes = checkImageSize(image, imagePath, sectorBytes, options.pad === true);
  return await buildVolume({ path: imagePath, fd: image.fd, imageBytes }, volumePath, sectorBytes, options);
}

/**
 * Makes a new volume that reads as zeros. Every sector is written, so that nobody sees which ones are in use.
 *
 * @throws {VolsealError} as `encryptImage`
 */
export async function createVolume(volumePath: string, options: CreateOptions): Promise<VolumeInfo> {
  const sectorBytes = checkSectorBytes(options.sectorBytes);
  const { sizeBytes } = options;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes > VOLUME_BYTES_MAX || sizeBytes % sectorBytes !== 0) {
    throw new VolsealError(
      'ERR_IMAGE_SIZE',
      `${volumePath}: a size of ${sizeBytes} bytes is not a whole number of ${sectorBytes}-byte sectors`,
      {
        details: { path: volumePath, sizeBytes, sectorBytes },
      },
    );
  }
  return buildVolume({ path: volumePath, fd: -1, imageBytes: sizeBytes }, volumePath, sectorBytes, options);
}

async function buildVolume(source: Source, volumePath: string, sectorBytes: SectorBytes, options: NewVolumeOptions): Promise<VolumeInfo> {
  const force = options.force === true;
  const endpoint = parseKmsUri(options.kms ?? 'embedded', options.embeddedHome);
  const volumeId = newVolumeId();
  const encryptionContext = contextOf(volumeId, options.encryptionContext);
  // Before KMS is asked: a mistake in a path should cost nothing.
  const volumePlace = await checkTarget(volumePath, force);
  if (options.header !== undefined && (await checkTarget(options.header, force)) === volumePlace)
    throw new VolsealError('ERR_ARGUMENT', `${volumePath}: a detached header needs a file of its own`);
  throwIfAborted(options.signal);

  const headerPath = options.header ?? volumePath;
  const pool = leasePool();
  let key: KeyHandle | undefined;
  try {
    const task: NewKeyTask = { kind: 'newKey', kms: endpoint, keyId: options.key ?? DEFAULT_KEY, context: encryptionContext };
    const made = await pool.run(task, options.signal);
    key = made.key;
    const header = newHeader(
      {
        volumeKey: key,
        sectorBytes,
        placement: options.header === undefined ? 'embedded' : 'detached',
        token: {
          keyId: made.keyArn,
          encryptedDataKey: Buffer.from(made.encryptedDataKey),
          encryptionContext,
          volumeId,
          kms: recordedKms(endpoint, made.keyArn),
          imageBytes: source.imageBytes,
          created: new Date().toISOString(),
        },
      },
      headerPath,
    );

    await using volume = await openTarget(volumePath, force);
    await using detached = options.header === undefined ? undefined : await openTarget(options.header, force);
    const dataOffsetBytes = detached === undefined ? EMBEDDED_DATA_OFFSET_BYTES : 0;
    await transformImage(
      pool,
      {
        key,
        mode: 'encrypt',
        sourceFd: source.fd,
        sourceOffsetBytes: 0,
        sourceBytes: source.imageBytes,
        targetFd: volume.file.fd,
        targetOffsetBytes: dataOffsetBytes,
        targetBytes: Math.ceil(source.imageBytes / sectorBytes) * sectorBytes,
        sectorBytes,
        startByte: 0,
        sparseSource: false,
        sparseTarget: false,
        digest: false,
      },
      { source: source.path, target: volumePath },
      options,
    );
    const headerFile = detached?.file ?? volume.file;
    // The room for keyslots belongs to the header: without it cryptsetup finds a detached header too short.
    if (detached !== undefined) await namingPath(options.header!, () => headerFile.truncate(EMBEDDED_DATA_OFFSET_BYTES));
    await writeHeader(headerFile, header, headerPath);
    // Of the files themselves, and before they take their places: who is told of a failure must find the old targets.
    const info = await describeOpenVolume({ path: volumePath, data: volume.file, header: headerFile, headerPath });
    throwIfAborted(options.signal);
    // The header first: without its volume it is useless and harmless, and a volume without its header would be lost.
    const publishedHeader = await detached?.publishUndoably();
    try {
      await volume.publish();
    } catch (error) {
      await publishedHeader?.undo();
      throw error;
    }
    await publishedHeader?.keep();
    return info;
  } finally {
    if (key !== undefined) native.keyWipe(key);
    await pool.release();
  }
}

function contextOf(volumeId: string, pairs: EncryptionContext = {}): EncryptionContext {
  if (VOLUME_ID_CONTEXT_KEY in pairs) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `the encryption context pair ${VOLUME_ID_CONTEXT_KEY} is set by volseal: it names the volume; leave it out`,
    );
  }
  // JSON parsers drop it, or worse: the header could not carry it.
  if (Object.hasOwn(pairs, '__proto__')) throw new VolsealError('ERR_ARGUMENT', 'an encryption context pair cannot be named __proto__');
  return checkContext({ [VOLUME_ID_CONTEXT_KEY]: volumeId, ...pairs });
}

/** AWS is recorded with the key's region, so that a volume is found again whatever region the next user's configuration names. */
function recordedKms(endpoint: KmsEndpoint, keyArn: string): string {
  return endpoint.kind === 'aws' ? `aws:${keyArn.split(':')[3]}` : kmsUri(endpoint);
}

function checkSectorBytes(sectorBytes: number = DEFAULT_SECTOR_BYTES): SectorBytes {
  const known = SECTOR_SIZES.find((size) => size === sectorBytes);
  if (known === undefined) throw new VolsealError('ERR_ARGUMENT', `a sector size of ${sectorBytes} is none of ${SECTOR_SIZES.join(', ')}`);
  return known;
}

function checkImageSize(image: FileHandle, path: string, sectorBytes: number, pad: boolean): number {
  const sizeBytes = dataFileBytes(image, path);
  if (sizeBytes === 0 || sizeBytes > VOLUME_BYTES_MAX || (sizeBytes % sectorBytes !== 0 && !pad)) {
    const problem = sizeBytes === 0 ? 'the image is empty' : `${sizeBytes} bytes are not a whole number of ${sectorBytes}-byte sectors`;
    throw new VolsealError('ERR_IMAGE_SIZE', `${path}: ${problem}`, { details: { path, sizeBytes, sectorBytes } });
  }
  return sizeBytes;
}
