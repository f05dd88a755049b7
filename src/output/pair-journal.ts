/**
 * A volume and its detached header are two files, and no rename replaces two at once. The new header with the old
 * volume would decrypt to noise without an error. So a run that is about to publish both writes that down first, in a
 * file `.HEADER.pair` in the header's directory, which it holds locked. Whoever opens the pair can tell from it whether
 * the two belong together, whenever the run was killed.
 */
import { type BigIntStats, constants } from 'node:fs';
import { lstat, readlink, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import * as z from 'zod';
import { type Directory, directoryOf, pathOfDescriptor } from '../directory-entry.js';
import { namingPath, VolsealError } from '../errors.js';
import { rollbackPublication } from './atomic-file.js';
import { identityOf, ifThere, isSameFile, NamedFile } from './named-file.js';
import { isPartialName, openOwnFile } from './partial-file.js';
import { realPathOf } from './resolve-target.js';
import type { TargetFile } from './target.js';
import { backupPath, isTemporaryName } from './temporary-files.js';

const fileSchema = z.object({
  /**
   * Inode of the new file, under whichever name it is. Its device number is left out: after a power cut, the file
   * system may be mounted from another one.
   */
  ino: z.string(),
  /** Its name in the same directory before it is published. */
  temporary: z.string(),
  /** Its path once it is published, free of symbolic links; in the mark, relative to the header's directory. */
  path: z.string(),
});
/**
 * With the inode of the header that is replaced, where there is one: so nobody's other file is taken for its backup.
 */
const headerSchema = fileSchema.extend({ replaces: z.string().optional() });
const recordSchema = z.object({ header: headerSchema, volume: fileSchema });
type NewFile = z.infer<typeof fileSchema>;
type PairRecord = z.infer<typeof recordSchema>;

/** Two paths of 4 KiB, all of them escaped, and room to spare. */
const MARK_BYTES_MAX = 64 * 1024;

const markName = (headerRealPath: string): string => `.${basename(headerRealPath)}.pair`;

/**
 * Publishes a volume and its detached header: both, or none if one fails.
 * @param fsync whether files and directories are flushed
 * @throws {VolsealError} as `TargetFile.publish`; `ERR_STATE_BUSY` another run is about to replace the same header
 */
export async function publishPair(volume: TargetFile, header: TargetFile, fsync: boolean): Promise<void> {
  // This may take long, and fail: better before one of the two is published.
  await volume.flush();
  // A device is at its path from the beginning.
  const mark = volume.isDevice ? undefined : await PairMark.write(header, volume, fsync);
  try {
    // The header first: without its volume it is useless, and a volume without its header would be lost.
    const publication = await header.publishReversibly();
    try {
      await volume.publish();
    } catch (error) {
      await (volume.isPublished ? publication.commit() : publication.rollback());
      throw error;
    }
    await publication.commit();
  } finally {
    await mark?.release();
  }
}

/** The file that says that a pair is about to be published, locked. */
class PairMark {
  readonly #file: NamedFile;
  /** Where system calls find it. */
  readonly #markPath: string;
  readonly #record: PairRecord;

  private constructor(file: NamedFile, markPath: string, record: PairRecord) {
    this.#file = file;
    this.#markPath = markPath;
    this.#record = record;
  }

  /** On the disk when this returns, where `fsync` asks for that. */
  static async write(header: TargetFile, volume: TargetFile, fsync: boolean): Promise<PairMark> {
    const { directory, realPath } = header;
    const markPath = directory.at(markName(realPath));
    const file = await openMark(directory, markName(realPath), constants.O_CREAT);
    try {
      const replaced = await ifThere(realPath, () => lstat(directory.at(basename(realPath)), { bigint: true }));
      const replaces = replaced && identityOf(replaced).ino;
      const record: PairRecord = { header: { ...(await newFile(header)), replaces }, volume: await newFile(volume) };
      await file.writeText(JSON.stringify(withPaths(record, (to) => relative(dirname(realPath), to))));
      if (fsync) {
        await file.sync();
        await directory.sync();
      }
      return new PairMark(file, markPath, record);
    } catch (error) {
      await unlink(markPath).catch(() => {});
      await file.close();
      throw error;
    }
  }

  /** Removes the mark, unless the new header is published without its volume. Never throws. */
  async release(): Promise<void> {
    const { header, volume } = this.#record;
    const isHalfDone = await isPublished(header)
      .then(async (headerIs) => headerIs && !(await isPublished(volume)))
      .catch(() => true);
    if (!isHalfDone) await unlink(this.#markPath).catch(() => {});
    await this.#file.close();
  }
}

/** To write a mark is safe without locks too; to undo another run's, it must be known to have ended. */
const openMark = (directory: Directory, name: string, create: number): Promise<NamedFile> =>
  openOwnFile(directory, name, create, create === 0 ? 'always' : 'ifPossible', (why) => {
    const path = join(directory.path, name);
    const message = `${path}: cannot record in it that a pair is replaced: ${why}; have it removed, or use a directory of your own`;
    return new VolsealError('ERR_IO', message, { details: { path, errno: 'EPERM', syscall: 'open' } });
  });

async function newFile({ file, openPath, realPath }: TargetFile): Promise<NewFile> {
  return { ino: (await file.identity()).ino, temporary: basename(openPath), path: realPath };
}

const withPaths = ({ header, volume }: PairRecord, convert: (path: string) => string): PairRecord => ({
  header: { ...header, path: convert(header.path) },
  volume: { ...volume, path: convert(volume.path) },
});

/** Whether the new file is at its path. @throws {VolsealError} `ERR_IO` */
async function isPublished(file: NewFile): Promise<boolean> {
  const found = await ifThere(file.path, () => stat(file.path, { bigint: true }));
  return found !== undefined && identityOf(found).ino === file.ino;
}

/**
 * Refuses a new header whose volume is still the old one. The run that replaces a header makes the mark, so a mark of
 * somebody else than the header's owner, the caller and root is none.
 * @throws {VolsealError} `ERR_STATE_INTERRUPTED`, with the choices in `details`; `ERR_STATE_BUSY` while the run is at
 * work; `ERR_IO`
 */
export async function refuseHalfReplaced(header: NamedFile, path: string): Promise<void> {
  const realPath = await namingPath(header.path, () => readlink(pathOfDescriptor(header.fd)));
  const { ino, uid } = await header.stat();
  if (!(await header.isAt(header.path))) {
    throw new VolsealError('ERR_STATE_BUSY', `${header.path}: was replaced while it was being opened; try again`, {
      details: { path: header.path },
    });
  }
  const directory = await ifThere(header.path, () => directoryOf(realPath));
  if (directory === undefined) return;
  await using _ = directory;
  const isOwners = (found: BigIntStats | undefined): boolean => found?.isFile() === true && [uid, CALLER, ROOT].includes(found.uid);
  const mark = directory.at(markName(realPath));
  if (!isOwners(await ifThere(mark, () => lstat(mark, { bigint: true })))) return;
  await using file = await NamedFile.openIn(directory, markName(realPath), constants.O_RDONLY);
  const found = await file.stat();
  if (!isOwners(found) || (found.mode & WRITABLE_FOR_OTHERS) !== 0n) return;
  const record = await readRecord(file, realPath);
  if (record === undefined || `${ino}` !== record.header.ino || (await isPublished(record.volume))) return;
  try {
    // Without locks: whether its run is still at work cannot be told, but that it is half done can.
    file.lockIfPossible('shared');
  } catch (error) {
    if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_BUSY') throw error;
    throw new VolsealError('ERR_STATE_BUSY', `${header.path}: is being replaced, and ${path} with it; try again`, {
      cause: error,
      details: { path: header.path },
    });
  }
  throw await halfReplaced(record, header.path, path);
}

const ROOT = 0n;
const CALLER = BigInt(process.geteuid?.() ?? -1);
const WRITABLE_FOR_OTHERS = 0o022n;

async function halfReplaced({ header, volume }: PairRecord, headerPath: string, path: string): Promise<VolsealError> {
  const pathIfIs = async (file: string, ino: string | undefined): Promise<string | null> => {
    const found = await ifThere(file, () => lstat(file, { bigint: true }));
    return found !== undefined && identityOf(found).ino === ino ? file : null;
  };
  const backup = await pathIfIs(backupPath(temporaryOf(header)), header.replaces);
  const successor = await pathIfIs(temporaryOf(volume), volume.ino);
  const resumable = isPartialName(volume.temporary, basename(volume.path));
  return new VolsealError(
    'ERR_STATE_INTERRUPTED',
    `${headerPath}: the replacement was interrupted: this is the new header, and ${path} is still the old volume`,
    {
      details: { path, header: header.path, volume: volume.path, backup, successor, resumable, replaced: header.replaces !== undefined },
    },
  );
}

const temporaryOf = ({ path, temporary }: NewFile): string => join(dirname(path), temporary);

/**
 * Undoes what a killed run left half done: a new header that was published without its volume gets its temporary name
 * back, and the header that it replaced its path. For a run that is about to replace the pair.
 * @throws {VolsealError} `ERR_STATE_BUSY` a run is at work on it; `ERR_ARGUMENT` the header is a symbolic link to
 * nothing; `ERR_IO`
 */
export async function recoverPair(headerPath: string): Promise<void> {
  const realPath = await realPathOf(headerPath);
  await using directory = await directoryOf(realPath);
  const mark = directory.at(markName(realPath));
  if ((await ifThere(mark, () => lstat(mark))) === undefined) return;
  await using file = await openMark(directory, markName(realPath), 0);
  const record = await readRecord(file, realPath);
  if (record !== undefined) await recover(directory, record);
  await namingPath(file.path, () => unlink(mark));
}

async function recover(directory: Directory, { header, volume }: PairRecord): Promise<void> {
  const [target, temporary] = [directory.at(basename(header.path)), directory.at(header.temporary)];
  const backup = backupPath(temporary);
  const found = await ifThere(backup, () => lstat(backup, { bigint: true }));
  // The run made it as a second name of the header that it replaced; another user's file is not that.
  const old = found !== undefined && identityOf(found).ino === header.replaces ? found : undefined;
  const now = await ifThere(header.path, () => lstat(target, { bigint: true }));
  await namingPath(header.path, async () => {
    if (!(await isPublished(header))) {
      // Killed before the header: the backup is a second name of what is there. If another header is there since, the
      // backup may be somebody's only one.
      if (old !== undefined && now !== undefined && isSameFile(identityOf(old), identityOf(now))) await unlink(backup);
    } else if (await isPublished(volume)) {
      if (old !== undefined) await unlink(backup);
    } else {
      await rollbackPublication(target, temporary, old !== undefined);
    }
  });
}

/**
 * Undefined where the mark is not a record: its run was killed while it wrote it, and had replaced nothing. @throws
 * {VolsealError} `ERR_IO`
 */
async function readRecord(file: NamedFile, headerRealPath: string): Promise<PairRecord | undefined> {
  const parsed = recordSchema.safeParse(parsedJson(await file.readText(MARK_BYTES_MAX)));
  if (!parsed.success) return undefined;
  const record = withPaths(parsed.data, (path) => resolve(dirname(headerRealPath), path));
  const { header, volume } = record;
  const isOurs = header.path === headerRealPath && [header, volume].every(({ temporary, path }) => isTemporaryName(temporary, path));
  return isOurs ? record : undefined;
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
