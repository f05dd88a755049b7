/**
 * The records of attached volumes. Each attached volume has a slot in the runtime directory: four files of one name. A
 * process has the slot while it holds the lock (flock(2)) of its lock file, however that process ends: a pid alone may
 * belong to another process by now.
 */
import { closeSync, constants, fstatSync, lstatSync, readdirSync, renameSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { asVolsealError, VolsealError } from '../errors.js';
import { ATTACHED_LOCK_TRIES, ATTACHED_LOCK_WAIT_MS, ATTACHED_MESSAGE_BYTES_MAX, ATTACHED_PER_VOLUME_MAX } from '../limits.js';
import { native } from '../native.js';
import { openOwnFile, readOwnFile } from '../own-files.js';
import { type AttachmentRecord, attachmentRecord } from './record.js';

/** A name that this process alone has until it releases it or ends. */
export interface Slot {
  /** Where clients connect, unless the user names another path. */
  readonly socketPath: string;
  /** Where other processes of this user give orders. */
  readonly controlPath: string;
  /** Writes the record, or replaces it. @throws {VolsealError} `ERR_IO` */
  publish(record: AttachmentRecord): void;
  /** Removes the files and gives the name back. */
  release(): void;
}

/** A slot that a process holds, with its record. */
export interface LiveSlot {
  readonly record: AttachmentRecord;
  readonly controlPath: string;
}

const LOCK = '.lock';
const SLOT_NAME = /^vol-[0-9a-f]{17}(-[0-9]{1,2})?$/;

/**
 * Takes a slot for a volume: `VOLUME-ID`, or `VOLUME-ID-2` and so on where copies of the volume or other readers are
 * attached. What a killed process has left there is removed.
 * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_IO`
 */
export async function takeSlot(directory: string, volumeId: string): Promise<Slot> {
  for (let number = 1; number <= ATTACHED_PER_VOLUME_MAX; number++) {
    const base = join(directory, number === 1 ? volumeId : `${volumeId}-${number}`);
    const fd = await lockPatiently(base);
    if (fd === undefined) continue;
    try {
      removeFiles(base);
      return slotOf(base, fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }
  throw new VolsealError('ERR_STATE_BUSY', `${volumeId} is attached ${ATTACHED_PER_VOLUME_MAX} times already`, { details: { volumeId } });
}

/**
 * The slots that processes hold. What dead processes have left is removed; `onDead` is told before that.
 * @throws {VolsealError} `ERR_IO`
 */
export async function liveSlots(directory: string, onDead: (record: AttachmentRecord) => Promise<void>): Promise<LiveSlot[]> {
  const live: LiveSlot[] = [];
  for (const name of namesIn(directory)) {
    const base = join(directory, name);
    const fd = lock(base, constants.O_RDWR);
    if (fd === 'gone') continue;
    const record = recordOf(base);
    if (fd === 'busy') {
      // Without a record: it is about to be attached, or detached.
      if (record !== undefined) live.push({ record, controlPath: `${base}.control` });
      continue;
    }
    try {
      if (record !== undefined) await onDead(record);
      removeFiles(base);
      removeFile(base + LOCK);
    } finally {
      closeSync(fd);
    }
  }
  return live;
}

/**
 * Removes the socket of a process that has ended: nobody listens there any more. A socket that somebody listens on
 * stays, and so does whatever is no socket.
 * @throws {VolsealError} `ERR_IO`
 */
export async function removeDeadSocket(path: string): Promise<void> {
  try {
    const stats = lstatSync(path, { throwIfNoEntry: false });
    if (stats?.isSocket() && stats.uid === process.geteuid?.() && (await connectFault(path)) === 'ECONNREFUSED') removeFile(path);
  } catch (error) {
    throw asVolsealError(error, path);
  }
}

/** Why a connection to the socket fails; undefined where it does not. */
function connectFault(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((file) => file.endsWith(LOCK))
      .map((file) => file.slice(0, -LOCK.length))
      .filter((name) => SLOT_NAME.test(name))
      .sort();
  } catch (error) {
    throw asVolsealError(error, directory);
  }
}

/**
 * The descriptor of the lock file, locked; `busy` where another process has it, `gone` where it does not exist (any
 * more).
 */
function lock(base: string, flags: number): number | 'busy' | 'gone' {
  const path = base + LOCK;
  let fd: number | undefined;
  try {
    fd = openOwnFile(path, flags);
    native.fileLock(fd, true);
    // Whoever had the lock before may have removed the file, and a third process made a new one.
    if (fstatSync(fd).ino === statSync(path, { throwIfNoEntry: false })?.ino) return fd;
    closeSync(fd);
    return 'gone';
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'gone';
    if (error instanceof VolsealError && error.code === 'ERR_STATE_BUSY') return 'busy';
    throw asVolsealError(error, path);
  }
}

async function lockPatiently(base: string): Promise<number | undefined> {
  for (let tries = 0; tries < ATTACHED_LOCK_TRIES; tries++) {
    const fd = lock(base, constants.O_RDWR | constants.O_CREAT);
    if (typeof fd === 'number') return fd;
    if (fd === 'busy') await sleep(ATTACHED_LOCK_WAIT_MS);
  }
  return undefined;
}

function slotOf(base: string, fd: number): Slot {
  const record = `${base}.json`;
  const successor = `${record}.new`;
  return {
    socketPath: `${base}.sock`,
    controlPath: `${base}.control`,
    publish(contents) {
      try {
        // By rename, so that nobody reads half of it. It is not flushed: after a power cut there is nothing attached.
        writeFileSync(successor, JSON.stringify(contents), { mode: 0o600 });
        renameSync(successor, record);
      } catch (error) {
        throw asVolsealError(error, record);
      }
    },
    release() {
      removeFiles(base);
      removeFile(base + LOCK);
      closeSync(fd);
    },
  };
}

/** Removes the files of a slot but its lock. @throws {VolsealError} `ERR_IO` */
function removeFiles(base: string): void {
  for (const end of ['json', 'json.new', 'sock', 'control']) removeFile(`${base}.${end}`);
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw asVolsealError(error, path);
  }
}

/** The record of a slot; undefined where there is none that can be read. */
function recordOf(base: string): AttachmentRecord | undefined {
  const bytes = readOwnFile(`${base}.json`, ATTACHED_MESSAGE_BYTES_MAX);
  if (bytes === undefined) return undefined;
  try {
    return attachmentRecord.parse(JSON.parse(bytes.toString('utf8')));
  } catch {
    return undefined; // of another version of volseal
  }
}
