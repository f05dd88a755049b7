/**
 * Who works on a target: `.NAME.claim` in its directory, locked while the worker lives. The last one who claims it may
 * publish; an earlier one, that was stopped, lost its lock (the lease of a file server ends) and wakes up, finds
 * another holder there and ends.
 *
 * Until it ends, both may write to the partial file. That does no harm: they write the same bytes, because the key was
 * in its header before the first of them (src/resume/resume.ts).
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { statfs, unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import type { Directory } from '../directory-entry.js';
import { namingPath, VolsealError } from '../errors.js';
import { NamedFile } from '../output/named-file.js';
import { chooseName, isOwn, openOwnFile } from '../output/partial-file.js';
import { targetEntry } from '../output/resolve-target.js';
import { parseStrictJson } from '../strict-json.js';

const CLAIM_BYTES_MAX = 4096;

const claimSchema = z.strictObject({
  version: z.literal(1),
  jobId: z.string(),
  /** Counts the claims of this target since its record was last removed. */
  epoch: z.number().int().positive(),
  /** Random: whose claim it is. */
  holder: z.string(),
  /** For people. */
  worker: z.string(),
  since: z.string(),
});
type ClaimRecord = z.infer<typeof claimSchema>;

/** A claim that was taken. */
export interface Claim {
  readonly epoch: number;
  /** @throws {VolsealError} `ERR_STATE_BUSY` another worker has taken over; `ERR_IO` */
  check(): Promise<void>;
  /** Removes the record, if it is still this claim's. Never throws. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** A name for this process, for people. */
export const workerName = (): string => `${hostname()}:${process.pid}`;

/**
 * Claims the file at `target` for a job, from a worker that has died or lost its lock.
 * @throws {VolsealError} `ERR_STATE_BUSY` a living worker holds it; `ERR_RESUME` the record is not this user's alone;
 * `ERR_IO`
 */
export async function claimTarget(target: string, jobId: string, worker: string): Promise<Claim> {
  const { directory, name: targetName, found } = await targetEntry(target);
  try {
    await found?.handle.close();
    const name = await chooseName(directory, `.${targetName}`, '.claim');
    // Without locks the last one who writes the record has the claim.
    const file = await openOwnFile(directory, name, constants.O_CREAT, 'ifPossible', (why) => notOwn(join(directory.path, name), why));
    try {
      const epoch = ((await parseClaim(file))?.epoch ?? 0) + 1;
      const holder = randomBytes(16).toString('hex');
      const record: ClaimRecord = { version: 1, jobId, epoch, holder, worker, since: new Date().toISOString() };
      await file.writeText(`${JSON.stringify(record)}\n`);
      // For readers on other machines. After a power cut nobody works on the target, and the claim may be gone.
      if (!(await isOfOneMachine(directory))) await file.sync();
      return new HeldClaim(target, directory, file, name, record);
    } catch (error) {
      await file.close();
      throw error;
    }
  } catch (error) {
    await directory.close();
    throw error;
  }
}

/** Types of statfs(2) of file systems that no other machine writes to: ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs. */
const TYPES_OF_ONE_MACHINE = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630]);

/** Whether everybody who can read a file of the directory sees at once what is written to it here. */
const isOfOneMachine = async (directory: Directory): Promise<boolean> =>
  TYPES_OF_ONE_MACHINE.has((await namingPath(directory.path, () => statfs(directory.at('.')))).type);

const notOwn = (path: string, why: string): VolsealError =>
  new VolsealError('ERR_RESUME', `${path}: the claim of a job cannot be taken: ${why}; remove it`, { details: { path } });

class HeldClaim implements Claim {
  readonly epoch: number;
  readonly #target: string;
  readonly #directory: Directory;
  /** Open: it holds the lock. */
  readonly #file: NamedFile;
  readonly #name: string;
  readonly #holder: string;

  constructor(target: string, directory: Directory, file: NamedFile, name: string, { epoch, holder }: ClaimRecord) {
    this.epoch = epoch;
    this.#target = target;
    this.#directory = directory;
    this.#file = file;
    this.#name = name;
    this.#holder = holder;
  }

  async check(): Promise<void> {
    const now = await readClaim(this.#directory, this.#name);
    if (now?.holder === this.#holder) return;
    const who = now === undefined ? 'its claim is gone: another worker has ended the job' : `${now.worker} has it since ${now.since}`;
    throw new VolsealError('ERR_STATE_BUSY', `${this.#target}: another worker has taken this job over: ${who}`, {
      details: { path: this.#target },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const isMine = await this.check().then(
      () => true,
      () => false,
    );
    if (isMine) await unlink(this.#directory.at(this.#name)).catch(() => {});
    await this.#file.close();
    await this.#directory.close();
  }
}

/** What is no claim of this user's counts for nothing. */
async function readClaim(directory: Directory, name: string): Promise<ClaimRecord | undefined> {
  if (!(await isOwn(directory, name))) return undefined;
  try {
    await using file = await NamedFile.openIn(directory, name, constants.O_RDONLY);
    return await parseClaim(file);
  } catch (error) {
    if (error instanceof VolsealError && error.details.errno === 'ENOENT') return undefined;
    throw error;
  }
}

/** Undefined for an empty record, or one that a power cut has spoiled. */
async function parseClaim(file: NamedFile): Promise<ClaimRecord | undefined> {
  const text = await file.readText(CLAIM_BYTES_MAX);
  try {
    return claimSchema.safeParse(parseStrictJson(text)).data;
  } catch {
    return undefined;
  }
}
