/** A volume that is a new object in S3, begun by this run or by one that was interrupted. */
import canonicalize from 'canonicalize';
import { VolsealError } from '../../errors.js';
import { EMBEDDED_DATA_OFFSET_BYTES } from '../../limits.js';
import { decodeHeader, HEADER_BYTES_MAX, type Luks2Header } from '../../luks2/header.js';
import { headerArea } from '../../luks2/store.js';
import type { KeyHandle } from '../../native.js';
import { beginUpload, cannotResumeUpload, resumeUpload, type StoredUpload, type UploadJob } from '../../resume/resume-upload.js';
import type { ResumableUpload } from '../../stores/s3/resumable.js';
import { claimsOf, type HeaderContents } from '../../volume/volume-file.js';
import type { PoolLease } from '../../workers/pool.js';
import { contextOf, type HeaderTarget, newVolumeKey, storedVolumeKey } from '../new-volume-key.js';
import type { VolumePlan } from '../volume-plan.js';

/** The header and the key of the volume, and what stands in front of its data. */
export interface BegunVolume {
  readonly key: KeyHandle;
  readonly header: Luks2Header;
  /** The header's area, byte by byte as the first part has it. */
  readonly preamble: Buffer;
}

/**
 * A volume with a new key, or the one that an interrupted run has begun. Nothing is sent yet.
 * @param stored as `findUpload` gives it
 * @throws {VolsealError} `ERR_RESUME`, `ERR_KMS_*`, `ERR_HEADER_*`, `ERR_ABORTED`
 */
export async function newOrBegunVolume(
  plan: VolumePlan,
  { upload }: UploadJob,
  stored: StoredUpload | undefined,
  draft: HeaderTarget,
  pool: PoolLease,
  signal: AbortSignal | undefined,
): Promise<BegunVolume> {
  if (stored === undefined) {
    const { key, header } = await newVolumeKey(plan, draft, contextOf(plan), pool, signal);
    return { key, header, preamble: headerArea(header) };
  }
  const bytes = Buffer.from(stored.header, 'base64');
  if (bytes.length > Math.min(HEADER_BYTES_MAX, EMBEDDED_DATA_OFFSET_BYTES)) throw cannotResumeUpload(upload, 'its header is too long');
  const contents = contentsOf(bytes, upload);
  const why = differsFrom(contents, plan);
  if (why !== undefined) throw cannotResumeUpload(upload, why);
  const volume = { ...contents, data: { path: upload.name }, header: { path: upload.record } };
  const key = await storedVolumeKey(plan, volume, (reason) => cannotResumeUpload(upload, reason), pool, signal);
  const preamble = Buffer.alloc(EMBEDDED_DATA_OFFSET_BYTES);
  bytes.copy(preamble);
  return { key, header: contents.found.header, preamble };
}

/** @throws {VolsealError} `ERR_RESUME` it is no header of a volume */
function contentsOf(bytes: Buffer, upload: ResumableUpload): HeaderContents {
  try {
    return claimsOf(decodeHeader(bytes, upload.record), upload.record);
  } catch (error) {
    throw error instanceof VolsealError ? cannotResumeUpload(upload, error.message) : error;
  }
}

/** What the header says must be what the caller asks for now, whoever wrote it. */
function differsFrom({ token, segment }: HeaderContents, plan: VolumePlan): string | undefined {
  const { volumeId, encryptionContext, imageBytes, allocation } = token;
  if (plan.hasChosenId && volumeId !== plan.volumeId) return `it is of the volume ${volumeId}, not ${plan.volumeId}`;
  const wanted = contextOf({ volumeId, contextPairs: plan.contextPairs });
  if (canonicalize(encryptionContext) !== canonicalize(wanted))
    return `it was begun with the encryption context ${canonicalize(encryptionContext)}`;
  if (segment.sectorBytes !== plan.sectorBytes) return `it was begun with sectors of ${segment.sectorBytes} bytes`;
  const isLikeNew = segment.offsetBytes === EMBEDDED_DATA_OFFSET_BYTES && allocation === 'full' && imageBytes === plan.source.imageBytes;
  return isLikeNew ? undefined : 'its header is not the one of this volume';
}

/**
 * Puts the record of a new volume, or proves the one that is there, and opens the upload.
 * @throws {VolsealError} as `beginUpload` and `resumeUpload`
 */
export async function openVolumeUpload(
  job: UploadJob,
  stored: StoredUpload | undefined,
  { key, header, preamble }: BegunVolume,
  volumeId: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const identity = { volumeId, uuid: header.uuid };
  if (stored !== undefined) return await resumeUpload(job, stored, identity, key, signal);
  await beginUpload(job, identity, preamble.subarray(0, 2 * header.copyBytes), key, signal);
}
