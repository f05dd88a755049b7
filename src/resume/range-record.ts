/**
 * The records beside a partial file of ranges that are done: `.NAME.resume.range-3.json`, with a MAC under a key of the
 * data key (record-mac.ts). A record holds if its MAC is that of what the reader expects; what it says is for people.
 * One that does not hold counts for nothing: its range is done again.
 */
import { constants } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import * as z from 'zod';
import type { Directory } from '../directory-entry.js';
import { namingPath } from '../errors.js';
import type { KeyHandle } from '../native.js';
import { NamedFile } from '../output/named-file.js';
import { isOwn } from '../output/partial-file.js';
import { replaceRecord } from '../output/record-file.js';
import { parseStrictJson } from '../strict-json.js';
import type { ImageRange } from '../transfer/image-ranges.js';
import type { RecordedSource } from '../transfer/source-watch.js';
import { isRecordMac, recordMac } from './record-mac.js';

const RECORD_BYTES_MAX = 64 * 1024;

const recordSchema = z.looseObject({ mac: z.string() });

/** Of what a range is done; a record of anything else does not hold. */
export interface RangedVolume {
  readonly volumeId: string;
  /** Of the header: another one has another data key. */
  readonly uuid: string;
  readonly source: RecordedSource;
  readonly partial: { readonly ino: string };
  readonly sectorBytes: number;
  readonly allocation: string;
}

/** The partial file that the records belong to: in its open directory. */
export interface RecordLocation {
  readonly directory: Directory;
  readonly openPath: string;
}

const stemOf = (partial: string, index: number): string => `${partial}.range-${index}`;

const expected = (volume: RangedVolume, { startByte, endByte }: ImageRange): object => ({ version: 1, ...volume, startByte, endByte });

/**
 * Records that a range is on the disk, which must be so already.
 * @param key the volume's; stays the caller's @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
 */
export async function writeRangeRecord(
  { directory, openPath }: RecordLocation,
  volume: RangedVolume,
  range: ImageRange,
  key: KeyHandle,
): Promise<void> {
  const record = expected(volume, range);
  const stored = { ...record, mac: recordMac('range', record, key) };
  await replaceRecord(directory, stemOf(basename(openPath), range.index), `${JSON.stringify(stored, undefined, 2)}\n`);
}

/**
 * The ranges whose records hold.
 * @param key the volume's; stays the caller's @throws {VolsealError} `ERR_IO`, `ERR_KEY_GONE`
 */
export async function rangesDone(
  { directory, openPath }: RecordLocation,
  volume: RangedVolume,
  ranges: readonly ImageRange[],
  key: KeyHandle,
): Promise<Set<number>> {
  const partial = basename(openPath);
  const done = new Set<number>();
  for (const name of await directory.names()) {
    const range = ranges[indexOf(name, partial) ?? -1];
    if (range === undefined || !(await isOwn(directory, name))) continue;
    const mac = await macIn(directory, name);
    if (mac !== undefined && isRecordMac(mac, 'range', expected(volume, range), key)) done.add(range.index);
  }
  return done;
}

/** Undefined for a name that is none of a record of this partial file. */
function indexOf(name: string, partial: string): number | undefined {
  if (!name.startsWith(`${partial}.range-`)) return undefined;
  const [, digits] = /^(0|[1-9]\d{0,8})(?:\.[0-9a-f]{12})?\.json$/.exec(name.slice(`${partial}.range-`.length)) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

async function macIn(directory: Directory, name: string): Promise<string | undefined> {
  await using file = await NamedFile.openIn(directory, name, constants.O_RDONLY);
  const text = await file.readText(RECORD_BYTES_MAX);
  try {
    return recordSchema.safeParse(parseStrictJson(text)).data?.mac;
  } catch {
    return undefined;
  }
}

/** Removes the records, and what killed runs left of others. @throws {VolsealError} `ERR_IO` */
export async function removeRangeRecords({ directory, openPath }: RecordLocation): Promise<void> {
  const partial = basename(openPath);
  const names = (await directory.names()).filter(
    (name) => indexOf(name, partial) !== undefined || (name.startsWith(`.${partial}.range-`) && name.endsWith('.partial')),
  );
  for (const name of names) {
    if (await isOwn(directory, name)) await namingPath(join(directory.path, name), () => rm(directory.at(name), { force: true }));
  }
  if (names.length > 0) await directory.sync();
}
