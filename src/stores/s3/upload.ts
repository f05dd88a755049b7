/**
 * A new object, by multipart upload. Each part carries its CRC-32, and the whole object's is named at the end: S3
 * refuses what differs. Nothing is visible before that.
 */
import type { CompleteMultipartUploadCommandOutput, CreateMultipartUploadCommandInput } from '@aws-sdk/client-s3';
import { VolsealError } from '../../errors.js';
import { S3_PART_BYTES_MAX, S3_PART_BYTES_MIN, S3_PARTS_MAX } from '../../limits.js';
import type { S3Location } from '../location.js';
import type { ImageTarget, Piece } from '../store.js';
import type { S3Connection } from './client.js';
import { combineCrc32, crc32Text } from './crc32.js';

const PUT = 's3:PutObject';
const MIB = 1024 * 1024;

/** A part that S3 has. */
export interface Part {
  readonly etag: string;
  readonly crc32: number;
  readonly bytes: number;
}

/** Length of the parts of an object: whole MiB. @throws {VolsealError} `ERR_IMAGE_SIZE` beyond what parts carry */
export function partBytesFor(sizeBytes: number, name: string): number {
  const partBytes = Math.max(S3_PART_BYTES_MIN, Math.ceil(sizeBytes / S3_PARTS_MAX / MIB) * MIB);
  if (partBytes <= S3_PART_BYTES_MAX) return partBytes;
  const sizeBytesMax = S3_PARTS_MAX * S3_PART_BYTES_MAX;
  throw new VolsealError('ERR_IMAGE_SIZE', `${name}: ${sizeBytes} bytes are more than the ${sizeBytesMax} that volseal uploads to S3`, {
    details: { path: name, sizeBytes, sizeBytesMax },
  });
}

/**
 * Begins an upload. The connection is the upload's from then on, which closes it.
 * @param sizeBytes undefined: as many pieces as come
 * @param force replaces an object; otherwise one that is there, or comes meanwhile, is an error
 * @throws {VolsealError} `ERR_TARGET_EXISTS`, `ERR_ARGUMENT` (a version as a target), `ERR_IMAGE_SIZE`, `ERR_STORE_*`
 */
export async function openUpload(
  connection: S3Connection,
  location: S3Location,
  sizeBytes: number | undefined,
  force: boolean,
  signal?: AbortSignal,
): Promise<ImageTarget> {
  const { name } = location;
  refuseVersion(location);
  const pieceBytes = sizeBytes === undefined ? S3_PART_BYTES_MIN : partBytesFor(sizeBytes, name);
  if (!force && (await wholeObject(connection, location, signal)) !== undefined) throw targetExists(name);
  const uploadId = await createUpload(connection, location, {}, signal);
  return new S3Upload(connection, location, uploadId, { sizeBytes, pieceBytes, condition: conditionOf(force) });
}

/** @throws {VolsealError} `ERR_ARGUMENT` a version as a target */
export function refuseVersion({ name, versionId }: S3Location): void {
  if (versionId !== undefined)
    throw new VolsealError('ERR_ARGUMENT', `${name}: S3 names the version of a new object itself; leave out ?versionId=`);
}

/** What must be at the key when an upload is completed: nothing, this object, or whatever is there. */
export type UploadCondition = { readonly IfNoneMatch: '*' } | { readonly IfMatch: string } | Record<string, never>;

/** @param force whatever is there is replaced */
export const conditionOf = (force: boolean): UploadCondition => (force ? {} : { IfNoneMatch: '*' });

/** The user's metadata of an object under which the mark of its upload is. */
const MARK = 'volseal-upload';

/** The metadata that marks an object. */
export const markedWith = (mark: string): Pick<CreateMultipartUploadCommandInput, 'Metadata'> => ({ Metadata: { [MARK]: mark } });

/** @param about the object will have it @returns the id of a new upload @throws {VolsealError} `ERR_STORE_*` */
export async function createUpload(
  connection: S3Connection,
  location: S3Location,
  about: Partial<CreateMultipartUploadCommandInput>,
  signal: AbortSignal | undefined,
): Promise<string> {
  const { bucket: Bucket, key: Key, name } = location;
  const { UploadId } = await connection.call(
    'CreateMultipartUpload',
    PUT,
    location,
    ({ client, sdk }, send) =>
      client.send(
        new sdk.CreateMultipartUploadCommand({
          ...{ Bucket, Key, ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT', ContentType: 'application/octet-stream' },
          ...about,
        }),
        send,
      ),
    signal,
  );
  if (UploadId !== undefined) return UploadId;
  throw new VolsealError('ERR_STORE_REQUEST', `${name}: the server began an upload and did not name it`, { details: { path: name } });
}

/** An upload that has begun. Its connection is its own. */
export class S3Upload implements ImageTarget {
  readonly pieceBytes: number;
  readonly checksum = 'crc32';
  readonly #connection: S3Connection;
  readonly #location: S3Location;
  readonly #uploadId: string;
  readonly #sizeBytes: number | undefined;
  readonly #condition: UploadCondition;
  #parts: Part[] = [];
  #completed = false;
  #made: CompleteMultipartUploadCommandOutput | undefined;

  constructor(
    connection: S3Connection,
    location: S3Location,
    uploadId: string,
    { sizeBytes, pieceBytes, condition }: { sizeBytes: number | undefined; pieceBytes: number; condition: UploadCondition },
  ) {
    this.pieceBytes = pieceBytes;
    this.#connection = connection;
    this.#location = location;
    this.#uploadId = uploadId;
    this.#sizeBytes = sizeBytes;
    this.#condition = condition;
  }

  get name(): string {
    return this.#location.name;
  }

  /** The parts that S3 has, by their number less one; there may be gaps. */
  get parts(): readonly Part[] {
    return this.#parts;
  }

  /** Takes them as written: by this run or an earlier one. */
  set parts(parts: readonly Part[]) {
    this.#parts = [...parts];
  }

  /** What S3 says of the object that was made; undefined where its reply was lost. */
  get made(): Pick<CompleteMultipartUploadCommandOutput, 'ETag' | 'VersionId'> | undefined {
    return this.#made;
  }

  get #upload() {
    const { bucket: Bucket, key: Key } = this.#location;
    return { Bucket, Key, UploadId: this.#uploadId };
  }

  async write({ offsetBytes, bytes, crc32 }: Piece, signal?: AbortSignal): Promise<void> {
    const index = offsetBytes / this.pieceBytes;
    if (index >= S3_PARTS_MAX) throw tooLong(this.name, this.pieceBytes);
    const part = { PartNumber: index + 1, Body: bytes, ContentLength: bytes.length, ChecksumCRC32: crc32Text(crc32) };
    const { ETag, ChecksumCRC32 } = await this.#connection.call(
      'UploadPart',
      PUT,
      this.#location,
      ({ client, sdk }, send) => client.send(new sdk.UploadPartCommand({ ...this.#upload, ...part }), send),
      signal,
    );
    if (ETag === undefined || (ChecksumCRC32 ?? part.ChecksumCRC32) !== part.ChecksumCRC32)
      throw new VolsealError('ERR_STORE_REQUEST', `${this.name}: the server got other bytes than were sent (part ${index + 1})`, {
        details: { path: this.name, part: index + 1 },
      });
    this.#parts[index] = { etag: ETag, crc32, bytes: bytes.length };
  }

  async complete(signal?: AbortSignal): Promise<void> {
    const whole = this.#parts.reduce((sum, { crc32, bytes }) => combineCrc32(sum, crc32, bytes), 0);
    const checksum = crc32Text(whole);
    const sizeBytes = this.#sizeBytes ?? this.#parts.reduce((sum, { bytes }) => sum + bytes, 0);
    const Parts = this.#parts.map(({ etag, crc32 }, index) => ({ PartNumber: index + 1, ETag: etag, ChecksumCRC32: crc32Text(crc32) }));
    const isOurs = async (): Promise<boolean> => {
      const found = await wholeObject(this.#connection, this.#location, signal);
      return found?.sizeBytes === sizeBytes && found.checksum === checksum;
    };
    let attempts = 0;
    this.#made = await this.#connection
      .call(
        'CompleteMultipartUpload',
        PUT,
        this.#location,
        ({ client, sdk }, send) => {
          attempts += 1;
          const facts = { ChecksumType: 'FULL_OBJECT' as const, ChecksumCRC32: checksum, MpuObjectSize: sizeBytes };
          return client.send(
            new sdk.CompleteMultipartUploadCommand({ ...this.#upload, ...facts, ...this.#condition, MultipartUpload: { Parts } }),
            send,
          );
        },
        signal,
      )
      .catch(async (error: unknown) => {
        const { status, name } = error instanceof VolsealError ? error.details : {};
        // A first attempt whose reply was lost has completed it: the second one finds it done.
        if (attempts > 1 && (status === 412 || name === 'NoSuchUpload') && (await isOurs())) return undefined;
        if ((status === 412 || name === 'NoSuchKey') && 'IfMatch' in this.#condition) throw replaced(this.name, error);
        if (status === 412) throw targetExists(this.name, error);
        if (status !== 409) throw error;
        throw new VolsealError('ERR_STATE_BUSY', `${this.name}: somebody else writes the object at the same time; nothing was replaced`, {
          cause: error,
          details: { path: this.name },
        });
      });
    this.#completed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#completed) await this.abort();
    this.#connection.close();
  }

  /** Gives up the upload. Never throws. */
  async abort(): Promise<void> {
    // Also after the caller's signal: parts that nobody sees cost money.
    await this.#connection
      .call('AbortMultipartUpload', 's3:AbortMultipartUpload', this.#location, ({ client, sdk }, send) =>
        client.send(new sdk.AbortMultipartUploadCommand(this.#upload), send),
      )
      .catch(() => {});
  }
}

/**
 * Length, CRC-32 and mark of the object that is there; undefined for none. @throws {VolsealError} `ERR_STORE_*`,
 * `ERR_ABORTED`
 */
export async function wholeObject(connection: S3Connection, location: S3Location, signal: AbortSignal | undefined) {
  try {
    const { bucket: Bucket, key: Key } = location;
    const { ContentLength, ChecksumCRC32, Metadata } = await connection.call(
      'HeadObject',
      's3:GetObject',
      location,
      ({ client, sdk }, send) => client.send(new sdk.HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }), send),
      signal,
    );
    return { sizeBytes: ContentLength, checksum: ChecksumCRC32, mark: Metadata?.[MARK] };
  } catch (error) {
    if (error instanceof VolsealError && error.code === 'ERR_STORE_NOT_FOUND') return undefined;
    throw error;
  }
}

/** Only what comes without a length that was known beforehand grows beyond what parts of the smallest size carry. */
const tooLong = (name: string, partBytes: number): VolsealError =>
  new VolsealError('ERR_IMAGE_SIZE', `${name}: more than ${S3_PARTS_MAX * partBytes} bytes came; longer parts need the size beforehand`, {
    details: { path: name, sizeBytesMax: S3_PARTS_MAX * partBytes, unknownSize: true },
  });

/** An object that is in the way. */
export const targetExists = (name: string, cause?: unknown): VolsealError =>
  new VolsealError('ERR_TARGET_EXISTS', `${name}: there is such an object already`, { cause, details: { path: name } });

/** An object that is not the one any more that was read. */
export const replaced = (name: string, cause?: unknown): VolsealError =>
  new VolsealError('ERR_SOURCE_CHANGED', `${name}: was replaced or removed meanwhile; nothing was changed`, {
    cause,
    details: { path: name },
  });
