/**
 * Attaching, also in the middle of a job in place: each sector is read and written by the key of its side, and what is
 * in the journal is read from there. The lock of the image keeps the job away for as long as it is attached.
 */
import { createHash } from 'node:crypto';
import { VolsealError, withPath } from '../errors.js';
import { type DeviceHandle, type KeyHandle, native } from '../native.js';
import { inTheMiddle } from '../output/in-place-mark.js';
import { type AttachOptions, attach as attachWhole } from '../volume/attach.js';
import { type OpenVolume, Volume } from '../volume/volume.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { type JournaledVolume, unlockJournaled, unlockSecond } from './existing.js';
import { type FormKeys, OpenImage, settleImage } from './job.js';
import { damaged } from './journal.js';
import type { InPlaceRecord } from './record.js';

/** What the engine moves at once, and hashes. */
const PIECE_BYTES = 1024 * 1024;

/** Options of `attach`. */
export interface AttachAnyOptions extends AttachOptions {
  /** The journal of an unfinished job in place, where it is not beside the image. */
  journal?: string | undefined;
}

/**
 * Attaches a volume: takes its lock, has KMS unwrap its key into the vault, proves the header by it, and repairs a
 * damaged or older header copy from the good one (where attached for writing).
 *
 * In the middle of a job in place (`encryptInPlace`, `decryptInPlace`, `reencryptInPlace`) both keys are unwrapped, by
 * the headers in the journal. Attached for writing, the part in the journal is first put into its place. No job goes on
 * meanwhile (`ERR_STATE_BUSY`); afterwards it goes on, or is taken back, with what was written.
 *
 * @returns the volume; the caller detaches it
 * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_KMS_*`,
 * `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_IO`, `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`, `ERR_ABORTED`;
 * `ERR_STATE_INTERRUPTED` a job is in the middle of it, and its journal is not there; `ERR_RESUME` the journal is
 * damaged
 */
export async function attach(path: string, options: AttachAnyOptions = {}): Promise<Volume> {
  if (options.journal !== undefined) return (await attachUnfinished(path, options)) ?? (await attachWhole(path, options));
  try {
    return await attachWhole(path, options);
  } catch (error) {
    if (!isInTheMiddle(error)) throw error;
    const volume = await attachUnfinished(path, options);
    if (volume === undefined) throw error;
    return volume;
  }
}

const isInTheMiddle = (error: unknown): boolean =>
  error instanceof VolsealError && error.code === 'ERR_STATE_INTERRUPTED' && error.details.inPlace === true;

/** Undefined where no journal is there. @throws {VolsealError} as `attach` */
async function attachUnfinished(path: string, options: AttachAnyOptions): Promise<Volume | undefined> {
  const writable = options.readOnly !== true;
  const opened = writable
    ? await OpenImage.open(path, { journal: options.journal })
    : await OpenImage.openToRead(path, options.journal, options);
  const session = new UnfinishedSession(opened, leasePool());
  try {
    if (opened.journal === undefined) {
      await session.close();
      return undefined;
    }
    return await session.attach(options, writable);
  } catch (error) {
    await session.close();
    throw withPath(error, path);
  }
}

/** An image in the middle of a job, open and locked, with its keys. */
class UnfinishedSession implements OpenVolume {
  readonly #opened: OpenImage;
  readonly #pool: PoolLease;
  readonly #keys: KeyHandle[] = [];
  #volume: JournaledVolume | undefined;

  constructor(opened: OpenImage, pool: PoolLease) {
    this.#opened = opened;
    this.#pool = pool;
  }

  get file(): OpenVolume['file'] {
    return { ...this.#volume!, data: this.#opened.image };
  }

  /** @throws {VolsealError} as `attach` */
  async attach(options: AttachAnyOptions, writable: boolean): Promise<Volume> {
    const { image, journal } = this.#opened;
    this.#volume = await unlockJournaled(this.#opened, undefined, undefined, options, this.#pool);
    const { key } = this.#volume;
    this.#keys.push(key);
    let { record } = this.#volume;
    if (image.sizeBytes() < record.highOffsetBytes + record.dataBytes) throw inTheMiddle(image.path, journal!.path);
    const keys: FormKeys = { low: undefined, high: key, proof: key };
    const forms = record.kind === 'reencrypt' ? { ...keys, low: key, high: await this.#second(options) } : keys;
    throwIfAborted(options.signal, 'the volume was not attached');
    if (writable) record = await settleImage(this.#opened, this.#pool, record, forms);
    else await this.#checkPending(record);
    return new Volume({ session: this, device: this.#openDevice(record, forms, writable), writable });
  }

  /** Nothing: the job records samples of the data at its end. */
  async afterFlush(): Promise<void> {}

  async close(): Promise<void> {
    for (const key of this.#keys) native.keyWipe(key);
    await this.#opened[Symbol.asyncDispose]();
    await this.#pool.release();
  }

  async #second(options: AttachAnyOptions): Promise<KeyHandle> {
    const key = await unlockSecond(this.#opened, options, this.#pool);
    this.#keys.push(key);
    return key;
  }

  /** Refuses a journal whose part is not as it was taken. @throws {VolsealError} `ERR_RESUME`, `ERR_IO` */
  async #checkPending({ pending, partBytes }: InPlaceRecord): Promise<void> {
    if (pending === null) return;
    const journal = this.#opened.journal!;
    const slotAt = journal.slotOffsets(partBytes)[pending.slot];
    const whole = createHash('sha256');
    for (let at = 0; at < pending.lengthBytes; at += PIECE_BYTES) {
      const piece = await journal.file.read(slotAt + at, Math.min(PIECE_BYTES, pending.lengthBytes - at));
      whole.update(createHash('sha256').update(piece).digest());
    }
    if (whole.digest('base64') !== pending.sha256) throw damaged(journal.path, 'what was taken last is not in it as it was');
  }

  /** Over both forms, and over the journal where a part of the image is only there. */
  #openDevice(record: InPlaceRecord, { low, high }: Pick<FormKeys, 'low' | 'high'>, writable: boolean): DeviceHandle {
    const { direction, frontierBytes, pending, partBytes, dataBytes, lowOffsetBytes, highOffsetBytes, sectorBytes, sparse } = record;
    const { image, journal } = this.#opened;
    const begin = pending?.startByte ?? frontierBytes;
    const end = begin + (pending?.lengthBytes ?? 0);
    const regions = [{ fd: image.fd, key: low, offsetBytes: lowOffsetBytes, sizeBytes: begin }];
    if (pending !== null) {
      // In the journal it is ciphertext in any case.
      const key = direction === 'toHigh' ? high : (low ?? high);
      regions.push({ fd: journal!.file.fd, key, offsetBytes: journal!.slotOffsets(partBytes)[pending.slot], sizeBytes: end - begin });
    }
    regions.push({ fd: image.fd, key: high, offsetBytes: highOffsetBytes + end, sizeBytes: dataBytes - end });
    return native.deviceOpen({ regions: regions.filter(({ sizeBytes }) => sizeBytes > 0), sectorBytes, writable, sparse });
  }
}
