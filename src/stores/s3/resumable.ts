/**
 * An upload that a later run can go on with. S3 keeps its parts; a record beside the object says which upload it is.
 * The record is the lock: it is made only where there is none, before the first part. The object carries a mark of its
 * upload, so that a run that finds the upload gone can tell whether it was completed.
 */
import { randomUUID } from 'node:crypto';
import { VolsealError } from '../../errors.js';
import { type S3Location, s3Location } from '../location.js';
import type { ImageTarget, Piece, StoreOptions } from '../store.js';
import { S3Connection } from './client.js';
import { listParts } from './parts.js';
import { createRecord, readRecord, recordOf, removeRecord } from './record.js';
import {
  conditionOf,
  createUpload,
  markedWith,
  type Part,
  partBytesFor,
  refuseVersion,
  S3Upload,
  targetExists,
  wholeObject,
} from './upload.js';

/** Which upload it is. */
export interface UploadIdentity {
  readonly uploadId: string;
  /** Random; the object has it once the upload is completed. */
  readonly mark: string;
}

/** `begun`: no later run would find it. `kept`: its record is there. `over`: completed or given up. */
type State = 'none' | 'begun' | 'kept' | 'over';

/** A new object, begun by this run or an earlier one. */
export class ResumableUpload implements ImageTarget {
  readonly checksum = 'crc32';
  readonly pieceBytes: number;
  readonly sizeBytes: number;
  /** The record of an earlier run, as it was found; anybody who may write to the bucket can have made it. */
  readonly found: string | undefined;
  readonly #connection: S3Connection;
  readonly #location: S3Location;
  readonly #record: S3Location;
  readonly #force: boolean;
  #state: State = 'none';
  #upload: S3Upload | undefined;
  #identity: UploadIdentity = { uploadId: '', mark: '' };

  private constructor(
    connection: S3Connection,
    { location, sizeBytes, force, found }: { location: S3Location; sizeBytes: number; force: boolean; found: string | undefined },
  ) {
    this.#connection = connection;
    this.#location = location;
    this.#record = recordOf(location);
    this.#force = force;
    this.sizeBytes = sizeBytes;
    this.pieceBytes = partBytesFor(sizeBytes, location.name);
    this.found = found;
  }

  /**
   * Looks for the record of an earlier run; nothing is begun.
   * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IMAGE_SIZE`, `ERR_TARGET_EXISTS`, `ERR_RESUME`, `ERR_STORE_*`,
   * `ERR_ABORTED`
   */
  static async open(
    name: string,
    { sizeBytes, force }: { sizeBytes: number; force: boolean },
    store: StoreOptions | undefined,
    signal: AbortSignal | undefined,
  ): Promise<ResumableUpload> {
    const location = s3Location(name);
    refuseVersion(location);
    const connection = await S3Connection.open(store);
    try {
      const found = await readRecord(connection, recordOf(location), signal);
      if (found === undefined && !force && (await wholeObject(connection, location, signal)) !== undefined) throw targetExists(name);
      return new ResumableUpload(connection, { location, sizeBytes, force, found });
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /**
   * Aborts the upload that an earlier run has begun, and removes its record.
   * @param which the upload, from the record's text; undefined leaves both as they are
   * @throws {VolsealError} what `which` throws; `ERR_STORE_*`, `ERR_ABORTED`
   */
  static async abandon(
    name: string,
    which: (upload: ResumableUpload) => UploadIdentity | undefined,
    store: StoreOptions | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    // Of its size nothing is asked.
    await using upload = await ResumableUpload.open(name, { sizeBytes: 1, force: true }, store, signal);
    const identity = upload.found === undefined ? undefined : which(upload);
    if (identity === undefined) return;
    await upload.forget();
    upload.#take(identity, 'begun');
  }

  get name(): string {
    return this.#location.name;
  }

  /** The name of the record. */
  get record(): string {
    return this.#record.name;
  }

  /** The parts that need not be sent, by their number less one; there may be gaps. */
  get parts(): readonly Part[] {
    return this.#begun.parts;
  }

  /** Whether the object is there. */
  get isCompleted(): boolean {
    return this.#state === 'over';
  }

  get #begun(): S3Upload {
    if (this.#upload === undefined) throw new Error('the upload was not begun');
    return this.#upload;
  }

  /**
   * Begins an upload.
   * @param recordText what the record is to hold
   * @throws {VolsealError} `ERR_STATE_BUSY` another run began one at the same time; `ERR_STORE_*`, `ERR_ABORTED`
   */
  async begin(recordText: (upload: UploadIdentity) => string, signal: AbortSignal | undefined): Promise<void> {
    const mark = randomUUID();
    this.#take({ uploadId: await createUpload(this.#connection, this.#location, markedWith(mark), signal), mark }, 'begun');
    if (!(await createRecord(this.#connection, this.#record, recordText(this.#identity), signal)))
      throw new VolsealError('ERR_STATE_BUSY', `${this.name}: another run has begun to write this object (${this.record})`, {
        details: { path: this.name, record: this.record },
      });
    this.#state = 'kept';
  }

  /**
   * Goes on with the upload of an earlier run; what that has sent is in `parts`. If it is completed, nothing is left to
   * do (`isCompleted`).
   * @throws {VolsealError} `ERR_TARGET_EXISTS` another object came meanwhile; `ERR_RESUME` the upload is gone;
   * `ERR_STORE_*`, `ERR_ABORTED`
   */
  async resume(identity: UploadIdentity, signal: AbortSignal | undefined): Promise<void> {
    this.#take(identity, 'kept');
    const there = await wholeObject(this.#connection, this.#location, signal);
    if (there?.mark === identity.mark) {
      this.#state = 'over';
      return;
    }
    if (there !== undefined && !this.#force) throw targetExists(this.name);
    this.#begun.parts = await this.#listed(signal).catch((error: unknown) => {
      throw isGone(error) ? this.#gone(error) : error;
    });
  }

  #take(identity: UploadIdentity, state: State): void {
    const { sizeBytes, pieceBytes } = this;
    const condition = conditionOf(this.#force);
    this.#identity = identity;
    this.#upload = new S3Upload(this.#connection, this.#location, identity.uploadId, { sizeBytes, pieceBytes, condition });
    this.#state = state;
  }

  async write(piece: Piece, signal?: AbortSignal): Promise<void> {
    await this.#begun.write(piece, signal).catch(async (error: unknown) => {
      if (!isGone(error)) throw error;
      if (!(await this.#isCompleted(signal))) throw this.#gone(error);
      this.#state = 'over';
      throw new VolsealError('ERR_STATE_BUSY', `${this.name}: another run has completed this upload; the object is there`, {
        cause: error,
        details: { path: this.name },
      });
    });
  }

  async complete(signal?: AbortSignal): Promise<void> {
    if (this.isCompleted) return;
    try {
      await this.#checkParts(signal);
      await this.#begun.complete(signal);
    } catch (error) {
      // Another run that went on with the same upload was faster.
      if (!isGone(error)) throw error;
      if (!(await this.#isCompleted(signal))) throw this.#gone(error);
    }
    this.#state = 'over';
  }

  /** Two runs may have sent the same part: S3 then knows the ETag of one of them, and the bytes are the same. */
  async #checkParts(signal: AbortSignal | undefined): Promise<void> {
    const { parts } = this.#begun;
    const listed = await this.#listed(signal);
    for (let index = 0; index * this.pieceBytes < this.sizeBytes; index += 1) {
      if (listed[index] !== undefined && listed[index]!.crc32 === parts[index]?.crc32) continue;
      throw new VolsealError('ERR_STORE_REQUEST', `${this.name}: the server does not have part ${index + 1} as it was sent`, {
        details: { path: this.name, part: index + 1 },
      });
    }
    this.#begun.parts = listed;
  }

  #listed(signal: AbortSignal | undefined): Promise<Part[]> {
    const { pieceBytes, sizeBytes } = this;
    const lengthOf = (index: number): number | undefined => {
      const left = sizeBytes - index * pieceBytes;
      return left > 0 ? Math.min(left, pieceBytes) : undefined;
    };
    return listParts(this.#connection, this.#location, this.#identity.uploadId, lengthOf, signal);
  }

  async #isCompleted(signal: AbortSignal | undefined): Promise<boolean> {
    const { mark } = this.#identity;
    return (await wholeObject(this.#connection, this.#location, signal))?.mark === mark;
  }

  #gone(cause: unknown): VolsealError {
    const message = `${this.name}: its upload is gone: something has aborted it, perhaps a lifecycle rule of the bucket`;
    return new VolsealError('ERR_RESUME', message, { cause, details: { path: this.name, record: this.record } });
  }

  /** Removes the record, once the object is there. @throws {VolsealError} `ERR_STORE_*` */
  async forget(): Promise<void> {
    await removeRecord(this.#connection, this.#record);
  }

  /** No later run can go on with this upload. Never throws. */
  async giveUp(): Promise<void> {
    if (this.#state !== 'kept') return;
    this.#state = 'begun';
    await this.forget().catch(() => {});
  }

  /** `error` with what has become of the upload, where a later run can go on with it. */
  withContext(error: unknown): unknown {
    if (this.#state !== 'kept' || !(error instanceof VolsealError) || error.code === 'ERR_RESUME') return error;
    const message = error.code === 'ERR_ABORTED' ? `${this.name}: stopped on request` : error.message;
    return new VolsealError(error.code, `${message}; what was uploaded is kept, with the record ${this.record}`, {
      cause: error.cause,
      details: { ...error.details, partial: this.name, record: this.record },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'begun') await this.#begun.abort();
    this.#connection.close();
  }
}

const isGone = (error: unknown): boolean => error instanceof VolsealError && error.details.name === 'NoSuchUpload';
