/**
 * The record of a snapshot that is being made of a volume: `.NAME.snapshot-resume` in the volume's directory, locked
 * while a run is at work. Its first line says which snapshot it is and of what, with a MAC (record-mac.ts); behind it
 * stands how many blocks were sent. That number needs no proof: all blocks are computed again, and EBS compares the
 * digests of all of them at the end. A copy of a volume as it is has no key and so no MAC: nothing secret goes into its
 * snapshot, and only the owner can write the record.
 */
import { constants } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import * as z from 'zod';
import { type Directory, directoryOf } from '../directory-entry.js';
import { namingPath, VolsealError } from '../errors.js';
import { firstIssue } from '../luks2/metadata.js';
import type { KeyHandle } from '../native.js';
import type { NamedFile } from '../output/named-file.js';
import { chooseName, openOwnFile } from '../output/partial-file.js';
import { realPathOf } from '../output/resolve-target.js';
import type { BegunSnapshot } from '../stores/ebs/upload.js';
import { parseStrictJson } from '../strict-json.js';
import { differenceOf, type SourceIdentity } from '../transfer/source-watch.js';
import { sourceSchema } from './checkpoint.js';
import { isRecordMac, recordMac } from './record-mac.js';
import type { VolumeIdentity } from './resume.js';

const ENDING = '.snapshot-resume';
const RECORD_BYTES_MAX = 64 * 1024;
/** The number of blocks, as text of this length. */
const COUNT_CHARS = 16;

const recordSchema = z.strictObject({
  version: z.literal(1),
  snapshotId: z.string().regex(/^snap-(?:[0-9a-f]{8}|[0-9a-f]{17})$/),
  volumeId: z.string(),
  uuid: z.string(),
  source: sourceSchema,
  /** What the caller chose for the snapshot, as canonical JSON. */
  choices: z.string(),
});
const storedSchema = recordSchema.extend({ mac: z.string() });

/** What a later run must find again. */
export interface SnapshotJob extends VolumeIdentity {
  readonly source: SourceIdentity;
  readonly choices: string;
}

/** An open record. Whoever opened it closes it. */
export class SnapshotRecord {
  readonly path: string;
  readonly #directory: Directory;
  readonly #file: NamedFile;
  readonly #name: string;
  #countAt = 0;

  private constructor(directory: Directory, file: NamedFile, name: string) {
    this.path = join(directory.path, name);
    this.#directory = directory;
    this.#file = file;
    this.#name = name;
  }

  /**
   * Opens and locks it, or makes it.
   * @param volume the file with the data
   * @throws {VolsealError} `ERR_STATE_BUSY` another run is at work; `ERR_RESUME` others may write to it; `ERR_IO`
   */
  static async open(volume: NamedFile): Promise<SnapshotRecord> {
    const realPath = await realPathOf(volume.path);
    const directory = await directoryOf(realPath);
    try {
      const name = await chooseName(directory, `.${basename(realPath)}`, ENDING);
      const file = await openOwnFile(directory, name, constants.O_CREAT, 'always', (why) => refused(join(directory.path, name), why));
      return new SnapshotRecord(directory, file, name);
    } catch (error) {
      await directory.close();
      throw error;
    }
  }

  /**
   * The snapshot that an interrupted run has begun; undefined for none.
   * @param key the volume's, undefined for a copy; stays the caller's @throws {VolsealError} `ERR_RESUME`, `ERR_IO`
   */
  async find(job: SnapshotJob, key: KeyHandle | undefined): Promise<BegunSnapshot | undefined> {
    const text = await this.#file.readText(RECORD_BYTES_MAX);
    // A run that was killed before the line was whole has sent nothing.
    const end = text.indexOf('\n');
    if (end === -1) return undefined;
    const { mac, ...record } = this.#parsed(text.slice(0, end));
    if (key !== undefined && !isRecordMac(mac, 'snapshot', record, key))
      throw this.refuse('it was not written by somebody with the key of this volume');
    const difference = differenceOf(record.source, job.source);
    if (difference !== undefined) throw this.refuse(`the volume is not as it was: ${difference}`, record);
    if (record.uuid !== job.uuid) throw this.refuse(`it is of the volume ${record.volumeId}`, record);
    if (record.choices !== job.choices) throw this.refuse(`the snapshot was begun with ${record.choices}`, record);
    this.#countAt = Buffer.byteLength(text.slice(0, end + 1));
    const count = text.slice(end + 1, end + 1 + COUNT_CHARS);
    return { snapshotId: record.snapshotId, sentBlocks: /^\d{16}$/.test(count) ? Number(count) : 0 };
  }

  #parsed(line: string): z.infer<typeof storedSchema> {
    let object: unknown;
    try {
      object = parseStrictJson(line);
    } catch {
      throw this.refuse('it is not JSON');
    }
    const checked = storedSchema.safeParse(object);
    if (!checked.success) throw this.refuse(`it is not valid: ${firstIssue(checked.error)}`);
    return checked.data;
  }

  /** Records a snapshot that has begun; it is on the disk when this returns. @throws {VolsealError} `ERR_IO` */
  async begin(snapshotId: string, { volumeId, uuid, source, choices }: SnapshotJob, key: KeyHandle | undefined): Promise<void> {
    const record = { version: 1 as const, snapshotId, volumeId, uuid, source: { ...source }, choices };
    const line = `${JSON.stringify({ ...record, mac: key === undefined ? '' : recordMac('snapshot', record, key) })}\n`;
    await this.#file.writeText(line);
    await this.#file.sync();
    await this.#directory.sync();
    this.#countAt = Buffer.byteLength(line);
  }

  /** Not flushed: after a power cut more is sent than need be. @throws {VolsealError} `ERR_IO` */
  async save(sentBlocks: number): Promise<void> {
    await this.#file.write(Buffer.from(String(sentBlocks).padStart(COUNT_CHARS, '0')), this.#countAt);
  }

  /** @param why what does not fit */
  refuse(why: string, { snapshotId }: { snapshotId?: string } = {}): VolsealError {
    return refused(this.path, why, snapshotId);
  }

  /** Removes it; the lock ends with `close`. @throws {VolsealError} `ERR_IO` */
  async remove(): Promise<void> {
    await namingPath(this.path, () => rm(this.#directory.at(this.#name), { force: true }));
  }

  /** Removes it where nothing was recorded. Never throws. */
  async close(): Promise<void> {
    if (this.#countAt === 0 && (await this.#file.readText(1).catch(() => 'kept')) === '') await this.remove().catch(() => {});
    await this.#file.close();
    await this.#directory.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

const refused = (path: string, why: string, snapshotId?: string): VolsealError =>
  new VolsealError('ERR_RESUME', `${path}: the interrupted snapshot cannot be resumed: ${why}; remove this file, or run without --resume`, {
    details: { path, snapshotRecord: true, ...(snapshotId === undefined ? {} : { snapshotId }) },
  });
