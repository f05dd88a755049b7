/**
 * The file that records how far an interrupted job has come: JSON, with a MAC (record-mac.ts).
 *
 * It names files by inode, size and time, not by device: a shared file system has another device number on each
 * machine.
 */
import { constants } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import * as z from 'zod';
import { RESUME_UNIT_BYTES } from '../limits.js';
import { firstIssue } from '../luks2/metadata.js';
import type { KeyHandle } from '../native.js';
import { ifThere, NamedFile } from '../output/named-file.js';
import { cannotResume, findRecord } from '../output/partial-file.js';
import { replaceRecord } from '../output/record-file.js';
import type { TargetFile } from '../output/target.js';
import { removeTemporaryFiles } from '../output/temporary-files.js';
import { parseStrictJson } from '../strict-json.js';
import { isRecordMac, recordMac } from './record-mac.js';

/** Contexts and paths of a job take a few KiB. */
const CHECKPOINT_BYTES_MAX = 64 * 1024;

const digits = z.string().regex(/^\d{0,20}$/, 'is not a number as a string');

/** Which file a source is, and in which state (source-watch.ts). */
export const sourceSchema = z.strictObject({
  kind: z.enum(['file', 'device']),
  ino: digits,
  sizeBytes: digits,
  mtimeNs: digits,
});

/** The same, of an object or a snapshot as well. */
export const recordedSourceSchema = z.union([
  sourceSchema,
  z.strictObject({ kind: z.literal('stored'), sizeBytes: z.number().int().positive(), state: z.string() }),
]);

const recordSchema = z.strictObject({
  version: z.literal(1),
  kind: z.enum(['encrypt', 'decrypt']),
  volumeId: z.string(),
  uuid: z.string(),
  source: recordedSourceSchema,
  partial: z.strictObject({ ino: digits }),
  sectorBytes: z.number().int().positive(),
  safeBytes: z
    .number()
    .int()
    .positive()
    .refine((bytes) => bytes % RESUME_UNIT_BYTES === 0, `is no multiple of ${RESUME_UNIT_BYTES}`),
  choices: z.record(z.string(), z.string()),
});
const storedSchema = recordSchema.extend({ mac: z.string() });

/** What a later run must find again, and where it continues. */
export type CheckpointRecord = z.infer<typeof recordSchema>;
export type StoredCheckpoint = z.infer<typeof storedSchema>;

/** The partial file that a checkpoint belongs to, by its name in its open directory. */
export type Partial = Pick<TargetFile, 'directory' | 'openPath'>;

/**
 * Reads the checkpoint of a partial file; only `proveCheckpoint` makes it trustworthy. Another user's file is none.
 * @returns undefined where there is none @throws {VolsealError} `ERR_RESUME` it is not readable as one; `ERR_IO`
 */
export async function readCheckpoint(partial: Partial): Promise<StoredCheckpoint | undefined> {
  const { directory, openPath } = partial;
  const { name, isThere } = await findRecord(directory, basename(openPath));
  if (!isThere) return undefined;
  await using file = await NamedFile.openIn(directory, name, constants.O_RDONLY);
  let object: unknown;
  try {
    object = parseStrictJson(await file.readText(CHECKPOINT_BYTES_MAX));
  } catch {
    throw cannotResume(openPath, 'its checkpoint is not JSON');
  }
  const checked = storedSchema.safeParse(object);
  if (!checked.success) throw cannotResume(openPath, `its checkpoint is not valid: ${firstIssue(checked.error)}`);
  return checked.data;
}

/**
 * @param key the volume's; stays the caller's @throws {VolsealError} `ERR_RESUME` somebody without the key wrote it;
 * `ERR_KEY_GONE`
 */
export function proveCheckpoint({ mac, ...record }: StoredCheckpoint, key: KeyHandle, partial: string): void {
  if (isRecordMac(mac, 'checkpoint', record, key)) return;
  throw cannotResume(partial, 'its checkpoint was changed by somebody without the key of the volume (its MAC does not hold)');
}

/**
 * Replaces the last record, which stays until then. What `record` calls safe must be on the disk already.
 * @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
 */
export async function writeCheckpoint(partial: Partial, record: CheckpointRecord, key: KeyHandle): Promise<void> {
  const stored: StoredCheckpoint = { ...record, mac: recordMac('checkpoint', record, key) };
  await replaceRecord(partial.directory, basename(partial.openPath), `${JSON.stringify(stored, undefined, 2)}\n`);
}

/**
 * Removes a checkpoint, and what a killed run left of the next one; a power cut does not bring them back. @throws
 * {VolsealError} `ERR_IO`
 */
export async function removeCheckpoint({
  directory,
  openPath,
  hasEarlierData,
}: Pick<TargetFile, 'hasEarlierData'> & Partial): Promise<void> {
  const { name, isThere } = await findRecord(directory, basename(openPath));
  if (isThere) await ifThere(join(directory.path, name), () => unlink(directory.at(name)));
  // The first record is written after the first data.
  const wereThere = (isThere || hasEarlierData) && (await removeTemporaryFiles(directory, name));
  if (isThere || wereThere) await directory.sync();
}
