/**
 * A volume and its detached header are two files, and no rename replaces two at once. The new header with the old volume would decrypt to
 * noise without a word. So a run that is about to put both in their places says so first, in a file `.HEADER.pair` beside the header, which
 * it holds locked: whoever opens the pair knows then whether the two belong together, whenever the run was killed.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, realpath, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import * as z from 'zod';
import { syncDirectory } from '../directories.js';
import { namingPath, VolsealError } from '../errors.js';
import { native } from '../native.js';
import { parseStrictJson } from '../strict-json.js';
import { takeBack } from './atomic-file.js';
import { holdOwnFile, partialPath } from './partial-file.js';
import { checkTarget, ifThere } from './resolve-target.js';
import type { TargetFile } from './target.js';
import { backupPath, isTemporaryName } from './temporary-files.js';

const fileSchema = z.object({
  /** Of the new file, wherever it is by now. */
  dev: z.string(),
  ino: z.string(),
  /** Its name beside its place, before it gets there. */
  temporary: z.string(),
  /** Free of symbolic links. */
  place: z.string(),
});
const recordSchema = z.object({ header: fileSchema, volume: fileSchema });
type NewFile = z.infer<typeof fileSchema>;
type PairRecord = z.infer<typeof recordSchema>;

const markPath = (headerPlace: string): string => join(dirname(headerPlace), `.${basename(headerPlace)}.pair`);

/** What a run that is about to replace a pair holds. */
export interface PairMark {
  /** Removes the mark, unless the new header stands there without its volume. Never throws. */
  release(): Promise<void>;
}

/**
 * Says that `header` and `volume` are about to get their places. On the disk when this returns, where `fsync` asks for that.
 * @throws {VolsealError} `ERR_STATE_BUSY` another run is about to replace the same header; `ERR_IO`
 */
export async function markPair(header: TargetFile, volume: TargetFile, fsync: boolean): Promise<PairMark> {
  const path = markPath(header.place.path);
  const file = await holdMark(path, constants.O_CREAT);
  const record: PairRecord = { header: await newFile(header), volume: await newFile(volume) };
  try {
    await namingPath(path, async () => {
      await file.truncate(0);
      await file.write(JSON.stringify(record), 0);
      if (fsync) await file.sync();
    });
    if (fsync) await syncDirectory(dirname(path));
  } catch (error) {
    await unlink(path).catch(() => {});
    await file.close();
    throw error;
  }
  return {
    async release() {
      const isHalf = await stands(record.header)
        .then(async (headerStands) => headerStands && !(await stands(record.volume)))
        .catch(() => true);
      if (!isHalf) await unlink(path).catch(() => {});
      await file.close().catch(() => {});
    },
  };
}

const holdMark = (path: string, create: number): Promise<FileHandle> =>
  holdOwnFile(
    path,
    create,
    (why) => new VolsealError('ERR_IO', `${path}: cannot say in it that a pair is replaced: ${why}; remove it`, { details: { path } }),
  );

async function newFile({ file, openPath, place }: TargetFile): Promise<NewFile> {
  const { dev, ino } = await namingPath(openPath, () => file.stat({ bigint: true }));
  return { dev: `${dev}`, ino: `${ino}`, temporary: basename(openPath), place: place.path };
}

/** Whether the new file is in its place. @throws {VolsealError} `ERR_IO` */
async function stands(file: NewFile): Promise<boolean> {
  const found = await ifThere(file.place, () => stat(file.place, { bigint: true }));
  return found !== undefined && isSame(found, file);
}

const isSame = ({ dev, ino }: { dev: bigint; ino: bigint }, file: NewFile): boolean => `${dev}` === file.dev && `${ino}` === file.ino;

/**
 * Refuses a volume with the header of its successor.
 * @throws {VolsealError} `ERR_STATE_INTERRUPTED`, with what there is to choose from in `details`; `ERR_STATE_BUSY` while the run is at work; `ERR_IO`
 */
export async function refuseHalfReplaced(header: FileHandle, headerPath: string, path: string): Promise<void> {
  const place = await namingPath(headerPath, () => realpath(headerPath));
  const mark = markPath(place);
  if ((await ifThere(mark, () => lstat(mark))) === undefined) return;
  await using file = await namingPath(mark, () => open(mark, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK));
  const record = await readRecord(file, mark, place);
  if (record === undefined || !isSame(await header.stat({ bigint: true }), record.header) || (await stands(record.volume))) return;
  try {
    native.fileLock(file.fd, false);
  } catch (error) {
    throw new VolsealError('ERR_STATE_BUSY', `${headerPath}: is being replaced, and ${path} with it; try again`, {
      cause: error,
      details: { path: headerPath },
    });
  }
  throw await halfReplaced(record, headerPath, path);
}

async function halfReplaced({ header, volume }: PairRecord, headerPath: string, path: string): Promise<VolsealError> {
  const [backup, successor] = await Promise.all([pathIfThere(backupPath(temporaryOf(header))), pathIfThere(temporaryOf(volume))]);
  const resumable = temporaryOf(volume) === partialPath(volume.place);
  return new VolsealError(
    'ERR_STATE_INTERRUPTED',
    `${headerPath}: a run that was to replace it, and the volume with it, was killed when it had replaced this header alone: it is not that of ${path}`,
    { details: { path, header: header.place, volume: volume.place, backup, successor, resumable } },
  );
}

const temporaryOf = ({ place, temporary }: NewFile): string => join(dirname(place), temporary);

const pathIfThere = async (path: string): Promise<string | null> => ((await ifThere(path, () => lstat(path))) === undefined ? null : path);

/**
 * Undoes what a killed run left half done: a new header that stands there without its volume gets its temporary name back, and what it replaced
 * its place. For who is about to replace the pair. @throws {VolsealError} `ERR_STATE_BUSY` a run is at work on it; `ERR_IO`; as `checkTarget`
 */
export async function settlePair(headerPath: string): Promise<void> {
  const { path: place } = await checkTarget(headerPath, { force: true });
  const mark = markPath(place);
  if ((await ifThere(mark, () => lstat(mark))) === undefined) return;
  await using file = await holdMark(mark, 0);
  const record = await readRecord(file, mark, place);
  if (record !== undefined) await settle(record);
  await namingPath(mark, () => unlink(mark));
}

async function settle({ header, volume }: PairRecord): Promise<void> {
  const backup = backupPath(temporaryOf(header));
  const [old, now] = [await ifThere(backup, () => lstat(backup)), await ifThere(header.place, () => stat(header.place))];
  await namingPath(header.place, async () => {
    if (!(await stands(header))) {
      // Killed before the header: a second name of what is there. Another header since: what it replaced may be somebody's only one.
      if (old !== undefined && old.ino === now?.ino && old.dev === now.dev) await unlink(backup);
    } else if (await stands(volume)) {
      if (old !== undefined) await unlink(backup);
    } else {
      await takeBack(header.place, temporaryOf(header), old !== undefined);
    }
  });
}

/** Undefined where it is none: its run was killed while it wrote it, and had replaced nothing. @throws {VolsealError} `ERR_IO` */
async function readRecord(file: FileHandle, path: string, headerPlace: string): Promise<PairRecord | undefined> {
  const text = await namingPath(path, () => file.readFile('utf8'));
  const parsed = recordSchema.safeParse(parsedJson(text));
  if (!parsed.success) return undefined;
  const { header, volume } = parsed.data;
  const isOurs = header.place === headerPlace && [header, volume].every(({ temporary, place }) => isTemporaryName(temporary, place));
  return isOurs ? parsed.data : undefined;
}

function parsedJson(text: string): unknown {
  try {
    return parseStrictJson(text);
  } catch {
    return undefined;
  }
}
