/**
 * Where a path leads, found one component after another through open directories (O_PATH, O_NOFOLLOW). The kernel
 * follows no link on the way: each is judged here by who made it, and then followed as it was judged. What is done
 * through a `Directory` happens in that very directory, whatever its path leads to by then. So nobody can exchange a
 * name between a check and what it was made for.
 */
import { type BigIntStats, closeSync, constants, fstat, fstatSync, open as openDescriptor, openSync, readlinkSync } from 'node:fs';
import { open, readdir, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { namingPath, VolsealError } from './errors.js';
import { native } from './native.js';

/**
 * Which links are followed. `write`: those that the caller or root made: another user would choose what is overwritten.
 * `read`: also other users', but not in a directory where anybody may make links, as the kernel's protected_symlinks
 * has it (proc_sys_fs(5)). `none`: none.
 */
export type LinkRule = 'write' | 'read' | 'none';

/** Linux's own limit (path_resolution(7)). */
const LINKS_MAX = 40;
/** Node does not name it: 010000000 on every architecture that volseal supports. */
const O_PATH = 0o10000000;
/** PROC_SUPER_MAGIC of statfs(2). Its links to open files lead there without a path. */
const PROC_TYPE = 0x9fa0;
/** Of a directory's mode: everybody may make files in it. */
export const WRITABLE_FOR_ALL = 0o002n;
/** By its group as well; an access control list that lets others write shows there too (acl(5)). */
const WRITABLE_FOR_OTHERS = 0o022n;

/** The path of an open file of this process that opens it again, or that begins a path in it. */
export const pathOfDescriptor = (fd: number): string => `/proc/self/fd/${fd}`;

/**
 * An O_PATH descriptor; whoever holds it closes it. Opening one may wait for a file server; what is asked of it right
 * afterwards is in the kernel already, and it has nothing to flush when it is closed. So only the opening is left to
 * another thread: each of the others would cost a small job more than the call itself.
 */
export class PathHandle {
  readonly fd: number;
  #isOpen = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** A second call does nothing. Never throws. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.fd);
  }
}

/** What was found at a name: held by an O_PATH descriptor, so that it stays what it is. */
export interface Found {
  readonly handle: PathHandle;
  readonly stats: BigIntStats;
}

const openAway = promisify(openDescriptor);
const openPath = async (path: string, flags: number): Promise<PathHandle> => new PathHandle(await openAway(path, O_PATH | flags));

/** An open directory. Whoever holds it closes it. */
export class Directory {
  /** Free of symbolic links, as it was when the directory was opened. */
  readonly path: string;
  /** Whether nobody but this user and root could make names in it when it was opened. */
  readonly isPrivate: boolean;
  readonly #handle: PathHandle;

  private constructor(handle: PathHandle, path: string, { uid, mode }: BigIntStats) {
    this.#handle = handle;
    this.path = path;
    this.isPrivate = isTrusted(uid) && (mode & WRITABLE_FOR_OTHERS) === 0n;
  }

  /**
   * Opens a directory by its real path: no component may be a link any more.
   * @throws {VolsealError} `ERR_IO`
   */
  static async open(realPath: string): Promise<Directory> {
    const { directory, found } = await findEntry(`${realPath}/.`, 'none');
    await found?.handle.close();
    return directory;
  }

  /** Takes over the handle. */
  static async of(handle: PathHandle): Promise<Directory> {
    try {
      return new Directory(handle, readlinkSync(pathOfDescriptor(handle.fd)), fstatSync(handle.fd, { bigint: true }));
    } catch (cause) {
      await handle.close();
      throw new VolsealError('ERR_IO', '/proc is not mounted here, and volseal reaches the files of a directory through it', {
        cause,
        details: { errno: 'ENOENT', syscall: 'readlink', path: '/proc' },
      });
    }
  }

  /**
   * A path to `name` in this directory, for system calls: it does not depend on where the directory's own path leads.
   */
  at(name: string): string {
    return `${pathOfDescriptor(this.#handle.fd)}/${name}`;
  }

  /** The names in it. @throws {VolsealError} `ERR_IO` */
  names(): Promise<string[]> {
    return namingPath(this.path, () => readdir(this.at('.')));
  }

  /**
   * A name that was made, changed or removed in it lasts once this has returned (fsync). @throws {VolsealError}
   * `ERR_IO`
   */
  sync(): Promise<void> {
    return namingPath(this.path, async () => {
      await using directory = await open(this.at('.'), constants.O_RDONLY | constants.O_DIRECTORY);
      await directory.sync();
    });
  }

  stats(): Promise<BigIntStats> {
    return promisify(fstat)(this.#handle.fd, { bigint: true });
  }

  /** What is at `name`, a link itself unless `follows`; undefined where nothing is. Node's own errors. */
  async look(name: string, follows = false): Promise<Found | undefined> {
    const handle = await openPath(this.at(name), follows ? 0 : constants.O_NOFOLLOW).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    if (handle === undefined) return undefined;
    try {
      return { handle, stats: fstatSync(handle.fd, { bigint: true }) };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Never throws. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A name in an open directory, and what is there. Whoever holds it closes it. */
export class DirectoryEntry {
  readonly directory: Directory;
  readonly name: string;
  /** Undefined where nothing is. Never a link, but for an open file in /proc. */
  readonly found: Found | undefined;

  constructor(directory: Directory, name: string, found: Found | undefined) {
    this.directory = directory;
    this.name = name;
    this.found = found;
  }

  /** Free of symbolic links. */
  get realPath(): string {
    return join(this.directory.path, this.name);
  }

  /** Never throws. */
  async close(): Promise<void> {
    await this.found?.handle.close();
    await this.directory.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Finds where `path` leads.
 * @returns the caller's to close @throws {VolsealError} `ERR_IO`: also a link that `rule` forbids (`EPERM`), a missing
 * directory
 */
export async function findEntry(path: string, rule: LinkRule): Promise<DirectoryEntry> {
  return namingPath(path, () => walk(path, rule));
}

async function walk(path: string, rule: LinkRule): Promise<DirectoryEntry> {
  if (path === '') throw systemFailure('ENOENT', 'an empty path leads nowhere', path);
  const parts = partsOf(path);
  let directory = await begin(path);
  const enter = async (next: Directory): Promise<void> => {
    await directory.close();
    directory = next;
  };
  try {
    for (let linkCount = 0; ; ) {
      const name = parts.shift() ?? '.';
      const found = await directory.look(name);
      if (found === undefined) {
        if (parts.length === 0) return new DirectoryEntry(directory, name, undefined);
        throw systemFailure('ENOENT', `there is no ${join(directory.path, name)}`, path);
      }
      if (!found.stats.isSymbolicLink()) {
        if (parts.length === 0) return new DirectoryEntry(directory, name, found);
        await enter(await Directory.of(await asDirectory(found, join(directory.path, name), path)));
        continue;
      }
      try {
        if (++linkCount > LINKS_MAX) throw systemFailure('ELOOP', 'ELOOP: too many symbolic links', path);
        const target = await followed(directory, name, found, rule, path);
        if (target === undefined) {
          const open = (await directory.look(name, true))!;
          if (parts.length === 0) return new DirectoryEntry(directory, name, open);
          await enter(await Directory.of(await asDirectory(open, join(directory.path, name), path)));
        } else {
          parts.unshift(...partsOf(target));
          if (target.startsWith('/')) await enter(await begin('/'));
        }
      } finally {
        await found.handle.close();
      }
    }
  } catch (error) {
    await directory.close();
    throw error;
  }
}

const begin = async (path: string): Promise<Directory> =>
  Directory.of(path.startsWith('/') ? new PathHandle(openSync('/', O_PATH)) : await openPath('.', 0));

/** A slash at the end asks for a directory. */
function partsOf(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  return path.endsWith('/') || path.endsWith('/.') || parts.length === 0 ? [...parts, '.'] : parts;
}

async function asDirectory({ handle, stats }: Found, at: string, path: string): Promise<PathHandle> {
  if (stats.isDirectory()) return handle;
  await handle.close();
  throw systemFailure('ENOTDIR', `${at} is not a directory`, path);
}

/** What the link leads to, where `rule` lets it be followed; undefined for an open file of /proc that has no path. */
async function followed(
  directory: Directory,
  name: string,
  { handle, stats }: Found,
  rule: LinkRule,
  path: string,
): Promise<string | undefined> {
  const at = join(directory.path, name);
  if (rule === 'none') throw systemFailure('ELOOP', `${at} has become a symbolic link`, path);
  const target = native.fileLinkTarget(handle.fd);
  if ((await statfs(directory.at('.'))).type === PROC_TYPE) {
    const [named, open] = await Promise.all([stat(target).catch(() => undefined), stat(directory.at(name))]);
    return target.startsWith('/') && named?.dev === open.dev && named.ino === open.ino ? target : undefined;
  }
  if (isTrusted(stats.uid) || (rule === 'read' && !isForAll(await directory.stats(), stats))) return target;
  throw new VolsealError(
    'ERR_IO',
    `${path}: ${at === path ? 'is' : `${at} is`} a symbolic link of another user (uid ${stats.uid}), who could lead it anywhere; name the file itself that you mean`,
    { details: { errno: 'EPERM', syscall: 'open', path, link: at } },
  );
}

/** Whether an owner `uid` is this user or root. */
const isTrusted = (uid: bigint): boolean => uid === 0n || uid === BigInt(process.geteuid?.() ?? -1);

const isForAll = (directory: BigIntStats, link: BigIntStats): boolean =>
  (directory.mode & WRITABLE_FOR_ALL) !== 0n && directory.uid !== link.uid;

/** As Node's own: `namingPath` names the path. */
function systemFailure(code: string, what: string, path: string): Error {
  const message = what.startsWith(code) ? what : `${code}: ${what}`;
  return Object.assign(new Error(message), { code, syscall: 'open', path });
}

/** Opens the directory of a real path. @throws {VolsealError} `ERR_IO` */
export const directoryOf = (realPath: string): Promise<Directory> => Directory.open(dirname(realPath));
