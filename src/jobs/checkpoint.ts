/**
 * The file that records how far an interrupted job has come: JSON, with an HMAC under a key that is derived from the
 * data key. Without the data key nobody can make a later run leave parts out, or continue with another file.
 */
import { timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import canonicalize from 'canonicalize';
import * as z from 'zod';
import { syncDirectory } from '../directories.js';
import { namingPath, VolsealError } from '../errors.js';
import { RESUME_UNIT_BYTES } from '../limits.js';
import { decodeBase64, firstIssue } from '../luks2/metadata.js';
import { type KeyHandle, native } from '../native.js';
import { NamedFile } from '../output/named-file.js';
import { cannotResume } from '../output/partial-file.js';
import { parseStrictJson } from '../strict-json.js';

const MAC_KEY_LABEL = Buffer.from('volseal checkpoint mac v1');
const MAC_BYTES = 32;
/** Contexts and paths of a job take a few KiB. */
const CHECKPOINT_BYTES_MAX = 64 * 1024;

const digits = z.string().regex(/^\d{0,20}$/, 'is not a number as a string');

const recordSchema = z.strictObject({
  version: z.literal(1),
  kind: z.enum(['encrypt', 'decrypt']),
  volumeId: z.string(),
  uuid: z.string(),
  source: z.strictObject({
    kind: z.enum(['file', 'device']),
    dev: digits,
    ino: digits,
    sizeBytes: digits,
    mtimeNs: digits,
  }),
  partial: z.strictObject({ dev: digits, ino: digits }),
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

/**
 * Reads a checkpoint; only `proveCheckpoint` makes it trustworthy.
 * @param path of the checkpoint @param partial the file it belongs to, for messages
 * @returns undefined where there is none @throws {VolsealError} `ERR_RESUME` it is not readable as one; `ERR_IO`
 */
export async function readCheckpoint(path: string, partial: string): Promise<StoredCheckpoint | undefined> {
  const text = await readShort(path);
  if (text === undefined) return undefined;
  let object: unknown;
  try {
    object = parseStrictJson(text);
  } catch {
    throw cannotResume(partial, 'its checkpoint is not JSON');
  }
  const checked = storedSchema.safeParse(object);
  if (!checked.success) throw cannotResume(partial, `its checkpoint is not valid: ${firstIssue(checked.error)}`);
  return checked.data;
}

async function readShort(path: string): Promise<string | undefined> {
  try {
    await using file = await NamedFile.open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    return await file.readText(CHECKPOINT_BYTES_MAX);
  } catch (error) {
    if (error instanceof VolsealError && error.details.errno === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * @param key the volume's; stays the caller's @throws {VolsealError} `ERR_RESUME` somebody without the key wrote it;
 * `ERR_KEY_GONE`
 */
export function proveCheckpoint({ mac, ...record }: StoredCheckpoint, key: KeyHandle, partial: string): void {
  const stored = decodeBase64(mac);
  if (stored?.length === MAC_BYTES && timingSafeEqual(stored, macOf(record, key))) return;
  throw cannotResume(partial, 'its checkpoint was changed by somebody without the key of the volume (its MAC does not hold)');
}

/**
 * Replaces the last record, which stays until then. What `record` calls safe must be on the disk already.
 * @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
 */
export async function writeCheckpoint(path: string, record: CheckpointRecord, key: KeyHandle): Promise<void> {
  const stored: StoredCheckpoint = { ...record, mac: macOf(record, key).toString('base64') };
  const temporary = temporaryPath(path);
  await removeIfThere(temporary);
  try {
    await using file = await NamedFile.open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, { name: path });
    await file.writeText(`${JSON.stringify(stored, undefined, 2)}\n`);
    await file.sync();
    await namingPath(path, () => rename(temporary, path));
  } catch (error) {
    await removeIfThere(temporary).catch(() => {});
    throw error;
  }
  await syncDirectory(dirname(path));
}

/**
 * Removes a checkpoint, and what a killed run left of the next one; a power cut does not bring them back. @throws
 * {VolsealError} `ERR_IO`
 */
export async function removeCheckpoint(path: string): Promise<void> {
  for (const name of [path, temporaryPath(path)]) await removeIfThere(name);
  await syncDirectory(dirname(path));
}

const temporaryPath = (path: string): string => `${path}.new`;

async function removeIfThere(path: string): Promise<void> {
  await namingPath(path, () => rm(path, { force: true }));
}

function macOf(record: CheckpointRecord, key: KeyHandle): Buffer {
  const macKey = native.keyDerive(key, MAC_KEY_LABEL);
  try {
    return native.keyHmac(macKey, Buffer.from(canonicalize(record)!));
  } finally {
    native.keyWipe(macKey);
  }
}
