/**
 * Who works on a target: `.NAME.claim` in its directory. The last one who claims it may publish; an earlier one, that
 * was stopped and wakes up, finds another holder there and ends.
 *
 * The claim does not keep two workers from the same bytes: the lock of the partial file does that, and where a lock was
 * lost, both write the same ciphertext, because the key was claimed before the first byte (src/jobs/resume.ts).
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import * as z from 'zod';
import { namingPath, VolsealError } from '../errors.js';
import { NamedFile } from '../output/named-file.js';
import { chooseName, isOwn } from '../output/partial-file.js';
import { realPathOf } from '../output/resolve-target.js';
import { removeStaleFiles, temporaryName } from '../output/temporary-files.js';
import { type Directory, directoryOf } from '../place.js';
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
 * Claims the file at `target` for a job, from whoever held it.
 * @throws {VolsealError} `ERR_IO`
 */
export async function claimTarget(target: string, jobId: string, worker: string): Promise<Claim> {
  const realPath = await realPathOf(target);
  const directory = await directoryOf(realPath);
  try {
    const name = await chooseName(directory, `.${basename(realPath)}`, '.claim');
    await removeStaleFiles(directory, name);
    const epoch = ((await readClaim(directory, name))?.epoch ?? 0) + 1;
    const record: ClaimRecord = {
      version: 1,
      jobId,
      epoch,
      holder: randomBytes(16).toString('hex'),
      worker,
      since: new Date().toISOString(),
    };
    await writeClaim(directory, name, record);
    return new HeldClaim(target, directory, name, record);
  } catch (error) {
    await directory.close();
    throw error;
  }
}

class HeldClaim implements Claim {
  readonly epoch: number;
  readonly #target: string;
  readonly #directory: Directory;
  readonly #name: string;
  readonly #holder: string;

  constructor(target: string, directory: Directory, name: string, { epoch, holder }: ClaimRecord) {
    this.epoch = epoch;
    this.#target = target;
    this.#directory = directory;
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
    if (isMine) await rm(this.#directory.at(this.#name), { force: true }).catch(() => {});
    await this.#directory.close();
  }
}

/** What is no claim of this user's counts for nothing. */
async function readClaim(directory: Directory, name: string): Promise<ClaimRecord | undefined> {
  if (!(await isOwn(directory, name))) return undefined;
  try {
    await using file = await NamedFile.openIn(directory, name, constants.O_RDONLY);
    const checked = claimSchema.safeParse(parseStrictJson(await file.readText(CLAIM_BYTES_MAX)));
    return checked.data;
  } catch (error) {
    // Removed in the meantime, or not a claim.
    if (error instanceof SyntaxError || (error instanceof VolsealError && error.details.errno === 'ENOENT')) return undefined;
    throw error;
  }
}

async function writeClaim(directory: Directory, name: string, record: ClaimRecord): Promise<void> {
  const temporary = temporaryName(name);
  try {
    await using file = await NamedFile.openIn(directory, temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
    await file.writeText(`${JSON.stringify(record)}\n`);
    await file.sync();
    await namingPath(join(directory.path, name), () => rename(directory.at(temporary), directory.at(name)));
  } catch (error) {
    await rm(directory.at(temporary), { force: true }).catch(() => {});
    throw error;
  }
  await directory.sync();
}
