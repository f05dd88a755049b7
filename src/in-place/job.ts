/** What the jobs in place have in common: opening and locking the image, moving it, what is said of a half-done one. */
import { constants } from 'node:fs';
import { rm } from 'node:fs/promises';
import { findEntry } from '../directory-entry.js';
import { asVolsealError, namingPath, VolsealError } from '../errors.js';
import { IN_PLACE_PART_BYTES } from '../limits.js';
import { encodeHeader, type Luks2Header, nextSequence } from '../luks2/header.js';
import { sealHeader } from '../luks2/header-mac.js';
import { withInPlaceRequirement } from '../luks2/metadata.js';
import { writeHeader } from '../luks2/store.js';
import { type KeyHandle, native } from '../native.js';
import { openDataFile } from '../output/data-file.js';
import { type InPlaceKind, inPlaceJournalName, inTheMiddle, markJournal, refuseInPlace } from '../output/in-place-mark.js';
import { ifThere, type NamedFile } from '../output/named-file.js';
import { refuseOtherWriters } from '../output/other-writers.js';
import type { JobOptions } from '../transfer/transform.js';
import { type LockPolicy, lockVolume } from '../volume/volume-file.js';
import type { PoolLease } from '../workers/pool.js';
import { InPlaceJournal, type JournalHeaders } from './journal.js';
import { type Moving, moveAll, settleForWriters } from './parts.js';
import type { InPlaceRecord } from './record.js';

/** Options of every job in place. */
export interface InPlaceOptions extends JobOptions {
  /** The job's journal. Default: `.NAME.in-place` beside the image; a block device has no default. */
  journal?: string | undefined;
  /** Takes an unfinished job back. */
  undo?: boolean | undefined;
  /**
   * Bytes that are moved at once, a multiple of 1 MiB, 256 MiB at most. Default: 32 MiB. A journal holds two parts,
   * or where the data keeps its place a 32nd of them.
   */
  partBytes?: number | undefined;
  /** Called with a warning, one sentence, about something that does not stop the job. */
  onWarning?: ((warning: string) => void) | undefined;
}

/** What a job in place has done. */
export interface InPlaceOutcome {
  /** Path of the image, now a volume or the other way round. */
  path: string;
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** Exact length of the image. */
  imageBytes: number;
  /** Whether it went on where an earlier run had stopped. */
  wasResumed: boolean;
  /** Whether it took an unfinished job back: the file is as it was before that. */
  undone: boolean;
  /** What the data took, without KMS and the program's start. */
  dataSeconds: number;
}

/** The image, open and locked, and the journal where a job is in the middle of it. */
export class OpenImage {
  readonly image: NamedFile;
  readonly isDevice: boolean;
  journal: InPlaceJournal | undefined;
  readonly #journalPath: string | undefined;
  readonly #onWarning: InPlaceOptions['onWarning'];

  private constructor(image: NamedFile, isDevice: boolean, journal: InPlaceJournal | undefined, options: InPlaceOptions) {
    this.image = image;
    this.isDevice = isDevice;
    this.journal = journal;
    this.#journalPath = options.journal;
    this.#onWarning = options.onWarning;
  }

  /**
   * For readers, with a lock that lets no job run.
   * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_RESUME`, `ERR_IO`
   */
  static async openToRead(path: string, journalPath: string | undefined, policy: LockPolicy): Promise<OpenImage> {
    const image = await openDataFile(path, constants.O_RDONLY, { inPlace: true });
    try {
      await lockVolume(image, 'shared', policy);
      const isDevice = (await image.stat()).isBlockDevice();
      const journal = await InPlaceJournal.find(path, journalPath, 'none');
      if (journal === undefined && !isDevice) await refuseOtherJournal(path);
      return new OpenImage(image, isDevice, journal, { journal: journalPath });
    } catch (error) {
      await image.close();
      throw error;
    }
  }

  /**
   * For a job, or to write in the middle of one.
   * @throws {VolsealError} `ERR_STATE_INTERRUPTED` the journal is not where the caller says; `ERR_STATE_BUSY`,
   * `ERR_RESUME`, `ERR_ARGUMENT`, `ERR_IO`
   */
  static async open(path: string, options: InPlaceOptions): Promise<OpenImage> {
    const { journal: journalPath, undo } = options;
    const image = await openDataFile(path, constants.O_RDWR, { inPlace: true });
    try {
      const isDevice = (await image.stat()).isBlockDevice();
      if (isDevice && journalPath === undefined) {
        const message = `${path}: is a block device; name a file outside of it for the journal (--journal)`;
        throw new VolsealError('ERR_ARGUMENT', message, { details: { path } });
      }
      if (journalPath !== undefined && (await image.isAt(journalPath)))
        throw new VolsealError('ERR_ARGUMENT', `${path}: is the image itself; name another file for the journal`, { details: { path } });
      await refuseOtherWriters(image);
      await lockVolume(image, 'exclusive');
      const journal = await InPlaceJournal.find(path, journalPath, 'always');
      if (journal === undefined && !isDevice) {
        await refuseOtherJournal(path);
        await InPlaceJournal.refuseOthers(path, `${(await image.stat()).ino}`);
      }
      if (journal === undefined && undo === true) {
        throw new VolsealError('ERR_ARGUMENT', `${path}: there is no unfinished job in place that could be taken back`, {
          details: { path },
        });
      }
      return new OpenImage(image, isDevice, journal, options);
    } catch (error) {
      await image.close();
      throw error;
    }
  }

  /** @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE` */
  async begin(headers: JournalHeaders, record: InPlaceRecord, key: KeyHandle): Promise<InPlaceJournal> {
    const { path } = this.image;
    this.journal = await InPlaceJournal.create(path, this.#journalPath, headers, record, key).catch((error: unknown) => {
      throw namingRoom(error, path, this.#journalPath ?? inPlaceJournalName(path));
    });
    if (!this.isDevice) await this.#mark(this.journal.path);
    return this.journal;
  }

  /** What a first record says of the file. */
  async describe(): Promise<Pick<InPlaceRecord, 'image' | 'fileBytes'>> {
    const { ino } = await this.image.stat();
    return { image: this.isDevice ? { kind: 'device', ino: '' } : { kind: 'file', ino: `${ino}` }, fileBytes: this.image.sizeBytes() };
  }

  /**
   * Refuses a journal that is of another job or another image.
   * @param kind undefined: any job
   * @throws {VolsealError} `ERR_STATE_INTERRUPTED`, `ERR_RESUME`, `ERR_ARGUMENT`, `ERR_IO`
   */
  async check(record: InPlaceRecord, kind: InPlaceKind | undefined, header: string | undefined): Promise<void> {
    const { path } = this.image;
    if (kind !== undefined && record.kind !== kind) throw inTheMiddle(path, this.journal?.path, record.kind);
    const { image } = await this.describe();
    if (image.kind !== record.image.kind || image.ino !== record.image.ino) {
      const message = `${this.journal?.path}: is the journal of another file than ${path} (inode ${record.image.ino}, not ${image.ino})`;
      throw new VolsealError('ERR_RESUME', message, { details: { path, inPlace: true } });
    }
    if ((header === undefined) !== (record.header === 'embedded')) {
      const what = record.header === 'embedded' ? 'its header goes in front of the data' : 'its header is a file of its own';
      throw new VolsealError('ERR_ARGUMENT', `${path}: the unfinished job has begun otherwise: ${what}`, { details: { path } });
    }
  }

  /** A job goes on without: whoever named the journal can name it again. */
  async #mark(journal: string): Promise<void> {
    const { path } = this.image;
    await markJournal(path, journal).catch((error: unknown) => {
      if (!(error instanceof VolsealError)) throw error;
      this.#onWarning?.(
        `nothing beside ${path} says that its journal is ${journal} (${error.message}): name it with --journal until the job is done`,
      );
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.journal?.[Symbol.asyncDispose]();
    await this.image.close();
  }
}

/**
 * No journal is where the caller or its name says that one would be: none may be anywhere else either.
 * @throws {VolsealError} `ERR_STATE_INTERRUPTED`, `ERR_IO`
 */
async function refuseOtherJournal(path: string): Promise<void> {
  await using entry = await findEntry(path, 'read');
  if (entry.found !== undefined) await refuseInPlace(entry.directory, entry.name, path, entry.found.stats.uid);
}

/** Whether nothing of the image has been moved yet. */
export const isAtStart = ({ kind, frontierBytes, dataBytes, pending }: InPlaceRecord): boolean =>
  pending === null && frontierBytes === (kind === 'decrypt' ? 0 : dataBytes);

/**
 * Whether all of the image is in the low form: then the file may be too short for the high one, before the job or at
 * its end.
 */
const isAllLow = ({ kind, frontierBytes, dataBytes, pending }: InPlaceRecord): boolean =>
  kind !== 'reencrypt' && pending === null && frontierBytes === dataBytes;

/** How much is moved at once. @throws {VolsealError} `ERR_ARGUMENT` */
export function partBytesOf(dataBytes: number, distanceBytes: number, wanted: number = IN_PLACE_PART_BYTES): number {
  const mib = 1024 * 1024;
  if (!Number.isSafeInteger(wanted) || wanted < mib || wanted % mib !== 0 || wanted > 256 * mib)
    throw new VolsealError('ERR_ARGUMENT', `parts of ${wanted} bytes are not a number of MiB, 256 at most`);
  const wholeMib = (bytes: number): number => Math.ceil(bytes / mib) * mib;
  if (distanceBytes > 256 * mib)
    throw new VolsealError('ERR_ARGUMENT', `the data begins at byte ${distanceBytes}; it can be moved by 256 MiB at most`);
  return Math.max(wholeMib(distanceBytes), Math.min(wanted, wholeMib(dataBytes)));
}

/** The keys of a job's two forms, the caller's to wipe. */
export interface FormKeys {
  readonly low: KeyHandle | undefined;
  readonly high: KeyHandle;
  /** That of the journal's first header. */
  readonly proof: KeyHandle;
}

/**
 * Moves all of the image in the wanted direction.
 * @throws {VolsealError} as `moveAll`; the error says that the job can go on. Where nothing was begun and there is no
 * room for it, the file is as it was, and the journal is gone.
 */
export async function moveImage(
  opened: OpenImage,
  pool: PoolLease,
  record: InPlaceRecord,
  keys: FormKeys,
  direction: InPlaceRecord['direction'],
  job: JobOptions,
): Promise<void> {
  const { frontierBytes, dataBytes, highOffsetBytes, pending } = record;
  const isThere = pending === null && frontierBytes === (direction === 'toHigh' ? 0 : dataBytes);
  // Room is set aside before a move: who takes back a job that found none must not need it.
  if (isThere && (isAllLow(record) || opened.image.sizeBytes() >= highOffsetBytes + dataBytes)) return;
  await withMove(opened, pool, record, keys, (moving) => moveAll(moving, record, direction, job));
}

/**
 * Puts what an earlier run has taken into the journal, so that all of the image is in its file, and the journal's parts
 * do not count any more. @returns the last record @throws {VolsealError} as `moveImage`
 */
export async function settleImage(opened: OpenImage, pool: PoolLease, record: InPlaceRecord, keys: FormKeys): Promise<InPlaceRecord> {
  return withMove(opened, pool, record, keys, (moving) => settleForWriters(moving, record));
}

async function withMove<T>(
  opened: OpenImage,
  pool: PoolLease,
  record: InPlaceRecord,
  keys: FormKeys,
  use: (moving: Moving) => Promise<T>,
): Promise<T> {
  const { image } = opened;
  const journal = opened.journal!;
  const neededBytes = record.highOffsetBytes + record.dataBytes;
  try {
    const move = await openMove();
    try {
      return await use({ pool, move, journal, key: keys.proof });
    } finally {
      native.moveClose(move);
    }
  } catch (error) {
    throw unfinished(error, image.path, opened.journal?.path);
  }

  async function openMove() {
    const atStart = isAtStart(record);
    try {
      if (image.sizeBytes() < neededBytes) {
        if (opened.isDevice || !isAllLow(record)) {
          const message = `${image.path}: has ${image.sizeBytes()} bytes, and ${neededBytes} are needed: it was cut off`;
          throw new VolsealError('ERR_VOLUME_SIZE', message, { details: { path: image.path, sizeBytes: image.sizeBytes() } });
        }
        await image.truncate(neededBytes);
      }
      const form = (offsetBytes: number, key: KeyHandle | undefined) => ({ offsetBytes, key });
      const { partBytes, dataBytes: imageBytes, sectorBytes, sparse } = record;
      const options = {
        imageFd: image.fd,
        journalFd: journal.file.fd,
        slotOffsets: journal.slotOffsets(record),
        partBytes,
        imageBytes,
        sectorBytes,
        sparse,
        marks: record.logged === 'marks',
        low: form(record.lowOffsetBytes, keys.low),
        high: form(record.highOffsetBytes, keys.high),
      } as const;
      const move = await pool.run({ kind: 'openMove', options });
      await image.sync();
      return move;
    } catch (thrown) {
      const error = namingRoom(thrown, image.path, journal.path);
      // Of a job that marks the header first, the next run takes back the mark.
      if (!atStart || record.kind !== 'encrypt') throw error;
      if (!opened.isDevice) await image.truncate(record.fileBytes);
      await journal.remove();
      opened.journal = undefined;
      throw error;
    }
  }
}

/** Of a full disk: what lacks the room, with `details.room`. Any other error as it is. */
function namingRoom(thrown: unknown, path: string, journal: string): unknown {
  const error = asVolsealError(thrown);
  if (!(error instanceof VolsealError) || !['ENOSPC', 'EDQUOT'].includes(String(error.details.errno))) return error;
  const message = `${path}: there is no room for this job: its journal (${journal}) holds two parts or their marks, and the file may grow: ${error.message}`;
  return new VolsealError(error.code, message, { cause: error, details: { ...error.details, path, room: 'in place' } });
}

/** The same error, with how the job goes on; as it is where there is no journal any more. */
export function unfinished(thrown: unknown, path: string, journal: string | undefined): unknown {
  const error = asVolsealError(thrown);
  if (!(error instanceof VolsealError) || journal === undefined || error.details.inPlace === true) return error;
  const message = `${error.message}; ${path} is in the middle of the job: the same command goes on, and --undo takes back what was done`;
  return new VolsealError(error.code, message, { cause: error.cause, details: { ...error.details, path, inPlace: true, journal } });
}

/**
 * Marks a header as that of an image in the middle of a job, so that nothing else opens it.
 * @param key of the volume; stays the caller's
 * @throws {VolsealError} `ERR_ARGUMENT` there is no room in it; `ERR_IO`, `ERR_KEY_GONE`
 */
export async function markHeader(headerFile: NamedFile, header: Luks2Header, key: KeyHandle): Promise<void> {
  await writeHeader(headerFile.handle, marked(header, key, headerFile.path), headerFile.path);
}

/** Refuses a header that has no room for the mark, before anything is changed. @throws {VolsealError} `ERR_ARGUMENT` */
export const checkMarkFits = (header: Luks2Header, key: KeyHandle, path: string): void => {
  encodeHeader(marked(header, key, path));
};

function marked(header: Luks2Header, key: KeyHandle, path: string): Luks2Header {
  return sealHeader(key, { ...header, sequence: nextSequence(header), metadata: withInPlaceRequirement(header.metadata) }, path);
}

/** Removes a file where it is there. @throws {VolsealError} `ERR_IO` */
export async function removeIfThere(path: string): Promise<void> {
  await ifThere(path, () => namingPath(path, () => rm(path)));
}
