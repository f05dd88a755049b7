/**
 * The job that makes a volume. One data key each, wrapped by KMS under the volume's encryption context; the data key comes into being inside
 * KMS and is unwrapped into the vault only.
 */

import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import canonicalize from 'canonicalize';
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { syncDirectory } from '../directories.js';
import { namingPath, VolsealError } from '../errors.js';
import { parseKmsArn } from '../kms/shared/arn.js';
import { checkContext, type EncryptionContext } from '../kms/shared/encryption-context.js';
import { type KmsEndpoint, kmsUri } from '../kms/shared/endpoint.js';
import { EMBEDDED_DATA_OFFSET_BYTES, type SectorBytes } from '../limits.js';
import type { Luks2Header } from '../luks2/header.js';
import { newHeader } from '../luks2/new-header.js';
import { writeHeader } from '../luks2/store.js';
import type { Allocation } from '../luks2/token.js';
import { type KeyHandle, native, type TransformOptions, type TransformSource } from '../native.js';
import { openTarget } from '../output/atomic-file.js';
import { markPair, settlePair } from '../output/pair-journal.js';
import { cannotResume } from '../output/partial-file.js';
import { checkTarget, refuseOwnDevice } from '../output/resolve-target.js';
import type { TargetFile } from '../output/target.js';
import { describeOpenVolume, type VolumeInfo } from '../volume/info.js';
import { type KmsAccess, readContents, unlockVolume } from '../volume/volume-file.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import type { NewKeyTask } from '../workers/tasks.js';
import { findCheckpoint, forgetProgress, goOn, type ResumableJob, recordProgress } from './resume.js';
import { whileUnchanged } from './source-watch.js';
import { type JobOptions, transformImage } from './transform.js';

/** What is to be encrypted: an open image, a stream, or nothing (zeros). */
export interface VolumeSource {
  /** What messages call it. */
  path: string;
  imageBytes: number;
  side: TransformSource;
  /** Where it is an image with a name. */
  file?: FileHandle;
}

/** What `encryptImage` made. */
export interface EncryptedImage extends VolumeInfo {
  /** What the data took, from the first byte to the last one flushed and in its place: not the program's start, not KMS. */
  dataSeconds: number;
  /** SHA-256 of the image in hexadecimal, where it was asked for. */
  sha256?: string;
}

/** A volume to make, with every choice made. */
export interface VolumePlan {
  source: VolumeSource;
  volumePath: string;
  /** The file for a detached header. */
  header: string | undefined;
  sectorBytes: SectorBytes;
  allocation: Allocation;
  endpoint: KmsEndpoint;
  kmsAccess: KmsAccess | undefined;
  volumeId: string;
  keyId: string;
  /** Pairs of the encryption context beside the volume's id. */
  contextPairs: EncryptionContext;
  sha256: boolean;
  wish: { force: boolean; fsync: boolean; resume: boolean; onWarning: ((warning: string) => void) | undefined };
}

/** What is written to. */
interface Targets {
  volume: TargetFile;
  detached: TargetFile | undefined;
  headerPath: string;
  dataOffsetBytes: number;
  /** Bytes of data, whole sectors. */
  dataBytes: number;
}

/** A volume's key, the caller's to wipe, and the header that says how to have it again. */
interface KeyedHeader {
  key: KeyHandle;
  header: Luks2Header;
  volumeId: string;
}

/** Makes the volume of `plan`. @throws {VolsealError} as `encryptImage` (create.ts) */
export async function buildVolume(plan: VolumePlan, job: JobOptions): Promise<EncryptedImage> {
  const { source, volumePath, sectorBytes, volumeId, wish } = plan;
  const dataOffsetBytes = plan.header === undefined ? EMBEDDED_DATA_OFFSET_BYTES : 0;
  const dataBytes = Math.ceil(source.imageBytes / sectorBytes) * sectorBytes;
  const volumeWish = { ...wish, deviceBytes: dataOffsetBytes + dataBytes };
  // Before KMS is asked: a mistake should cost nothing.
  const context = contextOf(volumeId, plan.contextPairs);
  if (plan.header !== undefined) await settlePair(plan.header);
  await checkPlaces(plan, volumeWish);
  throwIfAborted(job.signal);
  await using volume = await openTarget(volumePath, volumeWish);
  const resumable = wish.resume ? resumableJob(plan, volume) : undefined;
  const stored = resumable && (await findCheckpoint(resumable));
  await using detached = plan.header === undefined ? undefined : await openTarget(plan.header, wish);
  const targets: Targets = { volume, detached, headerPath: plan.header ?? volumePath, dataOffsetBytes, dataBytes };
  const pool = leasePool();
  let key: KeyHandle | undefined;
  try {
    const keyed =
      stored === undefined ? await newVolume(plan, targets, volumeId, context, pool, job) : await begunVolume(plan, targets, pool, job);
    key = keyed.key;
    const transform = transformOf(plan, targets, key);
    const identity = { volumeId: keyed.volumeId, uuid: keyed.header.uuid };
    const startedMs = performance.now();
    const run = async () => {
      if (resumable !== undefined && stored !== undefined) {
        await goOn(resumable, stored, identity, transform, { pool, signal: job.signal }, wish.onWarning);
      } else {
        for (const target of [volume, ...(detached === undefined ? [] : [detached])]) await target.begin();
        if (resumable !== undefined) await writeHeaderFirst(targets, keyed.header);
      }
      const checkpoint = resumable && (await recordProgress(resumable, identity, transform, detached === undefined ? [] : [detached]));
      return transformImage(pool, transform, { source: source.path, target: volumePath }, { ...job, checkpoint });
    };
    const { sha256 } = await (source.file === undefined ? run() : whileUnchanged(source.file, source.path, source.imageBytes, run));
    const headerFile = (detached ?? volume).file;
    if (!wish.resume) await writeHeaderLast(targets, keyed.header, wish.fsync);
    // Of the files themselves, and before they take their places: who is told of a failure must find the old targets.
    const info = await describeOpenVolume({ path: volumePath, data: volume.file, header: headerFile, headerPath: targets.headerPath });
    throwIfAborted(job.signal);
    await publishBoth(volume, detached, wish.fsync);
    if (wish.resume) await forgetProgress(volume);
    const made = { ...info, dataSeconds: (performance.now() - startedMs) / 1000 };
    return sha256 === undefined ? made : { ...made, sha256 };
  } catch (error) {
    throw volume.explained(error);
  } finally {
    if (key !== undefined) native.keyWipe(key);
    await pool.release();
  }
}

async function checkPlaces(
  { source, volumePath, header, wish }: VolumePlan,
  volumeWish: { force: boolean; deviceBytes: number },
): Promise<void> {
  if (source.file !== undefined) await refuseOwnDevice(source.file, source.path, volumePath);
  const volume = await checkTarget(volumePath, volumeWish);
  const detached = header === undefined ? undefined : await checkTarget(header, wish);
  if (detached?.path === volume.path) throw new VolsealError('ERR_ARGUMENT', `${volumePath}: a detached header needs a file of its own`);
}

function resumableJob(
  { source, sectorBytes, allocation, endpoint, keyId, contextPairs, header }: VolumePlan,
  target: TargetFile,
): ResumableJob {
  return {
    kind: 'encrypt',
    source: source.file!,
    sourcePath: source.path,
    sourceBytes: source.imageBytes,
    target,
    sectorBytes,
    choices: {
      allocation,
      kms: kmsUri(endpoint),
      key: keyId,
      context: canonicalize(contextPairs)!,
      header: header === undefined ? 'embedded' : 'detached',
    },
  };
}

/** A new key from KMS, and the header that says how to have it again. */
async function newVolume(
  plan: VolumePlan,
  { headerPath, detached }: Targets,
  volumeId: string,
  encryptionContext: EncryptionContext,
  pool: PoolLease,
  { signal }: JobOptions,
): Promise<KeyedHeader> {
  const { endpoint, keyId, source, sectorBytes, allocation } = plan;
  const task: NewKeyTask = { kind: 'newKey', kms: endpoint, keyId, context: encryptionContext, grantTokens: plan.kmsAccess?.grantTokens };
  const { key, keyArn, encryptedDataKey } = await pool.run(task, signal);
  try {
    const token = {
      keyId: keyArn,
      encryptedDataKey: Buffer.from(encryptedDataKey),
      encryptionContext,
      volumeId,
      kms: recordedKms(endpoint, keyArn),
      imageBytes: source.imageBytes,
      allocation,
      created: new Date().toISOString(),
    };
    const placement = detached === undefined ? 'embedded' : 'detached';
    return { key, volumeId, header: newHeader({ volumeKey: key, sectorBytes, placement, token }, headerPath) };
  } catch (error) {
    native.keyWipe(key);
    throw error;
  }
}

/** The key of the volume that an interrupted run has begun, by its header. */
async function begunVolume(
  plan: VolumePlan,
  { volume, detached, dataOffsetBytes, dataBytes }: Targets,
  pool: PoolLease,
  { signal }: JobOptions,
): Promise<KeyedHeader> {
  if (detached?.hasBegun === false) throw cannotResume(volume.openPath, `its header ${detached.openPath} is missing`);
  // A run that was killed may have left a sparse file shorter than it is to be.
  await namingPath(volume.path, () => volume.file.truncate(dataOffsetBytes + dataBytes));
  const header = detached ?? volume;
  const files = { path: volume.openPath, data: volume.file, header: header.file, headerPath: header.openPath };
  const contents = await readContents(files);
  const kms = {
    kms: plan.endpoint.kind === 'embedded' ? `embedded:${plan.endpoint.home}` : kmsUri(plan.endpoint),
    kmsAccess: plan.kmsAccess,
    signal,
  };
  const key = await unlockVolume({ ...files, ...contents, close: async () => {} }, kms, pool);
  return { key, header: contents.found.header, volumeId: contents.token.volumeId };
}

function transformOf({ source, sectorBytes, allocation, sha256 }: VolumePlan, targets: Targets, key: KeyHandle): TransformOptions {
  return {
    key,
    mode: 'encrypt',
    sectorBytes,
    source: source.side,
    target: {
      kind: 'file',
      fd: targets.volume.file.fd,
      offsetBytes: targets.dataOffsetBytes,
      sizeBytes: targets.dataBytes,
      sparse: allocation === 'sparse',
    },
    startByte: 0,
    digest: sha256,
  };
}

/** For a job that can be resumed: the wrapped key must be on the disk before the first byte under it. */
async function writeHeaderFirst({ volume, detached, headerPath, dataOffsetBytes, dataBytes }: Targets, header: Luks2Header): Promise<void> {
  await forgetProgress(volume);
  await namingPath(volume.path, () => volume.file.truncate(dataOffsetBytes + dataBytes));
  await putHeader(detached, volume, header, headerPath, true);
  await syncDirectory(dirname((detached ?? volume).place.path));
}

/** For any other: a header says that the data is there. */
async function writeHeaderLast({ volume, detached, headerPath }: Targets, header: Luks2Header, fsync: boolean): Promise<void> {
  // A file becomes visible as a whole, once all of it is flushed; a device sector by sector.
  if (volume.place.isDevice) await volume.flush();
  await putHeader(detached, volume, header, headerPath, fsync && (detached ?? volume).place.isDevice);
}

async function putHeader(
  detached: TargetFile | undefined,
  volume: TargetFile,
  header: Luks2Header,
  headerPath: string,
  fsync: boolean,
): Promise<void> {
  // The room for keyslots belongs to the header: without it cryptsetup finds a detached header too short.
  if (detached !== undefined) await namingPath(headerPath, () => detached.file.truncate(EMBEDDED_DATA_OFFSET_BYTES));
  await writeHeader((detached ?? volume).file, header, headerPath, 'primary', fsync);
}

async function publishBoth(volume: TargetFile, detached: TargetFile | undefined, fsync: boolean): Promise<void> {
  if (detached === undefined) return volume.publish();
  // It may take long, and fail: better before the one is in its place and the other is not.
  await volume.flush();
  // A device is in its place from the beginning.
  const mark = volume.place.isDevice ? undefined : await markPair(detached, volume, fsync);
  try {
    await publishPair(volume, detached);
  } finally {
    await mark?.release();
  }
}

/** The header first: without its volume it is useless, and a volume without its header would be lost. */
async function publishPair(volume: TargetFile, detached: TargetFile): Promise<void> {
  const publishedHeader = await detached.publishUndoably();
  try {
    await volume.publish();
  } catch (error) {
    await (volume.isPublished ? publishedHeader.keep() : publishedHeader.undo());
    throw error;
  }
  await publishedHeader.keep();
}

function contextOf(volumeId: string, pairs: EncryptionContext): EncryptionContext {
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
  return endpoint.kind === 'aws' ? `aws:${parseKmsArn(keyArn)?.region}` : kmsUri(endpoint);
}
