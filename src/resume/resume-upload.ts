/**
 * Resumes uploads to S3. S3 knows which parts it has (src/stores/s3/resumable.ts); the record beside the object says
 * what they are of: source, volume and sizes, with a MAC under a key of the data key. A later run goes on only if all
 * of that is as it was, and the last part that S3 has is what the source gives. A copy of a volume as it is has no key,
 * and so no MAC: there each part that S3 has is compared with the source.
 */
import * as z from 'zod';
import { VolsealError } from '../errors.js';
import { S3_PART_BYTES_MAX } from '../limits.js';
import { firstIssue } from '../luks2/metadata.js';
import type { KeyHandle } from '../native.js';
import type { OpenTargetOptions } from '../output/target.js';
import type { ResumableUpload } from '../stores/s3/resumable.js';
import { parseStrictJson } from '../strict-json.js';
import { movePieces, type PieceMove, pieceOf } from '../transfer/move-pieces.js';
import { sourceDifference } from '../transfer/source-watch.js';
import type { JobOptions } from '../transfer/transform.js';
import { recordedSourceSchema } from './checkpoint.js';
import { isRecordMac, recordMac } from './record-mac.js';
import type { VolumeIdentity } from './resume.js';

const bytes = z.number().int().positive();

const recordSchema = z.strictObject({
  version: z.literal(1),
  kind: z.enum(['encrypt', 'decrypt', 'copy']),
  object: z.string(),
  uploadId: z.string().min(1).max(4096),
  mark: z.uuid(),
  sizeBytes: bytes,
  partBytes: bytes.max(S3_PART_BYTES_MAX),
  sectorBytes: bytes,
  volumeId: z.string(),
  uuid: z.string(),
  source: recordedSourceSchema,
  /** Of `encrypt`: the header as it is in the first part, base64; it holds the wrapped data key. */
  header: z.base64(),
});
const storedSchema = recordSchema.extend({ mac: z.string() });

/** What a later run must find again. */
export type UploadRecord = z.infer<typeof recordSchema>;
export type StoredUpload = z.infer<typeof storedSchema>;

/** What is uploaded, as a later run must find it again. */
export interface UploadJob {
  readonly kind: UploadRecord['kind'];
  readonly upload: ResumableUpload;
  readonly source: UploadRecord['source'];
  readonly sectorBytes: number;
}

/** @param why what does not fit, and what was expected */
export function cannotResumeUpload({ name, record }: ResumableUpload, why: string): VolsealError {
  return new VolsealError(
    'ERR_RESUME',
    `${name}: the interrupted upload cannot be resumed: ${why}; remove its record ${record}, or run without --resume`,
    { details: { path: name, record } },
  );
}

/**
 * What an interrupted run has left, not proved yet. @returns undefined where the job begins at its beginning
 * @throws {VolsealError} `ERR_RESUME` it is another job's, or not readable
 */
export function findUpload(job: UploadJob): StoredUpload | undefined {
  const stored = readUpload(job.upload);
  const why = stored && differsFrom(stored, job);
  if (why !== undefined) throw cannotResumeUpload(job.upload, why);
  return stored;
}

/** What the record of an earlier run says, of whatever job. @throws {VolsealError} `ERR_RESUME` it is not readable */
export function readUpload(upload: ResumableUpload): StoredUpload | undefined {
  const { found } = upload;
  if (found === undefined) return undefined;
  let object: unknown;
  try {
    object = parseStrictJson(found);
  } catch {
    throw cannotResumeUpload(upload, 'its record is not JSON');
  }
  const checked = storedSchema.safeParse(object);
  if (!checked.success) throw cannotResumeUpload(upload, `its record is not valid: ${firstIssue(checked.error)}`);
  return checked.data;
}

function differsFrom(stored: StoredUpload, { kind, upload, source, sectorBytes }: UploadJob): string | undefined {
  if (stored.kind !== kind) return `it is of ${stored.kind === 'copy' ? 'a copy as it is' : `a run of volseal ${stored.kind}`}`;
  if (stored.object !== upload.name) return `its record is of ${stored.object}`;
  const difference = sourceDifference(stored.source, source);
  if (difference !== undefined) return `the source is not as it was: ${difference}`;
  if (stored.sectorBytes !== sectorBytes) return `it was begun with sectors of ${stored.sectorBytes} bytes`;
  if (stored.sizeBytes !== upload.sizeBytes) return `it was begun for ${stored.sizeBytes} bytes, not ${upload.sizeBytes}`;
  return stored.partBytes === upload.pieceBytes ? undefined : `its parts have ${stored.partBytes} bytes, not ${upload.pieceBytes}`;
}

/**
 * Begins an upload: its record first. @param header of `encrypt`, as it is in the first part
 * @param key undefined for a copy
 * @throws {VolsealError} as `ResumableUpload.begin`
 */
export async function beginUpload(
  { kind, upload, source, sectorBytes }: UploadJob,
  { volumeId, uuid }: VolumeIdentity,
  header: Buffer,
  key: KeyHandle | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { name: object, sizeBytes, pieceBytes: partBytes } = upload;
  await upload.begin((identity) => {
    const facts = { kind, object, ...identity, sizeBytes, partBytes, sectorBytes, volumeId, uuid, source };
    const record: UploadRecord = { version: 1, ...facts, header: header.toString('base64') };
    const stored: StoredUpload = { ...record, mac: key === undefined ? '' : recordMac('upload', record, key) };
    return `${JSON.stringify(stored, undefined, 2)}\n`;
  }, signal);
}

/**
 * Proves a record, and goes on with its upload. @param key the volume's; stays the caller's. Undefined for a copy
 * @throws {VolsealError} `ERR_RESUME`, and as `ResumableUpload.resume`
 */
export async function resumeUpload(
  { upload }: UploadJob,
  stored: StoredUpload,
  { volumeId, uuid }: VolumeIdentity,
  key: KeyHandle | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { mac, ...record } = stored;
  if (stored.volumeId !== volumeId || stored.uuid !== uuid) throw cannotResumeUpload(upload, `it is of the volume ${stored.volumeId}`);
  if (key !== undefined && !isRecordMac(mac, 'upload', record, key))
    throw cannotResumeUpload(upload, 'its record was changed by somebody without the key of the volume (its MAC does not hold)');
  await upload.resume(stored, signal);
}

/**
 * Sends the parts that S3 does not have, once the last one that it has is proved; of a copy, once each of them is
 * compared.
 * @throws {VolsealError} `ERR_RESUME` it is not what the source gives; as `movePieces`
 */
export async function moveRest(
  { kind, upload, source }: UploadJob,
  move: Omit<PieceMove, 'write' | 'pieceBytes' | 'checksum' | 'isWritten'>,
  job: JobOptions,
  onWarning: OpenTargetOptions['onWarning'],
): Promise<void> {
  if (upload.isCompleted) return;
  const { pieceBytes, checksum, parts } = upload;
  const whole = { ...move, pieceBytes, checksum } as const;
  const there = new Set(parts.flatMap((part, index) => (part === undefined ? [] : [index])));
  const last = parts.length - 1;
  const resuming = (): void =>
    onWarning?.(`${upload.name}: resuming: ${there.size} of ${Math.ceil(upload.sizeBytes / pieceBytes)} parts are there`);
  if (kind === 'copy') {
    if (last >= 0) resuming();
    const write: PieceMove['write'] = async (piece, signal) => {
      if (parts[piece.offsetBytes / pieceBytes]?.crc32 !== piece.crc32) await upload.write(piece, signal);
    };
    return await movePieces({ ...whole, write }, job);
  }
  if (last >= 0) {
    const { crc32 } = await pieceOf(whole, last, job.signal);
    if (crc32 !== parts[last]!.crc32) throw cannotResumeUpload(upload, `part ${last + 1} is not what ${move.source.name} gives`);
    resuming();
    if (source.kind === 'device')
      onWarning?.(
        `${move.source.name}: is a block device, which does not tell whether it was written to since: begin again if it may have been`,
      );
  }
  await movePieces({ ...whole, isWritten: (index) => there.has(index), write: (piece, signal) => upload.write(piece, signal) }, job);
}

/**
 * Runs `work` on the upload. Where that fails, the upload stays for a later run, and the error says so; it is given up
 * where no later run can go on with it.
 * @throws {VolsealError} what `work` throws
 */
export async function keepingUpload<T>(upload: ResumableUpload, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof VolsealError && error.code === 'ERR_SOURCE_CHANGED') await upload.giveUp();
    throw upload.withContext(error);
  }
}

/** Removes the record of an upload that is complete, or warns that it is still there. Never throws. */
export async function forgetUpload(upload: ResumableUpload, onWarning: OpenTargetOptions['onWarning']): Promise<void> {
  await upload.forget().catch((error: unknown) => {
    const why = error instanceof VolsealError ? error.message : String(error);
    onWarning?.(`${upload.name}: is complete, but the record of its upload is still there; remove it (${why})`);
  });
}
