/**
 * The journal of a job in place, a file of its own:
 *
 * - from 0 the header area that opens the volume: of `encrypt` the new one, else the one that the volume had;
 * - behind it, 1 MiB for the new header area of `reencrypt`;
 * - behind that, 1 MiB with the last two records, two copies each;
 * - behind that two slots for parts of the image, always encrypted, or where the image keeps its place for their marks.
 *
 * It appears under its name when headers and first record are on the disk, before the image is touched; it is
 * overwritten and removed when the image is what it is to be.
 */
import { constants } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Directory, findEntry } from '../directory-entry.js';
import { namingPath, VolsealError } from '../errors.js';
import { EMBEDDED_DATA_OFFSET_BYTES } from '../limits.js';
import { decodeHeader, type FoundHeader, HEADER_BYTES_MAX } from '../luks2/header.js';
import { headerAreaBytes } from '../luks2/metadata.js';
import type { KeyHandle } from '../native.js';
import { inPlaceJournalName, inTheMiddle, isInPlaceJournalName, unmarkJournal } from '../output/in-place-mark.js';
import { ifThere, NamedFile } from '../output/named-file.js';
import { openOwnFile } from '../output/partial-file.js';
import { temporaryName } from '../output/temporary-files.js';
import { decodeRecord, encodeRecord, type InPlaceRecord, isProved, loggedBytes, RECORD_BYTES, type StoredRecord } from './record.js';

const MIB = 1024 * 1024;
/** Of one record: far enough apart that no sector holds parts of both. */
const COPIES = 2;
const RECORD_PLACES = 2;

/** The headers in a journal: `first` opens the volume and proves the records. */
export interface JournalHeaders {
  readonly first: Buffer;
  /** Of `reencrypt`: the header area of the volume that is made. */
  readonly second?: Buffer | undefined;
}

export class InPlaceJournal {
  readonly file: NamedFile;
  readonly path: string;
  readonly #imagePath: string;
  readonly #directory: Directory;
  readonly #name: string;
  readonly #recordsAt: number;

  private constructor(imagePath: string, directory: Directory, name: string, file: NamedFile, firstBytes: number) {
    this.#imagePath = imagePath;
    this.#directory = directory;
    this.#name = name;
    this.path = join(directory.path, name);
    this.file = file;
    this.#recordsAt = roundUp(firstBytes) + EMBEDDED_DATA_OFFSET_BYTES;
  }

  /**
   * The journal of an image, where a job is in the middle of it.
   * @param path where the caller says that it is; undefined: beside the image
   * @param lock `none` for readers, who hold the lock of the image
   * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_RESUME` (not this user's alone, no header), `ERR_IO`
   */
  static async find(imagePath: string, path: string | undefined, lock: 'always' | 'none'): Promise<InPlaceJournal | undefined> {
    const look = () => targetEntry(imagePath, path);
    // The link beside the image may lead to a directory that is gone.
    const entry = path === undefined ? await ifThere(imagePath, look) : await look();
    if (entry === undefined) return undefined;
    const { directory, name } = entry;
    try {
      const shown = join(directory.path, name);
      if ((await ifThere(shown, () => directory.look(name).then(closed))) === undefined) {
        await directory.close();
        return undefined;
      }
      const file = await openOwnFile(directory, name, 0, lock, (why) => damaged(shown, why));
      try {
        const first = headerIn(await file.read(0, HEADER_BYTES_MAX), shown);
        return new InPlaceJournal(imagePath, directory, name, file, headerAreaBytes(first.header.metadata));
      } catch (error) {
        await file.close();
        throw error;
      }
    } catch (error) {
      await directory.close();
      throw error;
    }
  }

  /**
   * Makes the journal of a job that begins: complete and flushed when it appears under its name.
   * @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
   */
  static async create(
    imagePath: string,
    path: string | undefined,
    headers: JournalHeaders,
    record: InPlaceRecord,
    key: KeyHandle,
  ): Promise<InPlaceJournal> {
    const { directory, name } = await targetEntry(imagePath, path);
    const temporary = temporaryName(name);
    try {
      const file = await NamedFile.openIn(
        directory,
        temporary,
        constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
        join(directory.path, name),
      );
      try {
        file.lock('exclusive');
        const journal = new InPlaceJournal(imagePath, directory, name, file, headers.first.length);
        await file.write(headers.first, 0);
        if (headers.second !== undefined) await file.write(headers.second, roundUp(headers.first.length));
        await journal.write(record, key);
        await file.sync();
        await namingPath(journal.path, () => rename(directory.at(temporary), directory.at(name)));
        await directory.sync();
        return journal;
      } catch (error) {
        await file.close();
        throw error;
      }
    } catch (error) {
      await rm(directory.at(temporary), { force: true }).catch(() => {});
      await directory.close();
      throw error;
    }
  }

  /**
   * Refuses a file that the journal of another name in its directory is of: the file was renamed since, or has several
   * names (hard links). Such an image may say nothing of the job itself.
   * @throws {VolsealError} `ERR_STATE_INTERRUPTED`, `ERR_IO`
   */
  static async refuseOthers(imagePath: string, ino: string): Promise<void> {
    const { directory, name: own } = await targetEntry(imagePath, undefined);
    await using _ = directory;
    for (const name of (await directory.names()).filter((name) => name !== own && isInPlaceJournalName(name))) {
      const path = join(directory.path, name);
      const record = await recordIn(imagePath, path);
      if (record?.image.kind === 'file' && record.image.ino === ino) throw inTheMiddle(imagePath, path, record.kind);
    }
  }

  /** Where the two slots are. */
  slotOffsets(record: Pick<InPlaceRecord, 'partBytes' | 'logged'>): [number, number] {
    const first = this.#recordsAt + MIB;
    return [first, first + loggedBytes(record, record.partBytes)];
  }

  /** The header that opens the volume. @throws {VolsealError} `ERR_RESUME`, `ERR_IO` */
  async firstHeader(): Promise<FoundHeader> {
    return headerIn(await this.file.read(0, HEADER_BYTES_MAX), this.path);
  }

  /** The first area, as it was when the job began. */
  async firstArea(): Promise<Buffer> {
    const { header } = await this.firstHeader();
    return this.file.read(0, headerAreaBytes(header.metadata));
  }

  /** The header area of the volume that `reencrypt` makes. */
  secondArea(): Promise<Buffer> {
    return this.file.read(this.#recordsAt - EMBEDDED_DATA_OFFSET_BYTES, EMBEDDED_DATA_OFFSET_BYTES);
  }

  /** @throws {VolsealError} `ERR_RESUME`, `ERR_IO` */
  async secondHeader(): Promise<FoundHeader> {
    return headerIn(await this.secondArea(), this.path);
  }

  /** The newest record, not proved yet. @throws {VolsealError} `ERR_RESUME` there is none; `ERR_IO` */
  async newest(): Promise<StoredRecord> {
    return newestOf(await this.#records()) ?? raise(damaged(this.path, 'none of its records can be read'));
  }

  /**
   * The newest record that the key proves. @throws {VolsealError} `ERR_RESUME` none does; `ERR_KEY_GONE`, `ERR_IO`
   */
  async proved(key: KeyHandle): Promise<InPlaceRecord> {
    const found = newestOf((await this.#records()).filter((record) => isProved(record, key)));
    if (found === undefined) throw damaged(this.path, 'its records were changed by somebody without the key of the volume (no MAC holds)');
    const { mac: _, ...record } = found;
    return record;
  }

  /**
   * Writes the next record in place of the last but one, both copies. Whatever it says must be on the disk before.
   * @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
   */
  async write(record: InPlaceRecord, key: KeyHandle): Promise<void> {
    const copy = encodeRecord(record, key);
    await this.file.write(Buffer.concat(Array.from({ length: COPIES }, () => copy)), this.#targetEntry(record.sequence));
    await this.file.datasync();
  }

  /**
   * Overwrites the headers, whose keys are wrapped in them, and removes the file, and before it the link beside
   * the image. @throws {VolsealError} `ERR_IO`
   */
  async remove(): Promise<void> {
    await unmarkJournal(this.#imagePath);
    // The name first: a crash between the two must not leave a journal without headers.
    await namingPath(this.path, () => rm(this.#directory.at(this.#name), { force: true }));
    await this.#directory.sync();
    await this.file.change(Buffer.alloc(this.#recordsAt), 0);
    await this.file.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
    await this.#directory.close();
  }

  #targetEntry(sequence: number): number {
    return this.#recordsAt + (sequence % RECORD_PLACES) * COPIES * RECORD_BYTES;
  }

  async #records(): Promise<StoredRecord[]> {
    const area = await this.file.read(this.#recordsAt, RECORD_PLACES * COPIES * RECORD_BYTES);
    const copies = Array.from({ length: area.length / RECORD_BYTES }, (_, index) =>
      decodeRecord(area.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES)),
    );
    return copies.filter((record) => record !== undefined);
  }
}

/** The newest record of any journal; undefined where it cannot be read. */
async function recordIn(imagePath: string, path: string): Promise<StoredRecord | undefined> {
  try {
    await using journal = await InPlaceJournal.find(imagePath, path, 'none');
    return await journal?.newest();
  } catch {
    return undefined;
  }
}

const roundUp = (bytes: number): number => Math.ceil(bytes / MIB) * MIB;

const newestOf = (records: readonly StoredRecord[]): StoredRecord | undefined =>
  [...records].sort((one, other) => other.sequence - one.sequence)[0];

const raise = (error: VolsealError): never => {
  throw error;
};

async function closed(found: Awaited<ReturnType<Directory['look']>>): Promise<true | undefined> {
  await found?.handle.close();
  return found && true;
}

function headerIn(area: Buffer, path: string): FoundHeader {
  try {
    return decodeHeader(area, path);
  } catch (error) {
    throw error instanceof VolsealError ? damaged(path, error.message) : error;
  }
}

/** The directory, the caller's to close, and the name. @throws {VolsealError} `ERR_IO` */
async function targetEntry(imagePath: string, path: string | undefined): Promise<{ directory: Directory; name: string }> {
  const image = path === undefined ? await findEntry(imagePath, 'write') : undefined;
  const beside = image && join(image.directory.path, inPlaceJournalName(image.name));
  await image?.close();
  const entry = await findEntry(path ?? beside!, 'write');
  await entry.found?.handle.close();
  return { directory: entry.directory, name: entry.name };
}

/** The failure of a native call that reads what was taken: `ERR_RESUME` as `damaged`. @param path of the journal */
export const readFailure = (error: unknown, path: string): unknown =>
  error instanceof VolsealError && error.code === 'ERR_RESUME' ? damaged(path, error.message) : error;

/** @param path of the journal */
export function damaged(path: string, why: string): VolsealError {
  return new VolsealError(
    'ERR_RESUME',
    `${path}: the journal of this job cannot be used: ${why}; keep it and the image as they are, and restore both from a backup where there is one`,
    { details: { path, inPlace: true } },
  );
}
