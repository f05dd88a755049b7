/**
 * A new volume in S3 whose image is encrypted in ranges, by several processes or machines at once: one upload, of which
 * each sends some parts. S3 says which parts it has; the record beside the object says whose upload it is, and has the
 * wrapped key (resume-upload.ts). A late worker does no harm: it sends the same bytes, and S3 refuses a part of an
 * upload that is complete.
 */
import { VolsealError } from '../../errors.js';
import { native } from '../../native.js';
import { findUpload, forgetUpload, keepingUpload, readUpload, type UploadJob } from '../../resume/resume-upload.js';
import { ResumableUpload } from '../../stores/s3/resumable.js';
import type { StoreOptions } from '../../stores/store.js';
import { cutIntoRanges, type ImageRange } from '../../transfer/image-ranges.js';
import { movePieces } from '../../transfer/move-pieces.js';
import { recordedSource } from '../../transfer/source-watch.js';
import type { JobOptions } from '../../transfer/transform.js';
import type { VolumePlan } from '../volume-plan.js';
import { checkRangedSource, type RangesStep } from '../volume-ranges.js';
import { newOrBegunVolume, openVolumeUpload } from './resumed-volume.js';
import { completed, moveOf, type Run, unchanged, withRun } from './store-volume.js';

/** As `stepVolume`, for an object. Ranges are those of the object, whole parts of it. */
export async function stepUpload(
  plan: VolumePlan,
  rangeBytes: number,
  store: StoreOptions | undefined,
  job: JobOptions,
): Promise<RangesStep> {
  await checkRangedSource(plan);
  return await withRun(plan, store, job, (run) => withUpload(run, (upload) => step(run, upload, rangeBytes)));
}

async function withUpload<T>({ plan, sizeBytes, store, job }: Run, use: (upload: ResumableUpload) => Promise<T>): Promise<T> {
  if (plan.header !== undefined)
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${plan.volumePath}: ranges of an object have the header in front; leave out the header option`,
      {
        details: { path: plan.volumePath },
      },
    );
  await using upload = await ResumableUpload.open(plan.volumePath, { sizeBytes, force: plan.output.force }, store, job.signal);
  return await keepingUpload(upload, () => use(upload));
}

async function step(run: Run, upload: ResumableUpload, rangeBytes: number): Promise<RangesStep> {
  const { plan, sizeBytes, pool, job, headerOutput } = run;
  const { pieceBytes } = upload;
  const ranges = cutIntoRanges(sizeBytes, pieceBytes * Math.max(1, Math.floor(rangeBytes / pieceBytes)), plan.source.path);
  const startedMs = performance.now();
  const { header, left } = await unchanged(run, async () => {
    const uploadJob = await uploadJobOf(run, upload);
    const stored = findUpload(uploadJob);
    const { key, header, preamble } = await newOrBegunVolume(plan, uploadJob, stored, headerOutput.target, pool, job.signal);
    try {
      await openVolumeUpload(uploadJob, stored, { key, header, preamble }, plan.volumeId, job.signal);
    } finally {
      native.keyWipe(key);
    }
    const { parts } = upload.isCompleted ? { parts: undefined } : upload;
    const isThere = ({ startByte, endByte }: ImageRange): boolean => {
      for (let index = startByte / pieceBytes; index * pieceBytes < endByte; index += 1) if (parts?.[index] === undefined) return false;
      return true;
    };
    return { header, left: parts === undefined ? [] : ranges.filter((range) => !isThere(range)) };
  });
  if (left.length > 0) return { ranges: { uuid: header.uuid, count: ranges.length, left } };
  const volume = await completed(run, upload, header, startedMs);
  await forgetUpload(upload, plan.output.onWarning);
  return { volume };
}

async function uploadJobOf({ plan: { source, sectorBytes }, from }: Run, upload: ResumableUpload): Promise<UploadJob> {
  return { kind: 'encrypt', upload, source: await recordedSource(source.file, from), sectorBytes };
}

/** As `encryptVolumeRange`: sends those parts of the range that S3 does not have. */
export async function uploadRange(
  plan: VolumePlan,
  range: ImageRange,
  uuid: string,
  store: StoreOptions | undefined,
  job: JobOptions,
): Promise<void> {
  await checkRangedSource(plan);
  await withRun(plan, store, job, (run) => withUpload(run, (upload) => sendRange(run, upload, range, uuid)));
}

async function sendRange(run: Run, upload: ResumableUpload, { startByte, endByte }: ImageRange, uuid: string): Promise<void> {
  const { plan, pool, job, headerOutput } = run;
  await unchanged(run, async () => {
    const uploadJob = await uploadJobOf(run, upload);
    const stored = findUpload(uploadJob);
    if (stored === undefined) throw isGone(upload, 'it has no record');
    if (stored.uuid !== uuid) throw isGone(upload, 'it was begun anew, under another key');
    const volume = await newOrBegunVolume(plan, uploadJob, stored, headerOutput.target, pool, job.signal);
    try {
      await openVolumeUpload(uploadJob, stored, volume, plan.volumeId, job.signal);
      if (upload.isCompleted) return;
      const { pieceBytes, checksum, parts } = upload;
      await movePieces(
        {
          ...{ ...moveOf(run, volume.key, volume.preamble), pieceBytes, checksum, startByte, targetBytes: endByte },
          isWritten: (index) => parts[index] !== undefined,
          write: (piece, signal) => upload.write(piece, signal),
        },
        job,
      );
    } finally {
      native.keyWipe(volume.key);
    }
  });
}

/**
 * Gives up a volume that cannot be finished: its source has changed. Does nothing where another volume is being made.
 * @throws {VolsealError} `ERR_RESUME` the record is not readable; `ERR_STORE_*`, `ERR_ABORTED`
 */
export async function removeRangedUpload(
  target: string,
  volumeId: string,
  store: StoreOptions | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const which = (upload: ResumableUpload) => {
    const stored = readUpload(upload);
    return stored?.kind === 'encrypt' && stored.volumeId === volumeId ? stored : undefined;
  };
  await ResumableUpload.abandon(target, which, store, signal);
}

const isGone = ({ name, record }: ResumableUpload, why: string): VolsealError =>
  new VolsealError('ERR_RESUME', `${name}: the upload to which the range belongs is not there any more: ${why}`, {
    details: { path: name, record },
  });
