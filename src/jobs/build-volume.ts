/**
 * Makes a volume: an image, a stream or zeros, encrypted under a new data key. KMS makes the data key and wraps it
 * under the volume's encryption context; the data key is unwrapped into the vault only.
 */
import canonicalize from 'canonicalize';
import { VolsealError } from '../errors.js';
import { kmsUri } from '../kms/shared/endpoint.js';
import { EMBEDDED_DATA_OFFSET_BYTES } from '../limits.js';
import { intactHeader, type Luks2Header } from '../luks2/header.js';
import { writeHeader } from '../luks2/store.js';
import { type KeyHandle, native, type TransformOptions, type TransformSource } from '../native.js';
import { NamedFile } from '../output/named-file.js';
import { openTarget } from '../output/open-target.js';
import { publishPair, recoverPair } from '../output/pair-journal.js';
import { type ResolvedTarget, refuseOwnDevice, resolveTarget } from '../output/resolve-target.js';
import type { TargetFile } from '../output/target.js';
import {
  findCheckpoint,
  forgetProgress,
  proveProgress,
  type ResumableJob,
  recordProgress,
  resumableFile,
  resumableStored,
  resumeJob,
} from '../resume/resume.js';
import type { ImageSource } from '../stores/store.js';
import { type Download, differsBefore, download } from '../transfer/download.js';
import { whileUnchanged } from '../transfer/source-watch.js';
import { type JobOptions, transformImage } from '../transfer/transform.js';
import { samplesOf } from '../volume/data-binding.js';
import { describeContents, type VolumeInfo } from '../volume/info.js';
import { claimsOf, contentsOf } from '../volume/volume-file.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { putHeader, withToken } from './new-header.js';
import { contextOf, type HeaderTarget, type KeyedHeader, newVolumeKey, reopenedVolumeKey } from './new-volume-key.js';
import type { Layout, NewVolumeFiles, VolumePlan } from './volume-plan.js';

/** What `encryptImage` made. */
export interface EncryptedImage extends VolumeInfo {
  /**
   * What the data took, from the first byte read to the last one published: without the program's start and without
   * KMS.
   */
  dataSeconds: number;
  /** SHA-256 of the image in hexadecimal, where it was asked for. */
  sha256?: string;
  /** Where the volume is a new snapshot: its id, as other tools of AWS want it. */
  snapshotId?: string;
}

/** Makes the volume of `plan`. @throws {VolsealError} as `encryptImage` (encrypt.ts) */
export async function buildVolume(plan: VolumePlan, job: JobOptions): Promise<EncryptedImage> {
  const { source, output } = plan;
  // Before KMS is asked: a mistake should cost nothing.
  const context = contextOf(plan);
  if (plan.header !== undefined) await recoverPair(plan.header);
  const { layout, volumeTarget, headerTarget } = await resolveTargets(plan);
  throwIfAborted(job.signal);
  await using volume = await openTarget(volumeTarget, { ...output, deviceBytes: layout.dataOffsetBytes + layout.dataBytes });
  const resumable = output.resume ? resumableJob(plan, volume, layout) : undefined;
  const stored = resumable && (await findCheckpoint(resumable));
  await using detached = headerTarget && (await openTarget(headerTarget, output));
  const files: NewVolumeFiles = { volume, detached, header: detached ?? volume, layout };
  await using pool = leasePool(plan.logger);
  try {
    const keyed = await (stored === undefined
      ? newVolumeKey(plan, headerTargetOf(files), context, pool, job.signal)
      : reopenedVolumeKey(plan, files, pool, job.signal));
    try {
      const startedMs = performance.now();
      const { side } = source;
      const move = async (): Promise<string | undefined> => {
        const going = resumable && { ...resumable, stored };
        if (side.kind === 'stored') return moveStored(plan, files, keyed, side.source, going, pool, job).then(() => undefined);
        const transform = transformOf(plan, side, files, keyed.key);
        return moveData(plan, files, keyed, transform, going, pool, job);
      };
      const sha256 = await whileUnchanged(source.file, source.fileBytes ?? source.imageBytes, move);
      const info = await finish(plan, files, keyed, job);
      const made = { ...info, dataSeconds: (performance.now() - startedMs) / 1000 };
      return sha256 === undefined ? made : { ...made, sha256 };
    } finally {
      native.keyWipe(keyed.key);
    }
  } catch (error) {
    throw volume.withContext(error);
  }
}

/** What the header of a new volume must know of its files. */
export const headerTargetOf = ({ detached, header, layout }: NewVolumeFiles): HeaderTarget => ({
  headerPath: header.path,
  placement: detached === undefined ? 'embedded' : 'detached',
  allocation: layout.allocation,
});

/** Where a volume goes. */
export interface ResolvedTargets {
  readonly layout: Layout;
  readonly volumeTarget: ResolvedTarget;
  readonly headerTarget: ResolvedTarget | undefined;
}

/** Where the volume goes, and where its data lies there. @throws {VolsealError} as `resolveTarget` */
export async function resolveTargets(plan: VolumePlan): Promise<ResolvedTargets> {
  const { source, volumePath, header, sectorBytes, allocation, output } = plan;
  const dataOffsetBytes = header === undefined ? EMBEDDED_DATA_OFFSET_BYTES : 0;
  const dataBytes = Math.ceil(source.imageBytes / sectorBytes) * sectorBytes;
  if (source.file !== undefined) await refuseOwnDevice(source.file, volumePath);
  const deviceBytes = dataOffsetBytes + dataBytes;
  const volumeTarget = await resolveTarget(volumePath, { ...output, deviceBytes, sparse: allocation === 'sparse' });
  const headerTarget = header === undefined ? undefined : await resolveTarget(header, { ...output, headerOf: volumePath });
  if (headerTarget?.realPath === volumeTarget.realPath)
    throw new VolsealError('ERR_ARGUMENT', `${volumePath}: a detached header needs a file of its own`);
  const usual = source.side.kind === 'zeros' && !volumeTarget.isDevice ? 'sparse' : 'full';
  return { layout: { dataOffsetBytes, dataBytes, allocation: allocation ?? usual }, volumeTarget, headerTarget };
}

function resumableJob(
  { source, sectorBytes, endpoint, keyId, contextPairs, header, volumeId, hasChosenId }: VolumePlan,
  target: TargetFile,
  { allocation }: Layout,
): ResumableJob {
  return {
    kind: 'encrypt',
    source: source.side.kind === 'stored' ? resumableStored(source.side.source) : resumableFile(source.file!, source.imageBytes),
    target,
    sectorBytes,
    choices: {
      allocation,
      kms: kmsUri(endpoint),
      key: keyId,
      context: canonicalize(contextPairs)!,
      header: header === undefined ? 'embedded' : 'detached',
      ...(hasChosenId ? { volumeId } : {}),
    },
  };
}

function transformOf(
  { sectorBytes, sha256 }: VolumePlan,
  source: TransformSource,
  { volume, layout }: NewVolumeFiles,
  key: KeyHandle,
): TransformOptions {
  const { dataOffsetBytes: offsetBytes, dataBytes: sizeBytes, allocation } = layout;
  return {
    key,
    mode: 'encrypt',
    sectorBytes,
    source,
    target: { kind: 'file', fd: volume.file.fd, offsetBytes, sizeBytes, sparse: allocation === 'sparse' },
    startByte: 0,
    digest: sha256,
  };
}

type Going = ResumableJob & { readonly stored: Awaited<ReturnType<typeof findCheckpoint>> };

/** Encrypts what is in a store into the volume, in the same way as `moveData`. */
async function moveStored(
  plan: VolumePlan,
  files: NewVolumeFiles,
  { key, header, volumeId }: KeyedHeader,
  source: ImageSource,
  resumable: Going | undefined,
  pool: PoolLease,
  job: JobOptions,
): Promise<void> {
  const { sectorBytes } = plan;
  const { dataBytes: targetBytes, dataOffsetBytes } = files.layout;
  const move = { pool, key, encrypt: true, sectorBytes, sparse: false, source, sourceOffsetBytes: 0 };
  const way: Download = { move: { ...move, dataBytes: source.sizeBytes, targetBytes }, target: files.volume, dataOffsetBytes };
  const identity = { volumeId, uuid: header.uuid };
  const proof = { key, sizeBytes: targetBytes, compare: (safeBytes: number) => differsBefore(way, safeBytes, job.signal) };
  const startByte =
    resumable?.stored === undefined
      ? await beginFiles(files, header, resumable !== undefined)
      : await proveProgress(resumable, resumable.stored, identity, proof, plan.output.onWarning);
  await download(way, startByte, resumable && (await recordProgress(resumable, identity, proof, headersOf(files))), job);
}

/** Encrypts the image into the volume, from the beginning or from the checkpoint of an interrupted run. */
async function moveData(
  plan: VolumePlan,
  files: NewVolumeFiles,
  { header, volumeId }: KeyedHeader,
  transform: TransformOptions,
  resumable: Going | undefined,
  pool: PoolLease,
  job: JobOptions,
): Promise<string | undefined> {
  const identity = { volumeId, uuid: header.uuid };
  if (resumable?.stored === undefined) await beginFiles(files, header, resumable !== undefined);
  else await resumeJob(resumable, resumable.stored, identity, transform, { pool, signal: job.signal }, plan.output.onWarning);
  const proof = { key: transform.key, sizeBytes: transform.target.sizeBytes };
  const checkpoint = resumable && (await recordProgress(resumable, identity, proof, headersOf(files)));
  const paths = { source: plan.source.path, target: plan.volumePath };
  return (await transformImage(pool, transform, paths, { ...job, checkpoint })).sha256;
}

const headersOf = ({ detached }: NewVolumeFiles): TargetFile[] => (detached === undefined ? [] : [detached]);

/** @returns where the data begins: 0 */
async function beginFiles(files: NewVolumeFiles, header: Luks2Header, isResumable: boolean): Promise<number> {
  for (const target of [files.volume, ...headersOf(files)]) await target.begin();
  if (isResumable) await writeHeaderFirst(files, header, files.detached !== undefined);
  return 0;
}

/** Writes the header if that is still to be done, and publishes the volume. */
export async function finish(plan: VolumePlan, files: NewVolumeFiles, keyed: KeyedHeader, { signal }: JobOptions): Promise<VolumeInfo> {
  const { fsync, resume } = plan.output;
  const { volume, detached } = files;
  const header = detached === undefined ? keyed.header : await headerWithSamples(files, keyed);
  if (!resume) await writeHeaderLast(files, header, fsync);
  else if (detached !== undefined) await writeHeader(detached.file.handle, header, detached.path);
  // Before the files are published: whoever is told of a failure must find the old targets.
  const info = await describeNewVolume(files, header);
  throwIfAborted(signal);
  if (detached === undefined) await volume.publish();
  else await publishPair(volume, detached, fsync);
  if (resume) await forgetProgress(volume);
  return info;
}

/** The header with samples of the data, by which the two find each other (src/output/data-samples.ts). */
async function headerWithSamples({ volume, header: target }: NewVolumeFiles, { key, header }: KeyedHeader): Promise<Luks2Header> {
  const dataSamples = await samplesOf({ data: volume.file, ...claimsOf(intactHeader(header), target.path) }, key);
  return withToken(key, header, { dataSamples }, target.path);
}

/** By the names that the files will have. */
async function describeNewVolume(files: NewVolumeFiles, header: Luks2Header): Promise<VolumeInfo> {
  const data = new NamedFile(files.volume.file.handle, files.volume.path);
  const open = { data, header: files.detached === undefined ? data : new NamedFile(files.detached.file.handle, files.detached.path) };
  return describeContents({ ...open, ...contentsOf(intactHeader(header), open) });
}

/**
 * For a job that can be resumed: the wrapped key is there before the first byte under it.
 * @param flushes makes it last at once. A checkpoint flushes what it calls done, an embedded header with it; without a
 * checkpoint nobody goes on with what is there.
 */
export async function writeHeaderFirst(files: NewVolumeFiles, header: Luks2Header, flushes: boolean): Promise<void> {
  const { volume, layout } = files;
  await forgetProgress(volume);
  await volume.file.truncate(layout.dataOffsetBytes + layout.dataBytes);
  // Nobody reads the file yet: the two copies may reach the disk in any order.
  await putHeader(files.header, header, files.detached !== undefined, false);
  if (!flushes) return;
  await files.header.file.sync();
  await files.header.directory.sync();
}

/** For any other job: a header says that the data is there. */
async function writeHeaderLast(files: NewVolumeFiles, header: Luks2Header, fsync: boolean): Promise<void> {
  // A file is published as a whole, once all of it is flushed; a device is visible sector by sector.
  if (files.volume.isDevice) await files.volume.flush();
  await putHeader(files.header, header, files.detached !== undefined, fsync && files.header.isDevice);
}
