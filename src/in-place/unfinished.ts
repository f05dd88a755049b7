/**
 * An image in the middle of a job in place, open for its data: each sector is under the key of its side, and a part
 * that is under way is read from the journal, or rebuilt by the marks in it. The lock of the image keeps the job away
 * for as long as it is open.
 */
import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';
import { VolsealError, withPath } from '../errors.js';
import { type DeviceHandle, type DeviceRegion, type KeyHandle, native, type TransformVolume } from '../native.js';
import { type InPlaceKind, inTheMiddle } from '../output/in-place-mark.js';
import type { ImageSession } from '../volume/session.js';
import type { OpenOptions } from '../volume/unlock.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { type JournaledVolume, unlockJournaled, unlockSecond } from './existing.js';
import { type FormKeys, OpenImage, settleImage } from './job.js';
import { damaged, readFailure } from './journal.js';
import type { InPlaceRecord, PendingPart } from './record.js';

/** What the engine moves at once, and hashes. */
const PIECE_BYTES = 1024 * 1024;

/** Where the journal of an unfinished job is. */
export interface UnfinishedOptions {
  /** The journal of an unfinished job in place, where it is not beside the image. */
  journal?: string | undefined;
}

/** Options of everything that opens a volume, in the middle of a job or not. */
export type OpenAnyOptions = OpenOptions & UnfinishedOptions;

/**
 * Opens a volume as a whole one, or where that is refused, in the middle of a job in place. Where `options` name a
 * journal, that comes first.
 * @param ofUnfinished undefined where no journal is there @throws {VolsealError} whatever the two throw
 */
export async function wholeOrUnfinished<T>(
  { journal }: UnfinishedOptions,
  ofWhole: () => Promise<T>,
  ofUnfinished: () => Promise<T | undefined>,
): Promise<T> {
  if (journal !== undefined) return (await ofUnfinished()) ?? (await ofWhole());
  try {
    return await ofWhole();
  } catch (error) {
    if (!isInTheMiddle(error)) throw error;
    const found = await ofUnfinished();
    if (found === undefined) throw error;
    return found;
  }
}

const isInTheMiddle = (error: unknown): boolean =>
  error instanceof VolsealError && error.code === 'ERR_STATE_INTERRUPTED' && error.details.inPlace === true;

/** The image, locked, with its keys in the vault. Whoever opened it closes it. */
export class UnfinishedSession implements ImageSession {
  readonly pool: PoolLease;
  /** The journal's record names the image, and the key proves the record. */
  readonly isBound = true;
  readonly #opened: OpenImage;
  readonly #options: OpenAnyOptions;
  readonly #keys: KeyHandle[] = [];
  #volume: JournaledVolume | undefined;
  #regions: DeviceRegion[] = [];
  /** The part that was under way, where the journal holds only its marks. */
  #rebuiltFd: number | undefined;

  private constructor(opened: OpenImage, options: OpenAnyOptions) {
    this.#opened = opened;
    this.#options = options;
    this.pool = leasePool(options.logger);
  }

  /**
   * Opens the image and its journal, has KMS unwrap the keys, and proves header, record and the part that is only in
   * the journal.
   * @param writable puts that part into its place first, and lets nobody else open the image
   * @returns undefined where no journal is there
   * @throws {VolsealError} as `attach` (attach.ts)
   */
  static async open(path: string, options: OpenAnyOptions, writable: boolean): Promise<UnfinishedSession | undefined> {
    const { journal } = options;
    const opened = writable ? await OpenImage.open(path, { journal }) : await OpenImage.openToRead(path, journal, options);
    const session = new UnfinishedSession(opened, options);
    try {
      if (opened.journal === undefined) {
        await session.close();
        return undefined;
      }
      await session.#open(writable);
      return session;
    } catch (error) {
      await session.close();
      throw withPath(error, path);
    }
  }

  /** What the journal's first header says. */
  get file(): ImageSession['file'] {
    return { ...this.#volume!, data: this.#opened.image, header: this.#opened.journal!.file };
  }

  get inPlace(): InPlaceKind {
    return this.#volume!.record.kind;
  }

  get key(): KeyHandle {
    return this.#volume!.key;
  }

  /** Nothing: the keys are in the vault since it was opened. */
  async unlock(): Promise<KeyHandle> {
    return this.key;
  }

  throwIfAborted(outcome?: string): void {
    throwIfAborted(this.#options.signal, outcome);
  }

  imageSource(): TransformVolume {
    const { segment, sizeBytes, token } = this.file;
    const sparse = token.allocation === 'sparse';
    return { kind: 'volume', regions: this.#regions, sectorBytes: segment.sectorBytes, sizeBytes, sparse };
  }

  /** A device over both forms, and over the journal where a part of the image is only there; the caller's to close. */
  openDevice(writable: boolean): DeviceHandle {
    const { regions, sectorBytes, sparse } = this.imageSource();
    return native.deviceOpen({ regions, sectorBytes, writable, sparse });
  }

  /** Nothing: the job records samples of the data at its end. */
  async afterFlush(): Promise<void> {}

  /** Wipes the keys and closes the files. Never throws. */
  async close(): Promise<void> {
    for (const key of this.#keys) native.keyWipe(key);
    if (this.#rebuiltFd !== undefined) closeSync(this.#rebuiltFd);
    this.#rebuiltFd = undefined;
    await this.#opened[Symbol.asyncDispose]();
    await this.pool.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #open(writable: boolean): Promise<void> {
    const { image, journal } = this.#opened;
    this.#volume = await unlockJournaled(this.#opened, undefined, undefined, this.#options, this.pool);
    const { key } = this.#volume;
    this.#keys.push(key);
    let { record } = this.#volume;
    if (image.sizeBytes() < record.highOffsetBytes + record.dataBytes) throw inTheMiddle(image.path, journal!.path, record.kind);
    const keys: FormKeys = { low: undefined, high: key, proof: key };
    const forms = record.kind === 'reencrypt' ? { ...keys, low: key, high: await this.#second() } : keys;
    this.throwIfAborted('the volume is in the middle of the job as before');
    if (writable) record = await settleImage(this.#opened, this.pool, record, forms);
    else if (record.pending !== null) await this.#readPending(record, record.pending, forms);
    this.#regions = this.#regionsOf(record, forms);
  }

  async #second(): Promise<KeyHandle> {
    const key = await unlockSecond(this.#opened, this.#options, this.pool);
    this.#keys.push(key);
    return key;
  }

  /**
   * Proves the part that is under way, and makes it readable.
   * @throws {VolsealError} `ERR_RESUME` it is not as it was taken; `ERR_IO`, `ERR_KEY_GONE`
   */
  async #readPending(record: InPlaceRecord, pending: PendingPart, forms: FormKeys): Promise<void> {
    if (record.logged === 'marks') await this.#rebuild(record, pending, forms);
    else await this.#checkLogged(record, pending);
  }

  async #checkLogged(record: InPlaceRecord, pending: PendingPart): Promise<void> {
    const journal = this.#opened.journal!;
    const slotAt = journal.slotOffsets(record)[pending.slot];
    const whole = createHash('sha256');
    for (let at = 0; at < pending.lengthBytes; at += PIECE_BYTES) {
      const piece = await journal.file.read(slotAt + at, Math.min(PIECE_BYTES, pending.lengthBytes - at));
      whole.update(createHash('sha256').update(piece).digest());
    }
    if (whole.digest('base64') !== pending.sha256) throw damaged(journal.path, 'what was taken last is not in it as it was');
  }

  async #rebuild(record: InPlaceRecord, pending: PendingPart, { low, high }: FormKeys): Promise<void> {
    const { image, journal } = this.#opened;
    const { direction, lowOffsetBytes: offsetBytes, sectorBytes, sparse } = record;
    this.#rebuiltFd = native.memoryFileOpen();
    const options = {
      imageFd: image.fd,
      journalFd: journal!.file.fd,
      targetFd: this.#rebuiltFd,
      offsetBytes,
      startByte: pending.startByte,
      lengthBytes: pending.lengthBytes,
      slotOffset: journal!.slotOffsets(record)[pending.slot],
      sha256: Buffer.from(pending.sha256, 'base64'),
      marked: pendingKey(direction, { low, high }),
      other: direction === 'toHigh' || low === undefined ? low : high,
      sectorBytes,
      sparse,
    };
    await this.pool.run({ kind: 'rebuildPart', options }).catch((error: unknown) => {
      throw readFailure(error, journal!.path);
    });
  }

  #regionsOf(record: InPlaceRecord, { low, high }: FormKeys): DeviceRegion[] {
    const { direction, frontierBytes, pending, dataBytes, lowOffsetBytes, highOffsetBytes } = record;
    const { image, journal } = this.#opened;
    const begin = pending?.startByte ?? frontierBytes;
    const end = begin + (pending?.lengthBytes ?? 0);
    const regions = [{ fd: image.fd, key: low, offsetBytes: lowOffsetBytes, sizeBytes: begin }];
    if (pending !== null) {
      const [fd, offsetBytes] =
        this.#rebuiltFd === undefined ? [journal!.file.fd, journal!.slotOffsets(record)[pending.slot]] : [this.#rebuiltFd, 0];
      regions.push({ fd, key: pendingKey(direction, { low, high }), offsetBytes, sizeBytes: end - begin });
    }
    regions.push({ fd: image.fd, key: high, offsetBytes: highOffsetBytes + end, sizeBytes: dataBytes - end });
    return regions.filter(({ sizeBytes }) => sizeBytes > 0);
  }
}

/** Of a part under way, which is ciphertext in any case: in the new form, or where that has no key in the old one. */
const pendingKey = (direction: InPlaceRecord['direction'], { low, high }: Pick<FormKeys, 'low' | 'high'>): KeyHandle =>
  direction === 'toHigh' ? high : (low ?? high);
